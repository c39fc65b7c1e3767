#include "wick/apps/messages.h"

#include "wick/apps/json_output.h"
#include "wick/apps/values.h"
#include "wick/base/error.h"
#include "wick/base/file.h"

namespace wick::apps {
namespace {

constexpr uint64_t kMaxBytes = uint64_t{64} << 20;
constexpr int kMaxDepth = 16;

template <class... Parts>
void expect(bool condition, const Parts&... parts) {
  if (!condition) fail(ErrorCode::kInvalidFile, parts...);
}

const std::string& string_of(const Json& object, const char* key, const std::string& where) {
  const auto found = object.find(key);
  expect(found != object.end() && found->is_string(), where, ": expected a string '", key, "'");
  return found->get_ref<const std::string&>();
}

std::string content_of(const Json& message, const std::string& where) {
  const auto content = message.find("content");
  if (content == message.end() || !content->is_array()) return string_of(message, "content", where);
  std::string text;
  for (const Json& part : *content) {
    expect(part.is_object() && string_of(part, "type", where) == "text", where, ": expected content of text parts only");
    text += string_of(part, "text", where);
  }
  return text;
}

ChatMessage message_of(const Json& message, const std::string& where) {
  expect(message.is_object(), where, ": expected an object with role and content");
  for (const auto& item : message.items()) {
    expect(item.key() == "role" || item.key() == "content", where, ": '", shown(item.key()), "' is not understood, only role and content are");
  }
  std::string role = string_of(message, "role", where);
  if (role == "developer") role = "system";
  expect(role == "system" || role == "user" || role == "assistant", where, ": role '", shown(role), "', expected system, user or assistant");
  return {role, content_of(message, where)};
}

}  // namespace

std::vector<ChatMessage> parse_messages(const std::string& text, const std::string& source) {
  const Json list = parse_json(text, kMaxDepth, source);
  expect(list.is_array() && !list.empty(), source, ": expected a list of messages, [{\"role\": \"user\", \"content\": \"…\"}]");
  std::vector<ChatMessage> messages;
  for (size_t i = 0; i < list.size(); ++i) messages.push_back(message_of(list[i], concat(source, ": message ", i)));
  return messages;
}

std::vector<ChatMessage> read_messages(const std::string& path) { return parse_messages(read_file(path, kMaxBytes), shown(path)); }

}  // namespace wick::apps
