#include "wick/text/byte_level.h"

#include <gtest/gtest.h>

#include <set>

namespace wick {
namespace {

std::string bytes_of(std::string_view spelling) {
  std::string out;
  append_spelled_bytes(spelling, out);
  return out;
}

TEST(ByteLevel, EveryByteHasASpellingOfItsOwn) {
  std::set<std::string> spellings;
  for (int byte = 0; byte < 256; ++byte) {
    const std::string spelling = spell_byte(static_cast<uint8_t>(byte));
    EXPECT_EQ(bytes_of(spelling), std::string(1, static_cast<char>(byte)));
    spellings.insert(spelling);
  }
  EXPECT_EQ(spellings.size(), 256u);
}

TEST(ByteLevel, TheAlphabetOfGpt2) {
  EXPECT_EQ(spell_byte('!'), "!");
  EXPECT_EQ(spell_byte('~'), "~");
  EXPECT_EQ(spell_byte(0), "\u0100");
  EXPECT_EQ(spell_byte('\n'), "\u010a");
  EXPECT_EQ(spell_byte(' '), "\u0120");
  EXPECT_EQ(spell_byte(0x7f), "\u0121");
  EXPECT_EQ(spell_byte(0xa1), "\u00a1");
  EXPECT_EQ(spell_byte(0xad), "\u0143");
  EXPECT_EQ(spell_byte(0xff), "\u00ff");
  EXPECT_EQ(bytes_of("\u0120Hello\u010a"), " Hello\n");
}

TEST(ByteLevel, SpellingsOutsideTheAlphabetStandForTheirOwnBytes) {
  EXPECT_EQ(bytes_of("日本"), "日本");
  EXPECT_EQ(bytes_of("a b"), "a b");  // a plain space is not in it
  EXPECT_EQ(bytes_of("\xff\xfe"), "\xff\xfe");
  EXPECT_EQ(bytes_of(""), "");
}

}  // namespace
}  // namespace wick
