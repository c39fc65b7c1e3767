#include "wick/kernels/block_format.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <vector>

#include "wick/base/error.h"
#include "wick/base/file.h"
#include "wick/tensor/half.h"

namespace wick {
namespace {

using testing::HasSubstr;

constexpr float kInf = std::numeric_limits<float>::infinity();

// What rounding to each format costs: root of the mean squared error of normal values of spread 1. The bounds are what ggml 0.25's own
// quantisers reach on the same distribution; Q8_0 is the same method here and there.
struct Format {
  DType type;
  double rms_bound;
};
constexpr Format kFormats[] = {{DType::kQ4_0, 0.0861}, {DType::kQ4_1, 0.0782}, {DType::kQ5_0, 0.0427}, {DType::kQ5_1, 0.0378},
                               {DType::kQ8_0, 0.0055}, {DType::kQ4_K, 0.0714}, {DType::kQ5_K, 0.0361}, {DType::kQ6_K, 0.0178}};

std::vector<std::byte> from_hex(const std::string& text) {
  std::vector<std::byte> bytes;
  for (size_t i = 0; i < text.size(); i += 2) bytes.push_back(static_cast<std::byte>(std::stoi(text.substr(i, 2), nullptr, 16)));
  return bytes;
}

std::vector<float> decode(DType type, const std::vector<std::byte>& bytes) {
  std::vector<float> out(bytes.size() / static_cast<size_t>(traits(type).bytes) * static_cast<size_t>(traits(type).block));
  decode_blocks(type, bytes.data(), static_cast<int64_t>(out.size()), out.data());
  return out;
}

std::vector<std::byte> encode(DType type, const std::vector<float>& x) {
  std::vector<std::byte> bytes(dtype_bytes(type, x.size()));
  encode_blocks(type, x.data(), static_cast<int64_t>(x.size()), bytes.data());
  return bytes;
}

std::vector<float> round_trip(DType type, const std::vector<float>& x) { return decode(type, encode(type, x)); }

std::vector<float> normals(size_t count, uint32_t seed, float spread = 1) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal(0, spread);
  std::vector<float> x(count);
  for (float& value : x) value = normal(generator);
  return x;
}

std::string message_of(DType type, const std::vector<float>& x) {
  try {
    encode(type, x);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
    return error.what();
  }
  return "no error";
}

// A block of zero bytes with an f16 at `at` and single bytes as given.
std::vector<std::byte> block_of(DType type, std::vector<std::pair<size_t, float>> halves, std::vector<std::pair<size_t, int>> bytes) {
  std::vector<std::byte> block(static_cast<size_t>(traits(type).bytes));
  for (const auto& [at, value] : halves) {
    const uint16_t bits = f32_to_f16(value);
    std::memcpy(block.data() + at, &bits, 2);
  }
  for (const auto& [at, value] : bytes) block[at] = static_cast<std::byte>(value);
  return block;
}

TEST(BlockFormat, DecodesAsWrittenDown) {
  // Byte 3 of the codes holds elements 3 and 19.
  const auto q4_0 = decode(DType::kQ4_0, block_of(DType::kQ4_0, {{0, 0.5f}}, {{2 + 3, 0xe1}}));
  EXPECT_EQ(q4_0[3], 0.5f * (1 - 8));
  EXPECT_EQ(q4_0[19], 0.5f * (14 - 8));
  const auto q4_1 = decode(DType::kQ4_1, block_of(DType::kQ4_1, {{0, 0.5f}, {2, -3}}, {{4 + 3, 0xe1}}));
  EXPECT_EQ(q4_1[3], 0.5f * 1 - 3);
  EXPECT_EQ(q4_1[19], 0.5f * 14 - 3);
  EXPECT_EQ(q4_1[0], -3);
  // Fifth bits: bit 3 and bit 20, which is bit 4 of the third byte.
  const auto q5_0 = decode(DType::kQ5_0, block_of(DType::kQ5_0, {{0, 0.5f}}, {{2, 8}, {2 + 2, 16}, {6 + 3, 0x25}, {6 + 4, 0x70}}));
  EXPECT_EQ(q5_0[3], 0.5f * (5 + 16 - 16));
  EXPECT_EQ(q5_0[19], 0.5f * (2 - 16));
  EXPECT_EQ(q5_0[20], 0.5f * (7 + 16 - 16));
  const auto q5_1 = decode(DType::kQ5_1, block_of(DType::kQ5_1, {{0, 0.5f}, {2, 1}}, {{4, 8}, {8 + 3, 0x25}}));
  EXPECT_EQ(q5_1[3], 0.5f * (5 + 16) + 1);
  EXPECT_EQ(q5_1[19], 0.5f * 2 + 1);
  const auto q8_0 = decode(DType::kQ8_0, block_of(DType::kQ8_0, {{0, 0.25f}}, {{2 + 31, 0x80}, {2, 127}}));
  EXPECT_EQ(q8_0[31], 0.25f * -128);
  EXPECT_EQ(q8_0[0], 0.25f * 127);
}

TEST(BlockFormat, DecodesKBlocksAsWrittenDown) {
  // Sub-block 1: scale 33, minimum 18. Sub-block 6: scale 0x2b (low nibble b, upper bits 2), minimum 0x17.
  const std::vector<std::pair<size_t, int>> scales = {{4 + 1, 33}, {4 + 5, 18}, {4 + 2, 2 << 6}, {4 + 6, 1 << 6}, {4 + 10, 0x7b}};
  auto bytes = scales;
  bytes.insert(bytes.end(), {{16 + 5, 0xc4}, {16 + 96 + 7, 0x09}});  // element 5 of sub-blocks 0 and 1, element 7 of 6 and 7
  const auto q4_k = decode(DType::kQ4_K, block_of(DType::kQ4_K, {{0, 0.5f}, {2, 0.25f}}, bytes));
  EXPECT_EQ(q4_k[5], 0);
  EXPECT_EQ(q4_k[32 + 5], 0.5f * 33 * 12 - 0.25f * 18);
  EXPECT_EQ(q4_k[6 * 32 + 7], 0.5f * 0x2b * 9 - 0.25f * 0x17);
  EXPECT_EQ(q4_k[6 * 32 + 8], -0.25f * 0x17);
  bytes = scales;
  bytes.insert(bytes.end(), {{16 + 5, 2}, {16 + 7, 64}, {48 + 5, 0xc4}, {48 + 96 + 7, 0x09}});
  const auto q5_k = decode(DType::kQ5_K, block_of(DType::kQ5_K, {{0, 0.5f}, {2, 0.25f}}, bytes));
  EXPECT_EQ(q5_k[32 + 5], 0.5f * 33 * (12 + 16) - 0.25f * 18);
  EXPECT_EQ(q5_k[6 * 32 + 7], 0.5f * 0x2b * (9 + 16) - 0.25f * 0x17);
  // Element 128 + 70: the second half, quarter 2, j = 6; scale 12.
  const auto q6_k = decode(DType::kQ6_K, block_of(DType::kQ6_K, {{208, 0.5f}}, {{64 + 6, 0x90}, {128 + 32 + 6, 0x30}, {192 + 12, 0xfd}}));
  EXPECT_EQ(q6_k[128 + 70], 0.5f * -3 * (9 + 48 - 32));
  EXPECT_EQ(q6_k[128 + 71], 0.5f * -3 * -32);
}

TEST(BlockFormat, DecodesAsGgmlDoesBitForBit) {
  const auto goldens = nlohmann::json::parse(read_file(WICK_TEST_DATA "/blocks/goldens.json", 1 << 20));
  for (const Format& format : kFormats) {
    SCOPED_TRACE(dtype_name(format.type));
    const auto& golden = goldens.at(dtype_name(format.type));
    const std::vector<float> values = decode(format.type, from_hex(golden.at("blocks")));
    const std::vector<std::byte> expected = from_hex(golden.at("f32"));
    ASSERT_EQ(values.size() * sizeof(float), expected.size());
    for (size_t i = 0; i < values.size(); ++i) {
      uint32_t bits;
      std::memcpy(&bits, expected.data() + 4 * i, 4);
      EXPECT_EQ(std::bit_cast<uint32_t>(values[i]), bits) << "element " << i << " is " << values[i];
    }
  }
}

TEST(BlockFormat, RoundingCostsNoMoreThanWithGgml) {
  for (const float spread : {1.0f, 0.02f, 300.0f}) {
    const std::vector<float> x = normals(64 * 256, 1, spread);
    for (const Format& format : kFormats) {
      const std::vector<float> y = round_trip(format.type, x);
      double sum = 0;
      for (size_t i = 0; i < x.size(); ++i) sum += std::pow(y[i] - x[i], 2);
      EXPECT_LT(std::sqrt(sum / static_cast<double>(x.size())), format.rms_bound * spread) << dtype_name(format.type) << " of spread " << spread;
    }
  }
}

// No value is far off, whatever the others in its block are.
TEST(BlockFormat, NoValueIsFarOff) {
  std::vector<float> x = normals(256 * 64, 2);
  for (size_t i = 0; i < x.size(); ++i) x[i] *= x[i] * x[i];  // heavy tails
  for (const Format& format : kFormats) {
    const std::vector<float> y = round_trip(format.type, x);
    for (size_t b = 0; b < x.size(); b += 256) {
      float largest = 0;
      for (size_t i = b; i < b + 256; ++i) largest = std::max(largest, std::fabs(x[i]));
      for (size_t i = b; i < b + 256; ++i) EXPECT_NEAR(x[i], y[i], largest * 0.16) << dtype_name(format.type) << " element " << i;
    }
  }
}

TEST(BlockFormat, AGridOfTheFormatIsFoundAgain) {
  for (const auto& [type, codes] : {std::pair{DType::kQ4_1, 16}, {DType::kQ5_1, 32}, {DType::kQ5_1, 16}}) {
    std::vector<float> x(32);
    for (int i = 0; i < 32; ++i) x[static_cast<size_t>(i)] = 0.375f * static_cast<float>(i * 11 % codes) - 2.5f;
    EXPECT_EQ(round_trip(type, x), x) << dtype_name(type) << " " << codes;
  }
  std::vector<float> x(32);
  for (int i = 0; i < 32; ++i) x[static_cast<size_t>(i)] = 0.375f * static_cast<float>(i * 11 % 16 - 8);
  EXPECT_EQ(round_trip(DType::kQ4_0, x), x);
  EXPECT_EQ(round_trip(DType::kQ5_0, x), x);
  x[7] = 0.375f * 127;
  EXPECT_EQ(round_trip(DType::kQ8_0, x), x);
}

TEST(BlockFormat, ZerosStayZeros) {
  for (const Format& format : kFormats) {
    for (const float value : round_trip(format.type, std::vector<float>(512, 0.0f))) EXPECT_EQ(std::bit_cast<uint32_t>(value), 0u) << dtype_name(format.type);
    for (const float value : round_trip(format.type, std::vector<float>(256, -0.0f))) EXPECT_EQ(value, 0.0f) << dtype_name(format.type);
  }
}

TEST(BlockFormat, ConstantsStayConstant) {
  for (const Format& format : kFormats) {
    for (const float c : {1.0f, -1.0f, 0.7f, -0.0123f, 1e-3f, 1000.0f, -60000.0f}) {
      for (const float value : round_trip(format.type, std::vector<float>(256, c))) {
        EXPECT_NEAR(value, c, std::fabs(c) * 0.004f) << dtype_name(format.type);
      }
    }
  }
}

TEST(BlockFormat, ZeroBesideValuesOfOneSign) {
  for (const float sign : {1.0f, -1.0f}) {
    std::vector<float> x(256, 0.0f);
    for (size_t i = 0; i < x.size(); i += 3) x[i] = sign * static_cast<float>(1 + i % 7);
    for (const Format& format : kFormats) {
      const std::vector<float> y = round_trip(format.type, x);
      for (size_t i = 0; i < x.size(); ++i) EXPECT_NEAR(y[i], x[i], 0.5) << dtype_name(format.type) << " element " << i;
    }
  }
}

// f16 scales end at 65504: beyond, values become the nearest that the block can hold.
TEST(BlockFormat, HugeValuesAreHeldAtTheLargest) {
  constexpr float kLargest = std::numeric_limits<float>::max();
  for (const Format& format : kFormats) {
    std::vector<float> x(256);
    for (size_t i = 0; i < x.size(); ++i) x[i] = i % 3 == 0 ? kLargest : i % 3 == 1 ? -kLargest : 1.0f;
    const std::vector<float> y = round_trip(format.type, x);
    for (size_t i = 0; i < x.size(); ++i) {
      EXPECT_TRUE(std::isfinite(y[i])) << dtype_name(format.type);
      if (std::fabs(x[i]) > 1) {
        EXPECT_GE(y[i] * std::copysign(1.0f, x[i]), 60000.0f) << dtype_name(format.type);
      }
    }
    const std::vector<float> thousands = round_trip(format.type, normals(256, 3, 1e5f));
    for (const float value : thousands) EXPECT_TRUE(std::isfinite(value));
  }
}

// Scales end at 2^-24 as well.
TEST(BlockFormat, TinyValuesBecomeTheNearestMultipleOfTheSmallestScale) {
  for (const Format& format : kFormats) {
    for (const float tiny : {0x1p-149f, 1e-40f, 1e-30f, 1e-9f, 0x1.8p-26f}) {
      for (const float value : round_trip(format.type, normals(256, 4, tiny / 8))) EXPECT_EQ(value, 0) << dtype_name(format.type) << " " << tiny;
    }
    for (const float spread : {0x1p-24f, 0x1p-22f, 1e-6f}) {
      const std::vector<float> x = normals(256, 5, spread), y = round_trip(format.type, x);
      for (size_t i = 0; i < x.size(); ++i) EXPECT_NEAR(y[i], x[i], std::max(0x1p-22f, spread * 0.6f)) << dtype_name(format.type);
    }
    std::vector<float> mixed(256, 0x1p-140f);
    mixed[200] = 1;
    const std::vector<float> y = round_trip(format.type, mixed);
    EXPECT_NEAR(y[200], 1, 0.01);
    EXPECT_NEAR(y[0], 0, 0.01);
  }
}

TEST(BlockFormat, WhatIsNoNumberCannotGoIntoABlock) {
  for (const Format& format : kFormats) {
    for (const float bad : {kInf, -kInf, std::nanf("")}) {
      std::vector<float> x(512, 1.0f);
      x[300] = bad;
      EXPECT_THAT(message_of(format.type, x), testing::AllOf(HasSubstr("element 300"), HasSubstr(dtype_name(format.type))));
    }
  }
}

TEST(BlockFormat, PlainTypesAreRounded) {
  const std::vector<float> x = {1, -0.0f, 1.0f / 3, 1e6f, kInf, std::nanf(""), 0x1p-149f};
  EXPECT_EQ(0, std::memcmp(round_trip(DType::kF32, x).data(), x.data(), x.size() * 4));
  for (const DType type : {DType::kF16, DType::kBF16}) {
    const std::vector<float> y = round_trip(type, x);
    for (size_t i = 0; i < x.size(); ++i) {
      const float expected = type == DType::kF16 ? f16_to_f32(f32_to_f16(x[i])) : bf16_to_f32(f32_to_bf16(x[i]));
      EXPECT_EQ(std::bit_cast<uint32_t>(y[i]), std::bit_cast<uint32_t>(expected)) << dtype_name(type) << " " << x[i];
    }
  }
}

TEST(BlockFormat, Misuse) {
  float x[64] = {};
  std::byte bytes[256] = {};
  for (const Format& format : kFormats) {
    EXPECT_TRUE(has_codec(format.type));
    for (const int64_t count : {1, 33, traits(format.type).block - 1}) {
      EXPECT_THROW(encode_blocks(format.type, x, count, bytes), Error);
    }
    decode_blocks(format.type, bytes, 0, x);
    encode_blocks(format.type, x, 0, bytes);
  }
  for (const DType type : {DType::kI32, DType::kU8, DType::kF64}) {
    EXPECT_FALSE(has_codec(type));
    EXPECT_THROW(decode_blocks(type, bytes, 1, x), Error);
    EXPECT_THROW(encode_blocks(type, x, 1, bytes), Error);
  }
}

}  // namespace
}  // namespace wick
