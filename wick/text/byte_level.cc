#include "wick/text/byte_level.h"

#include <array>

#include "wick/text/utf8.h"

namespace wick {
namespace {

constexpr char32_t kEnd = 0x144;  // one past the last character of the alphabet

struct Alphabet {
  std::array<uint16_t, 256> character{};
  std::array<int16_t, kEnd> byte{};
};

constexpr Alphabet make_alphabet() {
  Alphabet alphabet;
  for (auto& byte : alphabet.byte) byte = -1;
  uint16_t next = 0x100;
  for (uint16_t byte = 0; byte < 256; ++byte) {
    const bool printable = (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte != 0xAD);
    const uint16_t character = printable ? byte : next++;
    alphabet.character[byte] = character;
    alphabet.byte[character] = static_cast<int16_t>(byte);
  }
  return alphabet;
}

constexpr Alphabet kAlphabet = make_alphabet();

}  // namespace

void append_spelled_bytes(std::string_view spelling, std::string& out) {
  const size_t start = out.size();
  for (size_t at = 0; at < spelling.size();) {
    const Utf8Char c = next_utf8(spelling, at);
    if (c.status != Utf8Status::kValid || c.code_point >= kEnd || kAlphabet.byte[c.code_point] < 0) {
      out.replace(start, std::string::npos, spelling);
      return;
    }
    out += static_cast<char>(kAlphabet.byte[c.code_point]);
    at += c.length;
  }
}

std::string spell_byte(uint8_t byte) {
  std::string spelling;
  append_utf8(kAlphabet.character[byte], spelling);
  return spelling;
}

}  // namespace wick
