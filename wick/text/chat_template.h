// From messages to the prompt text that a model was trained on.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace wick {

struct ChatMessage {
  std::string role;     // "system", "user", "assistant"
  std::string content;
};

class ChatTemplate {
 public:
  virtual ~ChatTemplate() = default;
  // The text, with special tokens spelled out (encode it with parse_special). Ends where the assistant's answer begins when `add_generation_prompt`.
  // Error(kInvalidArgument) for messages that the template cannot express.
  virtual std::string render(const std::vector<ChatMessage>& messages, bool add_generation_prompt = true) const = 0;
};

// From the template source in a model file. Throws Error(kUnsupported) for a source that wick does not understand; the message
// says so and asks for --raw.
std::unique_ptr<ChatTemplate> make_chat_template(std::string_view source, std::string_view bos_token, std::string_view eos_token);

}  // namespace wick
