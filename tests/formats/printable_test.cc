#include "wick/formats/printable.h"

#include <gtest/gtest.h>

namespace wick {
namespace {

TEST(Printable, KeepsWhatCanBeShown) {
  EXPECT_EQ(printable(""), "");
  EXPECT_EQ(printable("blk.0.attn_q.weight"), "blk.0.attn_q.weight");
  EXPECT_EQ(printable("héllo 世界 🙂"), "héllo 世界 🙂");
}

TEST(Printable, EscapesControlsBackslashesAndInvalidUtf8) {
  EXPECT_EQ(printable(std::string_view("a\nb\0c\x7f", 6)), "a\\x0ab\\x00c\\x7f");
  EXPECT_EQ(printable("a\\x"), "a\\x5cx");
  EXPECT_EQ(printable("\x1b[31m"), "\\x1b[31m");
  EXPECT_EQ(printable("\xff\xc3"), "\\xff\\xc3");
  EXPECT_EQ(printable("\xc0\xaf"), "\\xc0\\xaf");                    // overlong
  EXPECT_EQ(printable("\xe0\x80\xaf"), "\\xe0\\x80\\xaf");           // overlong
  EXPECT_EQ(printable("\xed\xa0\x80"), "\\xed\\xa0\\x80");           // surrogate
  EXPECT_EQ(printable("\xf4\x90\x80\x80"), "\\xf4\\x90\\x80\\x80");  // above U+10FFFF
  EXPECT_EQ(printable("\xc2\x9b"), "\\xc2\\x9b");                    // a C1 control: also an escape sequence
  EXPECT_EQ(printable("\xe4\xb8"), "\\xe4\\xb8");                    // cut
}

TEST(Printable, CutsLongTextAtACharacter) {
  EXPECT_EQ(printable(std::string(1 << 20, 'x')), std::string(100, 'x') + "…");
  EXPECT_EQ(printable("12345", 5), "12345");
  EXPECT_EQ(printable("123456", 5), "12345…");
  EXPECT_EQ(printable("1234é6", 5), "1234é…");
}

}  // namespace
}  // namespace wick
