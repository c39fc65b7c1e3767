#include "wick/apps/values.h"

#include <gtest/gtest.h>

#include <limits>

#include "wick/base/error.h"

namespace wick::apps {
namespace {

constexpr int64_t kMax = std::numeric_limits<int64_t>::max();

TEST(Values, IntegersAreWholeAndInRange) {
  EXPECT_EQ(parse_integer("0", 0, 10), 0);
  EXPECT_EQ(parse_integer("10", 0, 10), 10);
  EXPECT_EQ(parse_integer("-5", -5, 10), -5);
  for (const char* bad : {"", " 1", "1 ", "1x", "x", "1.5", "1e3", "0x10", "+1", "11", "-1", "9223372036854775808", "99999999999999999999", "NaN", "null", "[]"}) {
    EXPECT_THROW(parse_integer(bad, 0, 10), Error) << bad;
  }
  EXPECT_EQ(parse_integer("9223372036854775807", 0, kMax), kMax);
}

TEST(Values, UnsignedCoversAll64Bits) {
  EXPECT_EQ(parse_unsigned("18446744073709551615"), std::numeric_limits<uint64_t>::max());
  for (const char* bad : {"-1", "18446744073709551616", "", "1.0"}) EXPECT_THROW(parse_unsigned(bad), Error) << bad;
}

TEST(Values, NumbersAreFiniteAndInRange) {
  EXPECT_DOUBLE_EQ(parse_number("0.7", 0, 1), 0.7);
  EXPECT_DOUBLE_EQ(parse_number("1e-3", 0, 1), 1e-3);
  for (const char* bad : {"nan", "NaN", "inf", "-inf", "1e308", "1e999", "-0.1", "0,5", "0.5x", "", "1.0.0"}) EXPECT_THROW(parse_number(bad, 0, 1), Error) << bad;
}

TEST(Values, Switches) {
  EXPECT_TRUE(parse_switch("1"));
  EXPECT_FALSE(parse_switch("off"));
  EXPECT_THROW(parse_switch("maybe"), Error);
}

TEST(Values, Ids) {
  EXPECT_EQ(parse_ids("1"), (std::vector<int32_t>{1}));
  EXPECT_EQ(parse_ids("1, 2,3"), (std::vector<int32_t>{1, 2, 3}));
  for (const char* bad : {"", ",", "1,", ",1", "1,,2", "1 2", "-1", "2147483648", "1;2", "a"}) EXPECT_THROW(parse_ids(bad), Error) << bad;
}

TEST(Values, ShownIsOneShortLineOfText) {
  EXPECT_EQ(shown("a\nb\x1b[0m\x7f"), "a\\nb\\x1b[0m\\x7f");
  EXPECT_EQ(shown("äöü", 3), "ä…");
  EXPECT_EQ(shown("äöü", 6), "äöü");
  EXPECT_EQ(shown(std::string(1000, 'x'), 10), "xxxxxxxxxx…");
  EXPECT_EQ(shown("a\xff\xe2\x82z\xe2\x82\xac\xc2\x9b\t"), "a\\xff\\xe2\\x82z\u20ac\\xc2\\x9b\\t");
  EXPECT_EQ(shown(std::string("\0", 1)), "\\x00");
}

}  // namespace
}  // namespace wick::apps
