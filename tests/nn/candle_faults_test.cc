// The faults of Candle's ops that wick's must not have: for each the wrong answer that the faulty way gives, and that ours is the right one.
#include <gtest/gtest.h>

#include "tests/ops/support.h"
#include "wick/nn/kv_cache.h"
#include "wick/ops/attention.h"
#include "wick/ops/linear.h"
#include "wick/ops/matmul.h"
#include "wick/ops/norm.h"
#include "wick/ops/rope.h"
#include "wick/ops/softmax.h"
#include "wick/tensor/half.h"

namespace wick::nn {
namespace {

using namespace test;  // NOLINT(google-build-using-namespace)

Tensor angles(int64_t batch, int64_t positions, int64_t half, double (*function)(double)) {
  Tensor table = Tensor::empty({batch, positions, half}, DType::kF32);
  for (int64_t i = 0; i < table.elements(); ++i) table.data<float>()[i] = static_cast<float>(function(0.37 * static_cast<double>(i + 1)));
  return table;
}

// Tables of rank 3 with more positions than x has: stepping T rows for each row of the batch reads the first row's table on and on.
TEST(CandleFaults, RopeStepsWholeTablesFromRowToRow) {
  Context ctx;
  const int64_t batch = 3, rows = 4, positions = 6, half = 8;
  const Tensor x = normal_tensor({batch, 2, rows, 16}, DType::kF32, 1);
  const Tensor cos = angles(batch, positions, half, std::cos), sin = angles(batch, positions, half, std::sin);
  const Tensor y = ops::rope(ctx, x, cos, sin);
  for (int64_t b = 0; b < batch; ++b) {
    const auto own = [&](const Tensor& table) { return table.slice(0, b, b + 1).reshape({positions, half}); };
    const auto faulty = [&](const Tensor& table) { return table.reshape({batch * positions, half}).slice(0, b * rows, (b + 1) * rows); };
    EXPECT_TRUE(same_bits(y.slice(0, b, b + 1), ops::rope(ctx, x.slice(0, b, b + 1), own(cos), own(sin))));
    EXPECT_EQ(same_bits(y.slice(0, b, b + 1), ops::rope(ctx, x.slice(0, b, b + 1), faulty(cos), faulty(sin))), b == 0);
  }
}

// A table for each row beside one for all: using row 0 of the former for all is silently wrong.
TEST(CandleFaults, RopeRefusesTablesOfDifferentRank) {
  Context ctx;
  const Tensor x = normal_tensor({2, 1, 4, 16}, DType::kF32, 1);
  const Tensor cos = angles(2, 4, 8, std::cos), sin = angles(1, 4, 8, std::sin).reshape({4, 8});
  expect_error([&] { ops::rope(ctx, x, cos, sin); }, "rope: ");
  expect_error([&] { ops::rope_i(ctx, x, sin, cos); }, "rope_i: ");
}

// There was no interleaved form for (B, T, H, Dh), and rope_thd is not it.
TEST(CandleFaults, BothPairingsExistInBothLayouts) {
  Context ctx;
  const Tensor x = normal_tensor({1, 5, 3, 16}, DType::kF32, 2);
  const Tensor cos = angles(1, 5, 8, std::cos).reshape({5, 8}), sin = angles(1, 5, 8, std::sin).reshape({5, 8});
  EXPECT_TRUE(same_bits(ops::rope_i_thd(ctx, x, cos, sin), ops::rope_i(ctx, x.transpose(1, 2), cos, sin).transpose(1, 2)));
  EXPECT_FALSE(same_bits(ops::rope_i_thd(ctx, x, cos, sin), ops::rope_thd(ctx, x, cos, sin)));
}

// Sums in f16 stop at 2048: adding 1 no longer changes them.
TEST(CandleFaults, SoftmaxSumsHalfTypesInSinglePrecision) {
  Context ctx;
  const int64_t n = 100000;
  const Tensor y = ops::softmax_last_dim(ctx, Tensor::zeros({n}, DType::kF16));
  EXPECT_EQ(values_of(y)[0], static_cast<float>(F16(1.0f / static_cast<float>(n))));
  F16 sum(0.0f);
  for (int64_t i = 0; i < n; ++i) sum = F16(static_cast<float>(sum) + 1.0f);
  EXPECT_EQ(static_cast<float>(sum), 2048.0f);  // the faulty way: each probability 50 times too large
}

// Rounding after each step instead of once.
TEST(CandleFaults, HalfTypesAreRoundedOnce) {
  Context ctx;
  const Tensor x = normal_tensor({64, 512}, DType::kBF16, 3), w = normal_tensor({512}, DType::kBF16, 4);
  const Tensor expected = ops::rms_norm(ctx, x.to(DType::kF64), w.to(DType::kF64), 1e-5);
  const Tensor faulty = Tensor::empty(x.shape(), DType::kBF16);
  for (int64_t r = 0; r < 64; ++r) {
    const BF16* row = x.data<BF16>() + r * 512;
    BF16 sum(0.0f);
    for (int64_t i = 0; i < 512; ++i) sum = BF16(static_cast<float>(sum) + static_cast<float>(BF16(static_cast<float>(row[i]) * static_cast<float>(row[i]))));
    const float scale = 1 / std::sqrt(static_cast<float>(sum) / 512 + 1e-5f);
    for (int64_t i = 0; i < 512; ++i) {
      faulty.data<BF16>()[r * 512 + i] = BF16(static_cast<float>(BF16(static_cast<float>(row[i]) * scale)) * static_cast<float>(w.data<BF16>()[i]));
    }
  }
  Nmse ours, theirs;
  ours.add(ops::rms_norm(ctx, x, w, 1e-5), expected);
  theirs.add(faulty, expected);
  EXPECT_LE(ours.error(), 2e-5);
  EXPECT_GT(theirs.error(), 2e-5);
}

// E[x^2] - E[x]^2 in one pass cancels where the mean is far from zero.
TEST(CandleFaults, LayerNormDoesNotCancel) {
  Context ctx;
  const int64_t n = 4096;
  Tensor x = normal_tensor({n}, DType::kF32, 5);
  float sum = 0, squares = 0;
  for (int64_t i = 0; i < n; ++i) {
    float& value = x.data<float>()[i];
    value += 1e4f;
    sum += value;
    squares += value * value;
  }
  const Tensor one = Tensor::from_values(std::vector<float>(n, 1.0f), {n});
  Nmse nmse;
  nmse.add(ops::layer_norm(ctx, x, one, 0), ops::layer_norm(ctx, x.to(DType::kF64), one.to(DType::kF64), 0));
  EXPECT_LE(nmse.error(), 1e-12);
  const float mean = sum / n;
  EXPECT_GT(std::fabs(squares / n - mean * mean - 1), 0.5f);  // a variance of 1, as the faulty way sees it
}

// Refused there: rank 1 and 5 or more, bf16 products on the CPU.
TEST(CandleFaults, LinearAndMatmulTakeWhatTheyShould) {
  Context ctx;
  const Tensor w = normal_tensor({6, 32}, DType::kBF16, 6);
  for (const Shape& shape : {Shape{32}, Shape{1, 2, 1, 3, 32}, Shape{1, 1, 2, 1, 1, 32}}) {
    const Tensor y = ops::linear(ctx, normal_tensor(shape, DType::kBF16, 7), w);
    EXPECT_EQ(y.rank(), shape.rank());
    EXPECT_EQ(y.dim(-1), 6);
  }
  EXPECT_EQ(ops::matmul(ctx, w, w.transpose(0, 1)).shape(), Shape({6, 6}));
}

// A ring of 6 after 3, 1 and 4 positions. Its slots hold 6 7 2 3 4 5, and the faulty one says so while its data are in order; rows of a
// prompt as long as the window were let see one position too many; and position 2, which row 4 must see, was overwritten before it did.
TEST(CandleFaults, RotatingCache) {
  Context ctx;
  const auto positions = [](int64_t first, int64_t count) {
    Tensor t = Tensor::empty({1, 1, count, 1}, DType::kF32);
    for (int64_t i = 0; i < count; ++i) t.data<float>()[i] = static_cast<float>(first + i);
    return t;
  };
  RotatingKvCache cache(2, 6);
  cache.append(ctx, positions(0, 3), positions(0, 3));
  cache.append(ctx, positions(3, 1), positions(3, 1));
  const Tensor mask = cache.mask(4);
  const Tensor k = cache.append(ctx, positions(4, 4), positions(4, 4)).first;
  std::vector<float> faulty(6);
  for (int64_t p = 0; p < 8; ++p) faulty[static_cast<size_t>(p % 6)] = static_cast<float>(p);
  EXPECT_EQ(faulty, (std::vector<float>{6, 7, 2, 3, 4, 5}));
  const std::vector<double> kept = values_of(cache.k());
  const std::vector<int64_t> said = cache.positions();
  for (size_t i = 0; i < 6; ++i) EXPECT_EQ(static_cast<double>(said[i]), kept[i]);
  EXPECT_EQ(values_of(k), (std::vector<double>{0, 1, 2, 3, 4, 5, 6, 7}));  // what the four rows see together

  // T >= window: each row of the mask lets through at most `window` positions, here exactly for all but the first rows.
  for (int64_t t = 0; t < 4; ++t) {
    int64_t seen = 0;
    for (int64_t j = 0; j < mask.dim(1); ++j) seen += mask.data<float>()[t * mask.dim(1) + j] == 0;
    EXPECT_EQ(seen, std::min<int64_t>(6, 5 + t)) << t;
  }
  RotatingKvCache fresh(2, 3);
  const Tensor long_mask = fresh.mask(10);
  for (int64_t t = 0; t < 10; ++t) {
    int64_t seen = 0;
    for (int64_t j = 0; j < 10; ++j) seen += long_mask.data<float>()[t * 10 + j] == 0;
    EXPECT_EQ(seen, std::min<int64_t>(3, t + 1)) << t;
  }
}

}  // namespace
}  // namespace wick::nn
