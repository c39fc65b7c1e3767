#include "wick/nn/rotary.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <numbers>

#include "wick/base/error.h"
#include "wick/ops/rope.h"

namespace wick::nn {
namespace {

RopeConfig config(int64_t rotary_dim = 64, int64_t max_positions = 8192) {
  RopeConfig result;
  result.rotary_dim = rotary_dim;
  result.max_positions = max_positions;
  return result;
}

void expect_error(const RopeConfig& bad, const char* text) {
  try {
    RopeTable table(bad);
    ADD_FAILURE() << "no error, expected: " << text;
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), testing::HasSubstr(text));
    EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
  }
}

TEST(RopeFrequencies, Plain) {
  const std::vector<double> frequencies = rope_frequencies(config(8));
  EXPECT_THAT(frequencies, testing::Pointwise(testing::DoubleEq(), {1.0, 0.1, 0.01, 0.001}));
}

TEST(RopeFrequencies, Linear) {
  RopeConfig linear = config(8);
  linear.scaling = RopeScaling::kLinear;
  linear.factor = 4;
  EXPECT_THAT(rope_frequencies(linear), testing::Pointwise(testing::DoubleEq(), {0.25, 0.025, 0.0025, 0.00025}));
}

// Llama 3.1 8B: theta 500000, R 128, factor 8, low 1, high 4, 8192.
TEST(RopeFrequencies, Llama3) {
  RopeConfig plain = config(128);
  plain.theta = 500000;
  RopeConfig llama = plain;
  llama.scaling = RopeScaling::kLlama3;
  llama.factor = 8;
  const std::vector<double> from = rope_frequencies(plain);
  const std::vector<double> to = rope_frequencies(llama);
  int kept = 0, divided = 0, blended = 0;
  for (size_t i = 0; i < from.size(); ++i) {
    const double wavelength = 2 * std::numbers::pi / from[i];
    if (wavelength < 8192.0 / 4) {
      ++kept;
      EXPECT_EQ(to[i], from[i]);
    } else if (wavelength > 8192.0) {
      ++divided;
      EXPECT_DOUBLE_EQ(to[i], from[i] / 8);
    } else {
      ++blended;
      const double s = (8192.0 / wavelength - 1) / 3;
      EXPECT_NEAR(to[i], from[i] * ((1 - s) / 8 + s), 1e-18);
    }
  }
  EXPECT_EQ(kept, 29);
  EXPECT_EQ(blended, 6);
  EXPECT_EQ(divided, 29);
}

TEST(RopeFrequencies, Factors) {
  RopeConfig with = config(8);
  with.frequency_factors = Tensor::from_values(std::vector<float>{1, 2, 4, 8}, {4});
  EXPECT_THAT(rope_frequencies(with), testing::Pointwise(testing::DoubleEq(), {1.0, 0.05, 0.0025, 0.000125}));
}

// Values of transformers 5.23, ROPE_INIT_FUNCTIONS, head size 8, theta 10000.
TEST(RopeFrequencies, Yarn) {
  RopeConfig yarn = config(8, 32768);
  yarn.scaling = RopeScaling::kYarn;
  yarn.factor = 4;
  yarn.original_context = 8192;
  EXPECT_THAT(rope_frequencies(yarn), testing::Pointwise(testing::DoubleNear(5e-9), {1.0, 0.10000000149011612, 0.007499999366700649, 0.0005000000237487257}));
  EXPECT_NEAR(rope_magnitude(yarn), 1.1386294361119891, 1e-12);
  yarn.attention_factor = 1.5;
  EXPECT_EQ(rope_magnitude(yarn), 1.5);
}

TEST(RopeFrequencies, Dynamic) {
  RopeConfig dynamic = config(8, 32768);
  dynamic.scaling = RopeScaling::kDynamic;
  dynamic.factor = 2;
  dynamic.original_context = 8192;
  dynamic.length = 16384;
  EXPECT_THAT(rope_frequencies(dynamic), testing::Pointwise(testing::DoubleNear(5e-9), {1.0, 0.06933612376451492, 0.0048074983060359955, 0.00033333332976326346}));
  dynamic.length = 100;  // within the original context nothing changes
  EXPECT_THAT(rope_frequencies(dynamic), testing::Pointwise(testing::DoubleNear(1e-12), rope_frequencies(config(8))));
}

TEST(RopeFrequencies, LongRope) {
  RopeConfig longrope = config(8, 32768);
  longrope.scaling = RopeScaling::kLongRope;
  longrope.factor = 4;
  longrope.original_context = 8192;
  longrope.short_factors = Tensor::from_values(std::vector<float>{1, 1.5f, 2, 2.5f}, {4});
  longrope.long_factors = Tensor::from_values(std::vector<float>{1, 3, 6, 9}, {4});
  EXPECT_THAT(rope_frequencies(longrope), testing::Pointwise(testing::DoubleNear(5e-9), {1.0, 0.1 / 3, 0.01 / 6, 0.001 / 9}));
  longrope.length = 8192;
  EXPECT_THAT(rope_frequencies(longrope), testing::Pointwise(testing::DoubleNear(5e-9), {1.0, 0.1 / 1.5, 0.005, 0.0004}));
  EXPECT_NEAR(rope_magnitude(longrope), std::sqrt(1 + std::log(4.0) / std::log(8192.0)), 1e-12);
  longrope.long_factors = Tensor();
  expect_error(longrope, "long_factors are missing");
}

