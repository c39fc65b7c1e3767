// A conversation in a JSON file, as OpenAI's interface writes it: [{"role": "user", "content": "…"}, …].
#pragma once

#include <string>
#include <vector>

#include "wick/text/chat_template.h"

namespace wick::apps {

// Roles system, developer (taken as system), user, assistant; content a string or a list of {"type": "text", "text": …}.
// Throws Error(kInvalidFile) naming the message, Error(kNotFound | kIo | kLimitExceeded).
std::vector<ChatMessage> read_messages(const std::string& path);
std::vector<ChatMessage> parse_messages(const std::string& text, const std::string& source);

}  // namespace wick::apps
