// Walking over bytes that should be UTF-8 but need not be. Not for normalisation or properties of characters.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace wick {

enum class Utf8Status : uint8_t {
  kValid,       // one whole character
  kIncomplete,  // the text ends inside a character that could still become valid
  kInvalid,     // a maximal subpart (Unicode 15, section 3.9) that no further byte can complete: one U+FFFD stands for it
};

struct Utf8Char {
  Utf8Status status;
  uint8_t length;       // bytes, 1 to 4
  char32_t code_point;  // when valid
};

// The character that begins at byte `at` < text.size().
Utf8Char next_utf8(std::string_view text, size_t at);

// The length of the longest prefix of `text` that is whole valid characters.
size_t valid_utf8_prefix(std::string_view text);

void append_utf8(char32_t code_point, std::string& out);  // code_point <= U+10FFFF

}  // namespace wick
