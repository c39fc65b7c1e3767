// The alphabet of byte-level vocabularies (GPT-2): every byte is spelled as one printable character, so that a token is always text.
// Printable Latin-1 bytes stand for themselves, the other 68 for U+0100, U+0101, … in rising order: a space is "Ġ" (U+0120).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace wick {

// Appends the bytes that `spelling` stands for. A spelling with a character outside the alphabet stands for its own bytes, as in
// Hugging Face tokenizers.
void append_spelled_bytes(std::string_view spelling, std::string& out);

// The spelling of one byte.
std::string spell_byte(uint8_t byte);

}  // namespace wick
