#include "wick/formats/printable.h"

#include <cstdint>

namespace wick {
namespace {

uint32_t byte_at(std::string_view text, size_t i) { return static_cast<unsigned char>(text[i]); }

// Bytes of the well-formed UTF-8 sequence of two or more bytes that `text` begins with, or 0 (Unicode 15, table 3-7).
size_t multibyte_length(std::string_view text) {
  const uint32_t first = byte_at(text, 0);
  const size_t length = first >= 0xc2 && first <= 0xdf ? 2 : (first & 0xf0) == 0xe0 ? 3 : first >= 0xf0 && first <= 0xf4 ? 4 : 0;
  if (length == 0 || text.size() < length) return 0;
  for (size_t i = 1; i < length; ++i) {
    if ((byte_at(text, i) & 0xc0) != 0x80) return 0;
  }
  const uint32_t second = byte_at(text, 1);
  const bool overlong = (first == 0xe0 && second < 0xa0) || (first == 0xf0 && second < 0x90);
  const bool surrogate = first == 0xed && second >= 0xa0;
  const bool too_large = first == 0xf4 && second >= 0x90;
  const bool c1_control = first == 0xc2 && second < 0xa0;
  return overlong || surrogate || too_large || c1_control ? 0 : length;
}

}  // namespace

std::string printable(std::string_view text, size_t max_bytes) {
  constexpr char kHex[] = "0123456789abcdef";
  std::string out;
  size_t i = 0;
  while (i < text.size() && i < max_bytes) {
    const uint32_t byte = byte_at(text, i);
    const size_t length = byte >= 0x20 && byte < 0x7f && byte != '\\' ? 1 : byte < 0x80 ? 0 : multibyte_length(text.substr(i));
    if (length == 0) {
      out += {'\\', 'x', kHex[byte >> 4], kHex[byte & 15]};
    } else {
      out += text.substr(i, length);
    }
    i += length == 0 ? 1 : length;
  }
  return i < text.size() ? out + "…" : out;
}

}  // namespace wick
