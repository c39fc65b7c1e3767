#include "wick/text/utf8.h"

#include <gtest/gtest.h>

namespace wick {
namespace {

TEST(Utf8, EveryCodePointGoesThere) {
  for (char32_t c = 0; c <= 0x10FFFF; c += c < 0x3000 ? 1 : 13) {
    if (c >= 0xD800 && c <= 0xDFFF) continue;
    std::string text;
    append_utf8(c, text);
    const Utf8Char found = next_utf8(text, 0);
    ASSERT_EQ(found.status, Utf8Status::kValid) << static_cast<uint32_t>(c);
    ASSERT_EQ(found.code_point, c);
    ASSERT_EQ(found.length, text.size());
    for (size_t cut = 1; cut < text.size(); ++cut) {
      const Utf8Char part = next_utf8(std::string_view(text).substr(0, cut), 0);
      ASSERT_EQ(part.status, Utf8Status::kIncomplete);
      ASSERT_EQ(part.length, cut);
    }
  }
}

// Table 3-8 of Unicode 15: one replacement for each maximal subpart.
TEST(Utf8, MaximalSubparts) {
  const std::string text = "\x61\xF1\x80\x80\xE1\x80\xC2\x62\x80\x63\x80\xBF\x64";
  std::vector<int> lengths;
  for (size_t at = 0; at < text.size();) {
    const Utf8Char c = next_utf8(text, at);
    lengths.push_back(c.status == Utf8Status::kValid ? 0 : c.length);
    at += c.length;
  }
  EXPECT_EQ(lengths, (std::vector<int>{0, 3, 2, 1, 0, 1, 0, 1, 1, 0}));
}

TEST(Utf8, OverlongFormsSurrogatesAndTooLargeValuesAreInvalid) {
  for (const char* text : {"\xC0\x80", "\xC1\xBF", "\xE0\x80\x80", "\xE0\x9F\xBF", "\xED\xA0\x80", "\xED\xBF\xBF", "\xF0\x80\x80\x80",
                           "\xF4\x90\x80\x80", "\xF5\x80\x80\x80", "\xFE", "\xFF", "\x80", "\xBF"}) {
    const Utf8Char c = next_utf8(text, 0);
    EXPECT_EQ(c.status, Utf8Status::kInvalid) << testing::PrintToString(text);
    EXPECT_EQ(c.length, 1) << testing::PrintToString(text);
  }
}

TEST(Utf8, ValidPrefix) {
  EXPECT_EQ(valid_utf8_prefix(""), 0u);
  EXPECT_EQ(valid_utf8_prefix("plain ascii of more than a word"), 31u);
  for (size_t lead = 0; lead < 20; ++lead) {
    const std::string ascii(lead, 'a');
    EXPECT_EQ(valid_utf8_prefix(ascii + "é\xff" + "b"), lead + 2);
    EXPECT_EQ(valid_utf8_prefix(ascii + "\xe2\x82"), lead);
  }
}

}  // namespace
}  // namespace wick
