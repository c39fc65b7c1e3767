#include "wick/base/error.h"

#include <gtest/gtest.h>

#include "wick/base/checked.h"

namespace wick {
namespace {

TEST(Error, CarriesCodeAndMessage) {
  try {
    fail(ErrorCode::kUnsupported, "tensor '", "x", "' has rank ", 3);
  } catch (const Error& error) {
    EXPECT_EQ(ErrorCode::kUnsupported, error.code());
    EXPECT_STREQ("tensor 'x' has rank 3", error.what());
  }
  EXPECT_NO_THROW(require(true, "never"));
  EXPECT_THROW(require(false, "always"), Error);
}

TEST(Error, EveryCodeHasAName) {
  for (int code = 0; code <= static_cast<int>(ErrorCode::kInternal); ++code) EXPECT_STRNE("unknown", error_code_name(static_cast<ErrorCode>(code)));
}

TEST(Checked, ArithmeticIsExactOrNothing) {
  EXPECT_EQ(5, checked_add(2, 3));
  EXPECT_FALSE(checked_add<int64_t>(INT64_MAX, 1));
  EXPECT_FALSE(checked_add<uint64_t>(UINT64_MAX, 1));
  EXPECT_EQ(UINT64_MAX, checked_mul<uint64_t>(UINT64_MAX, 1));
  EXPECT_FALSE(checked_mul<uint64_t>(uint64_t{1} << 32, uint64_t{1} << 32));
  EXPECT_FALSE(checked_mul<int64_t>(INT64_MIN, -1));
  EXPECT_THROW(add_or_fail<int64_t>(INT64_MAX, 1, "size"), Error);
  EXPECT_THROW(mul_or_fail<uint64_t>(UINT64_MAX, 2, "size"), Error);
}

TEST(Checked, RoundingUp) {
  EXPECT_EQ(0, ceil_div(0, 4));
  EXPECT_EQ(1, ceil_div(1, 4));
  EXPECT_EQ(1, ceil_div(4, 4));
  EXPECT_EQ(2, ceil_div(5, 4));
  EXPECT_EQ(8, round_up(5, 4));
  EXPECT_EQ(INT64_MAX / 64 + 1, ceil_div<int64_t>(INT64_MAX, 64));
}

}  // namespace
}  // namespace wick