TEST(RopeTable, CarriesTheMagnitude) {
  RopeConfig yarn = config(8, 32768);
  yarn.scaling = RopeScaling::kYarn;
  yarn.factor = 4;
  Context ctx;
  RopeTable table(yarn);
  table.ensure(ctx, 3);
  EXPECT_EQ(table.cos().data<float>()[0], static_cast<float>(rope_magnitude(yarn)));
}

TEST(RopeTable, HoldsTheAnglesRoundedOnce) {
  Context ctx(Device::cpu(), {3, default_isa()});
  RopeTable table(config());
  EXPECT_EQ(table.positions(), 0);
  EXPECT_EQ(table.half(), 32);
  table.ensure(ctx, 8192);
  ASSERT_EQ(table.positions(), 8192);
  EXPECT_EQ(table.cos().shape(), (Shape{8192, 32}));
  const std::vector<double> frequencies = rope_frequencies(config());
  for (const int64_t position : {0, 1, 2, 255, 256, 4095, 8191}) {
    for (int64_t i = 0; i < 32; ++i) {
      const double angle = static_cast<double>(position) * frequencies[static_cast<size_t>(i)];
      EXPECT_EQ(table.cos().data<float>()[position * 32 + i], static_cast<float>(std::cos(angle)));
      EXPECT_EQ(table.sin().data<float>()[position * 32 + i], static_cast<float>(std::sin(angle)));
    }
  }
}

TEST(RopeTable, GrowsOnDemandWithoutChangingRows) {
  Context one(Device::cpu(), {1, default_isa()});
  Context three(Device::cpu(), {3, default_isa()});
  RopeTable whole(config(16, 3000));
  whole.ensure(one, 3000);
  RopeTable grown(config(16, 3000));
  grown.ensure(three, 1);
  const Tensor early = grown.cos();
  EXPECT_EQ(grown.positions(), 256) << "one chunk";
  for (const int64_t positions : {0, 256, 257, 258, 1000, 2999, 3000}) {
    grown.ensure(three, positions);
    EXPECT_GE(grown.positions(), positions);
    EXPECT_LE(grown.positions(), 3000);
    const uint64_t bytes = grown.cos().bytes();
    EXPECT_EQ(std::memcmp(grown.cos().raw(), whole.cos().raw(), bytes), 0);
    EXPECT_EQ(std::memcmp(grown.sin().raw(), whole.sin().raw(), bytes), 0);
  }
  RopeTable step_by_step(config(16, 3000));
  step_by_step.ensure(one, 1024);
  step_by_step.ensure(one, 1025);
  EXPECT_EQ(step_by_step.positions(), 1536) << "grows by half, so that a loop over positions copies little";
  EXPECT_EQ(std::memcmp(early.raw(), whole.cos().raw(), early.bytes()), 0) << "views taken before growth stay valid";
}

TEST(RopeTable, NeverGrowsPastItsLimit) {
  Context ctx;
  RopeTable table(config(8, 100));
  table.ensure(ctx, 100);
  EXPECT_EQ(table.positions(), 100);
  for (const int64_t positions : {int64_t{101}, std::numeric_limits<int64_t>::max()}) {
    try {
      table.ensure(ctx, positions);
      ADD_FAILURE();
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kLimitExceeded);
      EXPECT_THAT(error.what(), testing::HasSubstr("is past the context of 100 positions"));
    }
  }
  EXPECT_THROW(table.ensure(ctx, -1), Error);
  EXPECT_EQ(table.positions(), 100);
}

