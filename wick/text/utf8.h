// Well-formed UTF-8, byte by byte.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace wick {

enum class Utf8Kind { kValid, kIncomplete, kInvalid };

struct Utf8Step {
  Utf8Kind kind;
  size_t length;  // kValid: bytes of the character; otherwise: bytes of the longest beginning of a character there (at least 1)
};

// What `text` begins with; not empty. kIncomplete: it ends inside a character that more bytes could complete.
Utf8Step utf8_step(std::string_view text);

// The same text with every ill-formed sequence replaced by U+FFFD, one per longest beginning of a character.
std::string utf8_replace_invalid(std::string_view text);

void append_utf8(char32_t code_point, std::string& out);

}  // namespace wick
