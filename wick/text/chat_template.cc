#include "wick/text/chat_template.h"

#include <optional>
#include <utility>

#include "wick/base/error.h"
#include "wick/text/template_form.h"
#include "wick/text/utf8.h"

namespace wick {
namespace {

constexpr std::string_view kHole = "@SYSTEM@";

// ---- ChatML: SmolLM, Qwen, Yi, many fine-tunes ----

constexpr const char* kChatMl[] = {
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
    "{% if not add_generation_prompt is defined %}{% set add_generation_prompt = false %}{% endif %}"
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
};

// With a system message of its own, where the messages begin with another role.
constexpr const char* kChatMlWithSystem[] = {
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\n@SYSTEM@<|im_end|>\n' }}{% endif %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
};

class ChatMl final : public ChatTemplate {
 public:
  explicit ChatMl(std::optional<std::string> system) : system_(std::move(system)) {}

  std::string render(const std::vector<ChatMessage>& messages, bool add_generation_prompt) const override {
    std::string text;
    if (system_ && !messages.empty() && messages.front().role != "system") append(text, "system", *system_);
    for (const ChatMessage& message : messages) append(text, message.role, message.content);
    if (add_generation_prompt) text += "<|im_start|>assistant\n";
    return text;
  }

 private:
  static void append(std::string& text, std::string_view role, std::string_view content) {
    text.append("<|im_start|>").append(role).append("\n").append(content).append("<|im_end|>\n");
  }

  std::optional<std::string> system_;
};

// ---- Llama 3 ----

constexpr const char* kLlama3 =
    "{% set loop_messages = messages %}{% for message in loop_messages %}"
    "{% set content = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'+ message['content'] | trim + '<|eot_id|>' %}"
    "{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}{{ content }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}";

constexpr const char* kLlama3AlwaysGenerating =  // as first released
    "{% set loop_messages = messages %}{% for message in loop_messages %}"
    "{% set content = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'+ message['content'] | trim + '<|eot_id|>' %}"
    "{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}{{ content }}{% endfor %}"
    "{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}";

// What Python's str.strip() takes away, which is what the filter `trim` does.
bool is_python_space(char32_t c) {
  return (c >= 0x09 && c <= 0x0D) || (c >= 0x1C && c <= 0x20) || c == 0x85 || c == 0xA0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) ||
         c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

std::string_view trim(std::string_view text) {
  size_t begin = 0;
  size_t end = 0;
  bool seen = false;
  for (size_t at = 0; at < text.size();) {
    const Utf8Char c = next_utf8(text, at);
    const bool space = c.status == Utf8Status::kValid && is_python_space(c.code_point);
    if (!space && !seen) begin = at;
    at += c.length;
    if (space) continue;
    seen = true;
    end = at;
  }
  return text.substr(begin, end - begin);
}

class Llama3 final : public ChatTemplate {
 public:
  Llama3(std::string_view bos, bool always_generating) : bos_(bos), always_generating_(always_generating) {}

  std::string render(const std::vector<ChatMessage>& messages, bool add_generation_prompt) const override {
    std::string text;
    if (!messages.empty()) text += bos_;
    for (const ChatMessage& message : messages) append_header(text, message.role).append(trim(message.content)).append("<|eot_id|>");
    if (add_generation_prompt || always_generating_) append_header(text, "assistant");
    return text;
  }

 private:
  static std::string& append_header(std::string& text, std::string_view role) {
    return text.append("<|start_header_id|>").append(role).append("<|end_header_id|>\n\n");
  }

  std::string bos_;
  bool always_generating_;
};

// ---- Zephyr, TinyLlama ----

constexpr const char* kZephyr =
    "{% for message in messages %}\n"
    "{% if message['role'] == 'user' %}\n{{ '<|user|>\n' + message['content'] + eos_token }}\n"
    "{% elif message['role'] == 'system' %}\n{{ '<|system|>\n' + message['content'] + eos_token }}\n"
    "{% elif message['role'] == 'assistant' %}\n{{ '<|assistant|>\n'  + message['content'] + eos_token }}\n{% endif %}\n"
    "{% if loop.last and add_generation_prompt %}\n{{ '<|assistant|>' }}\n{% endif %}\n{% endfor %}";

class Zephyr final : public ChatTemplate {
 public:
  explicit Zephyr(std::string_view eos) : eos_(eos) {}

  std::string render(const std::vector<ChatMessage>& messages, bool add_generation_prompt) const override {
    std::string text;
    for (const ChatMessage& message : messages) {
      require(message.role == "user" || message.role == "system" || message.role == "assistant", "chat template: role \"", message.role,
              "\", expected system, user or assistant");
      text.append("<|").append(message.role).append("|>\n").append(message.content).append(eos_).append("\n");
    }
    if (add_generation_prompt && !messages.empty()) text += "<|assistant|>\n";
    return text;
  }

 private:
  std::string eos_;
};

std::unique_ptr<ChatTemplate> recognise(std::string_view form, std::string_view bos_token, std::string_view eos_token) {
  const auto is = [&](const char* known) { return form == *canonical_template(known); };
  for (const char* known : kChatMl) {
    if (is(known)) return std::make_unique<ChatMl>(std::nullopt);
  }
  for (const char* known : kChatMlWithSystem) {
    if (auto system = match_with_hole(form, *canonical_template(known), kHole)) return std::make_unique<ChatMl>(std::move(system));
  }
  if (is(kLlama3)) return std::make_unique<Llama3>(bos_token, false);
  if (is(kLlama3AlwaysGenerating)) return std::make_unique<Llama3>(bos_token, true);
  if (is(kZephyr)) return std::make_unique<Zephyr>(eos_token);
  return nullptr;
}

}  // namespace

std::unique_ptr<ChatTemplate> make_chat_template(std::string_view source, std::string_view bos_token, std::string_view eos_token) {
  if (const auto form = canonical_template(source)) {
    if (auto known = recognise(*form, bos_token, eos_token)) return known;
  }
  fail(ErrorCode::kUnsupported, "chat template: wick does not understand this model's template (known: ChatML, Llama 3, Zephyr); use --raw with a prompt ",
       "that is written out in full");
}

}  // namespace wick