TEST(RopeTable, ConfigsWithoutMeaning) {
  const auto changed = [](auto change) {
    RopeConfig result = config(8);
    result.scaling = RopeScaling::kLlama3;
    change(result);
    return result;
  };
  for (const int64_t dim : {int64_t{0}, int64_t{-2}, int64_t{7}, std::numeric_limits<int64_t>::max() - 1}) {
    expect_error(changed([&](RopeConfig& c) { c.rotary_dim = dim; }), "rotary_dim is");
  }
  for (const int64_t positions : {int64_t{0}, int64_t{-1}, std::numeric_limits<int64_t>::max()}) {
    expect_error(changed([&](RopeConfig& c) { c.max_positions = positions; }), "max_positions is");
  }
  for (const double bad : {0.0, -1.0, std::nan(""), std::numeric_limits<double>::infinity()}) {
    expect_error(changed([&](RopeConfig& c) { c.theta = bad; }), "theta is");
    expect_error(changed([&](RopeConfig& c) { c.factor = bad; }), "factor is");
    expect_error(changed([&](RopeConfig& c) { c.low_freq_factor = bad; }), "low_freq_factor is");
    expect_error(changed([&](RopeConfig& c) { c.high_freq_factor = bad; }), "high_freq_factor is");
    expect_error(changed([&](RopeConfig& c) {
                   c.frequency_factors = Tensor::from_values(std::vector<float>{1, 1, static_cast<float>(bad), 1}, {4});
                 }),
                 "an element of frequency_factors is");
  }
  expect_error(changed([](RopeConfig& c) { c.high_freq_factor = c.low_freq_factor; }), "expected more than low_freq_factor");
  expect_error(changed([](RopeConfig& c) { c.original_context = 0; }), "original_context is 0");
  expect_error(changed([](RopeConfig& c) { c.frequency_factors = Tensor::zeros({3}, DType::kF32); }),
               "frequency_factors are f32 [3], expected f32 [4]");
  expect_error(changed([](RopeConfig& c) { c.frequency_factors = Tensor::zeros({4}, DType::kF16); }), "frequency_factors are f16 [4]");
}

Tensor counting(const Shape& shape) {
  std::vector<float> values;
  for (int64_t i = 0; i < element_count(shape); ++i) values.push_back(static_cast<float>(i % 23) - 11);
  return Tensor::from_values(values, shape);
}

bool same(const Tensor& a, const Tensor& b) {
  return a.shape() == b.shape() && std::memcmp(a.contiguous().raw(), b.contiguous().raw(), a.bytes()) == 0;
}

TEST(Rotary, RotatesFromAPosition) {
  Context ctx;
  for (const bool interleaved : {false, true}) {
    Rotary rotary(config(16, 500), interleaved);
    const Tensor q = counting({2, 6, 5, 16});
    const Tensor k = counting({2, 3, 5, 16});
    const auto [rotated_q, rotated_k] = rotary.forward(ctx, q, k, 300);
    const Tensor cos = rotary.table().cos().slice(0, 300, 305);
    const Tensor sin = rotary.table().sin().slice(0, 300, 305);
    EXPECT_TRUE(same(rotated_q, interleaved ? ops::rope_i(ctx, q, cos, sin) : ops::rope(ctx, q, cos, sin)));
    EXPECT_TRUE(same(rotated_k, interleaved ? ops::rope_i(ctx, k, cos, sin) : ops::rope(ctx, k, cos, sin)));

    const std::vector<int32_t> positions = {300, 301, 302, 303, 304, 7, 499, 0, 7, 1};
    const Tensor shared = Tensor::from_memory(const_cast<int32_t*>(positions.data()), {5}, DType::kI32);
    EXPECT_TRUE(same(rotary.forward(ctx, q, k, shared).first, rotated_q));
    const Tensor per_row = Tensor::from_memory(const_cast<int32_t*>(positions.data()), {2, 5}, DType::kI32);
    const Tensor mixed = rotary.forward(ctx, q, k, per_row).second;
    EXPECT_TRUE(same(mixed.slice(0, 0, 1), rotated_k.slice(0, 0, 1)));
    const Tensor last = k.slice(0, 1, 2).slice(2, 1, 2);
    EXPECT_TRUE(same(mixed.slice(0, 1, 2).slice(2, 1, 2), rotary.forward(ctx, last, last, 499).first));
  }
}

TEST(Rotary, Misuse) {
  Context ctx;
  Rotary rotary(config(16, 500));
  const Tensor q = counting({1, 2, 5, 16});
  EXPECT_THROW(rotary.forward(ctx, q, q, -1), Error);
  EXPECT_THROW(rotary.forward(ctx, q, q, 496), Error);
  EXPECT_THROW(rotary.forward(ctx, q, q, std::numeric_limits<int64_t>::max()), Error);
  EXPECT_THROW(rotary.forward(ctx, q, counting({1, 2, 4, 16}), 0), Error);
  EXPECT_THROW(rotary.forward(ctx, q, Tensor(), 0), Error);
  EXPECT_THROW(rotary.forward(ctx, counting({1, 2, 5, 8}), q, 0), Error);
  EXPECT_THROW(rotary.forward(ctx, q, q, Tensor()), Error);
  EXPECT_THROW(rotary.forward(ctx, q, q, Tensor::zeros({4}, DType::kI32)), Error);
  EXPECT_THROW(rotary.forward(ctx, q, q, Tensor::zeros({5}, DType::kI64)), Error);
  int32_t outside[5] = {0, 1, 2, 3, 500};
  EXPECT_THROW(rotary.forward(ctx, q, q, Tensor::from_memory(outside, {5}, DType::kI32)), Error);
  outside[4] = -1;
  EXPECT_THROW(rotary.forward(ctx, q, q, Tensor::from_memory(outside, {5}, DType::kI32)), Error);
}

}  // namespace
}  // namespace wick::nn
