#include "wick/tensor/half.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace wick {
namespace {

// A 16-bit float by its definition: sign, exponent, fraction.
double decode(uint16_t bits, int exponent_bits) {
  const int fraction_bits = 15 - exponent_bits;
  const int bias = (1 << (exponent_bits - 1)) - 1;
  const int exponent = bits >> fraction_bits & ((1 << exponent_bits) - 1);
  const int fraction = bits & ((1 << fraction_bits) - 1);
  const double sign = bits & 0x8000 ? -1 : 1;
  if (exponent == (1 << exponent_bits) - 1) return fraction ? std::numeric_limits<double>::quiet_NaN() : sign * std::numeric_limits<double>::infinity();
  if (exponent == 0) return sign * std::ldexp(fraction, 1 - bias - fraction_bits);
  return sign * std::ldexp((1 << fraction_bits) + fraction, exponent - bias - fraction_bits);
}

template <class ToFloat, class FromFloat>
void check_all(int exponent_bits, ToFloat to_float, FromFloat from_float) {
  for (uint32_t i = 0; i < 65536; ++i) {
    const uint16_t bits = static_cast<uint16_t>(i);
    const double expected = decode(bits, exponent_bits);
    const float value = to_float(bits);
    if (std::isnan(expected)) {
      ASSERT_TRUE(std::isnan(value)) << i;
      ASSERT_TRUE(std::isnan(to_float(from_float(value)))) << i;
      continue;
    }
    ASSERT_EQ(expected, value) << i;
    ASSERT_EQ(std::signbit(expected), std::signbit(value)) << i;
    ASSERT_EQ(bits, from_float(value)) << i;
    // Half way to the next number in magnitude: ties go to the even one, anything more goes up.
    const double next = decode(static_cast<uint16_t>(bits + 1), exponent_bits);
    if ((bits & 0x7fff) == 0x7fff || std::isnan(next) || std::isinf(next) || std::isinf(expected)) continue;
    const float middle = static_cast<float>((expected + next) / 2);
    if (static_cast<double>(middle) != (expected + next) / 2) continue;  // bf16's smallest: no f32 lies half way
    ASSERT_EQ(bits + (bits & 1), from_float(middle)) << i;
    ASSERT_EQ(bits + 1, from_float(std::nextafter(middle, static_cast<float>(next)))) << i;
    ASSERT_EQ(bits, from_float(std::nextafter(middle, value))) << i;
  }
}

TEST(Half, EveryF16) { check_all(5, f16_to_f32, f32_to_f16); }
TEST(Half, EveryBf16) { check_all(8, bf16_to_f32, f32_to_bf16); }

TEST(Half, Overflow) {
  EXPECT_EQ(0x7bff, f32_to_f16(65519.996f));
  EXPECT_EQ(0x7c00, f32_to_f16(65520.0f));
  EXPECT_EQ(0xfc00, f32_to_f16(-1e30f));
  EXPECT_EQ(0x7f80, f32_to_bf16(std::numeric_limits<float>::max()));
  EXPECT_EQ(0x0000, f32_to_f16(1e-9f));
  EXPECT_EQ(0x8000, f32_to_f16(-1e-9f));
}

}  // namespace
}  // namespace wick
