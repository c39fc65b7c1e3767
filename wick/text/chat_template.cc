#include "wick/text/chat_template.h"

#include <algorithm>
#include <cctype>

#include "wick/base/error.h"

namespace wick {
namespace {

// <|im_start|>ROLE\nCONTENT<|im_end|>\n, with a system message of the template's own where the first message is not one.
class ChatMl final : public ChatTemplate {
 public:
  explicit ChatMl(std::string default_system) : default_system_(std::move(default_system)) {}

  std::string render(const std::vector<ChatMessage>& messages, bool add_generation_prompt) const override {
    require(!messages.empty(), "chat template: there are no messages");
    std::string text;
    const auto add = [&](const std::string& role, const std::string& content) { text += "<|im_start|>" + role + "\n" + content + "<|im_end|>\n"; };
    if (!default_system_.empty() && messages.front().role != "system") add("system", default_system_);
    for (const ChatMessage& message : messages) add(message.role, message.content);
    if (add_generation_prompt) text += "<|im_start|>assistant\n";
    return text;
  }

 private:
  std::string default_system_;
};

// The source without what may differ between equal templates: whitespace outside of string literals, and quote style.
std::string canonical(std::string_view source) {
  std::string out;
  char quote = 0;
  for (size_t i = 0; i < source.size(); ++i) {
    const char c = source[i];
    if (quote) {
      if (c == '\\' && i + 1 < source.size() && source[i + 1] == 'n') {
        out += '\n';
        ++i;
        continue;
      }
      if (c == quote) quote = 0;
      out += c == '"' ? '\'' : c;
    } else if (c == '\'' || c == '"') {
      quote = c;
      out += '\'';
    } else if (!std::isspace(static_cast<unsigned char>(c)) && c != '-') {
      out += c;
    }
  }
  return out;
}

// Removes `part` at the beginning of `text`.
bool skip(std::string_view& text, std::string_view part) {
  if (text.substr(0, part.size()) != part) return false;
  text.remove_prefix(part.size());
  return true;
}

// The system text between the fixed parts of a ChatML template; the whole template must be accounted for.
std::unique_ptr<ChatTemplate> match_chatml(std::string_view text) {
  std::string system;
  if (!skip(text, "{%formessageinmessages%}")) return nullptr;
  if (skip(text, "{%ifloop.firstandmessages[0]['role']!='system'%}{{'<|im_start|>system\n")) {
    constexpr std::string_view kEnd = "<|im_end|>\n'}}{%endif%}";
    const size_t end = text.find(kEnd);
    if (end == std::string_view::npos) return nullptr;
    system = text.substr(0, end);
    text.remove_prefix(end + kEnd.size());
  }
  constexpr std::string_view kTurns[] = {
      "{{'<|im_start|>'+message['role']+'\n'+message['content']+'<|im_end|>'+'\n'}}{%endfor%}",
      "{{'<|im_start|>'+message['role']+'\n'+message['content']+'<|im_end|>\n'}}{%endfor%}",
      "{{('<|im_start|>'+message['role']+'\n'+message['content']+'<|im_end|>'+'\n')}}{%endfor%}",
  };
  if (std::none_of(std::begin(kTurns), std::end(kTurns), [&](std::string_view turn) { return skip(text, turn); })) return nullptr;
  if (text != "{%ifadd_generation_prompt%}{{'<|im_start|>assistant\n'}}{%endif%}") return nullptr;
  return std::make_unique<ChatMl>(std::move(system));
}

}  // namespace

std::unique_ptr<ChatTemplate> make_chat_template(std::string_view source, std::string_view, std::string_view) {
  constexpr size_t kLongest = 1 << 20;
  if (source.size() <= kLongest) {
    if (auto found = match_chatml(canonical(source))) return found;
  }
  fail(ErrorCode::kUnsupported, "the model's chat template is not one that this version understands; use --raw for plain completion");
}

}  // namespace wick
