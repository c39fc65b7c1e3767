#include "wick/text/utf8.h"

#include <cstring>

namespace wick {
namespace {

// What may follow a lead byte: how many bytes, and the range of the first of them, which shuts out overlong forms, surrogates and
// values beyond U+10FFFF (Unicode 15, table 3-7).
struct Lead {
  uint8_t length;
  uint8_t low;
  uint8_t high;
};

constexpr Lead classify(uint8_t byte) {
  if (byte < 0x80) return {1, 0, 0};
  if (byte < 0xC2) return {0, 0, 0};
  if (byte < 0xE0) return {2, 0x80, 0xBF};
  if (byte == 0xE0) return {3, 0xA0, 0xBF};
  if (byte == 0xED) return {3, 0x80, 0x9F};
  if (byte < 0xF0) return {3, 0x80, 0xBF};
  if (byte == 0xF0) return {4, 0x90, 0xBF};
  if (byte < 0xF4) return {4, 0x80, 0xBF};
  if (byte == 0xF4) return {4, 0x80, 0x8F};
  return {0, 0, 0};
}

}  // namespace

Utf8Char next_utf8(std::string_view text, size_t at) {
  const auto byte = [&](size_t i) { return static_cast<uint8_t>(text[i]); };
  const Lead lead = classify(byte(at));
  if (lead.length == 0) return {Utf8Status::kInvalid, 1, 0};
  if (lead.length == 1) return {Utf8Status::kValid, 1, byte(at)};
  char32_t code_point = byte(at) & (0x7Fu >> lead.length);
  for (uint8_t i = 1; i < lead.length; ++i) {
    if (at + i == text.size()) return {Utf8Status::kIncomplete, i, 0};
    const uint8_t next = byte(at + i);
    const uint8_t low = i == 1 ? lead.low : 0x80;
    const uint8_t high = i == 1 ? lead.high : 0xBF;
    if (next < low || next > high) return {Utf8Status::kInvalid, i, 0};
    code_point = code_point << 6 | (next & 0x3Fu);
  }
  return {Utf8Status::kValid, lead.length, code_point};
}

size_t valid_utf8_prefix(std::string_view text) {
  size_t at = 0;
  while (at < text.size()) {
    uint64_t word;
    if (text.size() - at >= sizeof word) {
      std::memcpy(&word, text.data() + at, sizeof word);
      if ((word & 0x8080808080808080u) == 0) {
        at += sizeof word;
        continue;
      }
    }
    const Utf8Char c = next_utf8(text, at);
    if (c.status != Utf8Status::kValid) break;
    at += c.length;
  }
  return at;
}

void append_utf8(char32_t code_point, std::string& out) {
  const auto tail = [&](int shift) { out += static_cast<char>(0x80 | (code_point >> shift & 0x3F)); };
  if (code_point < 0x80) {
    out += static_cast<char>(code_point);
  } else if (code_point < 0x800) {
    out += static_cast<char>(0xC0 | code_point >> 6);
    tail(0);
  } else if (code_point < 0x10000) {
    out += static_cast<char>(0xE0 | code_point >> 12);
    tail(6);
    tail(0);
  } else {
    out += static_cast<char>(0xF0 | code_point >> 18);
    tail(12);
    tail(6);
    tail(0);
  }
}

}  // namespace wick
