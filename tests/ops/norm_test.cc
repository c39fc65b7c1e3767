#include "wick/ops/norm.h"

#include "tests/ops/support.h"
#include "wick/ops/softmax.h"

namespace wick {
namespace {

using namespace test;  // NOLINT(google-build-using-namespace)

class LayerNormOnDevice : public OnDevice {};
WICK_ON_EVERY_DEVICE(LayerNormOnDevice);

class RmsNormOnDevice : public OnDevice {};
WICK_ON_EVERY_DEVICE(RmsNormOnDevice);

constexpr double kEps = 1e-5;

Tensor reference(const Tensor& x, const Tensor& w, double eps = kEps) {
  Context ctx;
  return ops::rms_norm(ctx, x.to(DType::kF64), w.to(DType::kF64), eps);
}

TEST_P(RmsNormOnDevice, Golden) {
  const Tensor x = Tensor::from_values(std::vector<float>{3, 1, 4, 1, 5, 9, 2, 1, 7, 8, 2, 8}, {2, 2, 3});
  const Tensor w = Tensor::from_values(std::vector<float>{1, 2, 3}, {3});
  const std::vector<double> expected = {1.019, .6794, 4.0762, .1674, 1.6744, 4.521, .4714, .4714, 4.9497, 1.206, .603, 3.6181};
  for (const auto& ctx : contexts(GetParam())) expect_values(ops::rms_norm(*ctx, on(*ctx, x), on(*ctx, w), kEps), expected, 5e-5);
  expect_values(reference(x, w), expected, 5e-5);
}

TEST_P(RmsNormOnDevice, MatchesTheSlowTwin) {
  for (const auto& ctx : contexts(GetParam())) {
    for (const DType type : kHalfAndSingle) {
      for (const DType weight_type : {type, DType::kF32}) {
        Nmse nmse;
        for (const int64_t n : kSizes) {
          const Tensor x = normal_tensor({5, n}, type, 1);
          const Tensor w = normal_tensor({n}, weight_type, 2);
          nmse.add(ops::rms_norm(*ctx, on(*ctx, x), on(*ctx, w), kEps), reference(x, w));
        }
        EXPECT_LE(nmse.error(), elementwise_bound(type)) << name_of(*ctx) << " " << dtype_name(type);
        EXPECT_GE(nmse.count(), 4096u);
      }
    }
  }
}

TEST_P(RmsNormOnDevice, LongRowsStayPrecise) {
  const Tensor x = normal_tensor({2, 1000003}, DType::kF32, 3);
  const Tensor w = normal_tensor({1000003}, DType::kF32, 4);
  const Tensor expected = reference(x, w);
  for (const auto& ctx : contexts(GetParam())) {
    Nmse nmse;
    nmse.add(ops::rms_norm(*ctx, on(*ctx, x), on(*ctx, w), kEps), expected);
    EXPECT_LE(nmse.error(), 1e-13) << name_of(*ctx);
  }
}

TEST(RmsNorm, ViewsAndInPlaceGiveTheSameBits) {
  for (const auto& ctx : contexts()) {
    for (const DType type : kHalfAndSingle) {
      for (const int64_t n : {1, 15, 65, 576}) {
        const Tensor x = normal_tensor({3, 4, n}, type, 5);
        const Tensor w = normal_tensor({n}, type, 6);
        const Tensor y = ops::rms_norm(*ctx, x, w, kEps);
        EXPECT_TRUE(same_bits(ops::rms_norm(*ctx, with_gaps(x), with_gaps(w), kEps), y));
        EXPECT_TRUE(same_bits(ops::rms_norm(*ctx, column_major(x), w, kEps), y));
        const Tensor gaps = with_gaps(x);
        ops::rms_norm(*ctx, gaps, w, kEps, gaps);
        EXPECT_TRUE(same_bits(gaps, y));
        const Tensor swapped = ops::rms_norm(*ctx, x.transpose(0, 1), w, kEps);
        EXPECT_TRUE(same_bits(swapped.transpose(0, 1), y));
      }
    }
  }
}

TEST(RmsNorm, RowsDoNotDependOnEachOther) {
  const Tensor x = normal_tensor({400, 577}, DType::kF32, 7);
  const Tensor w = normal_tensor({577}, DType::kF32, 8);
  const std::vector<std::unique_ptr<Context>> all = contexts();
  for (size_t i = 0; i < all.size(); i += 2) {
    const Tensor y = ops::rms_norm(*all[i], x, w, kEps);
    EXPECT_TRUE(same_bits(ops::rms_norm(*all[i + 1], x, w, kEps), y)) << name_of(*all[i + 1]);
    for (const int64_t row : {0, 1, 399}) {
      EXPECT_TRUE(same_bits(ops::rms_norm(*all[i], x.slice(0, row, row + 1), w, kEps), y.slice(0, row, row + 1)));
    }
  }
}

TEST(RmsNorm, EmptyAndSpecialRows) {
  Context ctx;
  const Tensor w = Tensor::from_values(std::vector<float>{1, 1}, {2});
  EXPECT_EQ(ops::rms_norm(ctx, Tensor::empty({0, 2}, DType::kF32), w, kEps).elements(), 0);
  EXPECT_EQ(ops::rms_norm(ctx, Tensor::empty({3, 0}, DType::kF32), Tensor::empty({0}, DType::kF32), kEps).elements(), 0);
  expect_values(ops::rms_norm(ctx, Tensor::zeros({2}, DType::kF32), w, kEps), {0, 0}, 0);
  const Tensor rows = Tensor::from_values(std::vector<float>{NAN, 1, 3, 4}, {2, 2});
  const std::vector<double> y = values_of(ops::rms_norm(ctx, rows, w, 0));
  EXPECT_TRUE(std::isnan(y[0]) && std::isnan(y[1]));
  EXPECT_NEAR(y[2], 3 / std::sqrt(12.5), 1e-6);
}

TEST(AddRmsNorm, IsAddThenNorm) {
  for (const auto& ctx : contexts()) {
    for (const DType type : kHalfAndSingle) {
      for (const int64_t n : kSizes) {
        const Tensor x = normal_tensor({3, n}, type, 9);
        const Tensor r = normal_tensor({3, n}, type, 10);
        const Tensor w = normal_tensor({n}, DType::kF32, 11).to(type);
        const std::vector<double> a = values_of(x), b = values_of(r);
        std::vector<float> sums;
        for (size_t i = 0; i < a.size(); ++i) sums.push_back(static_cast<float>(a[i]) + static_cast<float>(b[i]));
        const Tensor sum = Tensor::from_values(sums, {3, n}, type);

        const Tensor residual = with_gaps(r);
        const Tensor in_place = with_gaps(x);
        ops::add_rms_norm(*ctx, in_place, residual, w, kEps, in_place);
        EXPECT_TRUE(same_bits(residual, sum)) << name_of(*ctx) << " " << dtype_name(type) << " " << n;
        EXPECT_TRUE(same_bits(in_place, ops::rms_norm(*ctx, sum, w, kEps))) << name_of(*ctx) << " " << dtype_name(type) << " " << n;
      }
    }
  }
}

TEST(AddRmsNorm, F64) {
  Context ctx;
  const Tensor x = Tensor::from_values(std::vector<float>{1, 2}, {2}).to(DType::kF64);
  const Tensor r = Tensor::from_values(std::vector<float>{2, 2}, {2}).to(DType::kF64);
  const Tensor w = Tensor::from_values(std::vector<float>{1, 10}, {2}).to(DType::kF64);
  expect_values(ops::add_rms_norm(ctx, x, r, w, 0), {3 / std::sqrt(12.5), 40 / std::sqrt(12.5)}, 1e-15);
  expect_values(r, {3, 4}, 0);
}

TEST(RmsNorm, Misuse) {
  Context ctx;
  const Tensor x = Tensor::zeros({2, 4}, DType::kF32);
  const Tensor w = Tensor::zeros({4}, DType::kF32);
  const Tensor y = Tensor::zeros({2, 4}, DType::kF32);
  const struct {
    Tensor x, w, y;
    double eps;
    const char* text;
  } cases[] = {
      {Tensor(), w, y, kEps, "rms_norm: x is an empty handle"},
      {x, Tensor(), y, kEps, "rms_norm: w is an empty handle"},
      {Tensor::zeros({}, DType::kF32), w, y, kEps, "x has rank 0"},
      {Tensor::zeros({2, 4}, DType::kI32), w, y, kEps, "x is i32"},
      {x, Tensor::zeros({3}, DType::kF32), y, kEps, "w is [3], expected [4]"},
      {x, Tensor::zeros({1, 4}, DType::kF32), y, kEps, "w is [1, 4], expected [4]"},
      {x, Tensor::zeros({4}, DType::kF16), y, kEps, "w is f16, expected f32"},
      {x, w, Tensor::zeros({2, 5}, DType::kF32), kEps, "y is [2, 5], expected [2, 4]"},
      {x, w, Tensor::zeros({2, 4}, DType::kF16), kEps, "y is f16, expected f32"},
      {x, w, Tensor::zeros({4, 2}, DType::kF32).transpose(0, 1), kEps, "y has stride 2 in its last dimension"},
      {x, w, y, -1, "eps is -1"},
      {x, w, y, NAN, "eps is nan"},
      {x, w, y, INFINITY, "eps is inf"},
  };
  for (const auto& c : cases) expect_error([&] { ops::rms_norm(ctx, c.x, c.w, c.eps, c.y); }, c.text);
  expect_error([&] { ops::add_rms_norm(ctx, x, x, w, kEps, y); }, "add_rms_norm: r overlaps x");
  expect_error([&] { ops::add_rms_norm(ctx, x, y, w, kEps, y); }, "add_rms_norm: y overlaps r");
  expect_error([&] { ops::add_rms_norm(ctx, x, Tensor::zeros({4}, DType::kF32), w, kEps, y); }, "r is [4], expected [2, 4]");
}

Tensor layer_reference(const Tensor& x, const Tensor& w, const Tensor& b) {
  Context ctx;
  return ops::layer_norm(ctx, x.to(DType::kF64), w.to(DType::kF64), b.to(DType::kF64), kEps);
}

TEST_P(LayerNormOnDevice, ARowDoesNotDependOnTheBatch) {
  const auto ctx = test::batch_invariant_context(GetParam());
  for (const DType type : test::kHalfAndSingle) {
    for (const int64_t size : {100, 576, 2048, 4096, 9000}) {
      const Tensor x = test::on(*ctx, test::normal_tensor({600, size}, type, 1)), w = test::on(*ctx, test::normal_tensor({size}, type, 2)),
                   b = test::on(*ctx, test::normal_tensor({size}, type, 3));
      const Tensor normed = ops::layer_norm(*ctx, x, w, b, 1e-5), scaled = ops::rms_norm(*ctx, x, w, 1e-5),
                   shares = ops::softmax_last_dim(*ctx, x);
      test::for_chunks(600, {1, 65, 513}, [&](int64_t first, int64_t rows) {
        const Tensor part = x.slice(0, first, first + rows);
        const auto expect_same = [&](const Tensor& all, const Tensor& own, const char* op) {
          EXPECT_TRUE(test::same_bits(all.slice(0, first, first + rows).to(Device::cpu()).contiguous(), own.to(Device::cpu())))
              << op << " " << dtype_name(type) << " " << size << ": " << rows << " rows at " << first;
        };
        expect_same(normed, ops::layer_norm(*ctx, part, w, b, 1e-5), "layer_norm");
        expect_same(scaled, ops::rms_norm(*ctx, part, w, 1e-5), "rms_norm");
        expect_same(shares, ops::softmax_last_dim(*ctx, part), "softmax");
      });
    }
  }
}

TEST_P(LayerNormOnDevice, Golden) {
  const Tensor x = Tensor::from_values(std::vector<float>{3, 1, 4, 1, 5, 9, 2, 1, 7, 8, 2, 8}, {2, 2, 3});
  const Tensor w = Tensor::from_values(std::vector<float>{1, 2, 3}, {3});
  const Tensor b = Tensor::from_values(std::vector<float>{.5f, 0, -.2f}, {3});
  const std::vector<double> expected = {.7673, -2.6726, 3.0071, -.7247, 0, 3.4742, -.008, -1.778, 3.991, 1.2071, -2.8284, 1.9213};
  for (const auto& ctx : contexts(GetParam())) expect_values(ops::layer_norm(*ctx, on(*ctx, x), on(*ctx, w), on(*ctx, b), kEps), expected, 6e-5);
  expect_values(layer_reference(x, w, b), expected, 6e-5);
}

TEST_P(LayerNormOnDevice, MatchesTheSlowTwin) {
  for (const auto& ctx : contexts(GetParam())) {
    for (const DType type : kHalfAndSingle) {
      for (const DType weight_type : {type, DType::kF32}) {
        Nmse nmse;
        for (const int64_t n : kSizes) {
          const Tensor x = normal_tensor({5, n}, type, 1);
          const Tensor w = normal_tensor({n}, weight_type, 2), b = normal_tensor({n}, weight_type, 3);
          nmse.add(ops::layer_norm(*ctx, on(*ctx, x), on(*ctx, w), on(*ctx, b), kEps), layer_reference(x, w, b));
        }
        EXPECT_LE(nmse.error(), elementwise_bound(type)) << name_of(*ctx) << " " << dtype_name(type);
      }
    }
  }
}

// One pass, E[x^2] - E[x]^2, in f32 gives no digit here; two passes with an uncorrected mean miss the bound.
TEST_P(LayerNormOnDevice, AMeanFarFromZeroCostsNothing) {
  const int64_t n = 4096;
  std::vector<float> values;
  for (const double value : values_of(normal_tensor({4, n}, DType::kF32, 4))) values.push_back(static_cast<float>(value + 1e4));
  const Tensor x = Tensor::from_values(values, {4, n});
  const Tensor w = normal_tensor({n}, DType::kF32, 5), b = normal_tensor({n}, DType::kF32, 6);
  const Tensor expected = layer_reference(x, w, b);
  float sum = 0, squares = 0;
  for (int64_t i = 0; i < n; ++i) {
    sum += values[static_cast<size_t>(i)];
    squares += values[static_cast<size_t>(i)] * values[static_cast<size_t>(i)];
  }
  const float mean = sum / static_cast<float>(n);
  EXPECT_GT(std::fabs(squares / static_cast<float>(n) - mean * mean - 1.0f), 0.5f);  // the faulty way's variance; the true one is near 1
  for (const auto& ctx : contexts(GetParam())) {
    Nmse nmse;
    nmse.add(ops::layer_norm(*ctx, on(*ctx, x), on(*ctx, w), on(*ctx, b), kEps), expected);
    EXPECT_LE(nmse.error(), 1e-12) << name_of(*ctx);
  }
}

// The first elements stand in for the mean: when they lie far from it, or hold all of the row's spread, nothing may cancel.
TEST_P(LayerNormOnDevice, FirstElementsFarFromTheMeanCostNothing) {
  constexpr int64_t n = 2048;
  const Tensor w = normal_tensor({n}, DType::kF32, 5), b = normal_tensor({n}, DType::kF32, 6);
  for (const DType type : kHalfAndSingle) {
    for (const float far : {30.0f, -1e4f}) {
      for (const int64_t count : {1, 16, 40}) {
        Tensor x = normal_tensor({4, n}, DType::kF32, 4);
        for (int64_t row = 0; row < 4; ++row) {
          for (int64_t i = 0; i < count; ++i) x.data<float>()[row * n + i] += far;
        }
        x = x.to(type);
        const Tensor expected = layer_reference(x, w, b);
        for (const auto& ctx : contexts(GetParam())) {
          Nmse nmse;
          nmse.add(ops::layer_norm(*ctx, on(*ctx, x), on(*ctx, w), on(*ctx, b), kEps), expected);
          EXPECT_LE(nmse.error(), type == DType::kF32 ? 1e-12 : elementwise_bound(type))
              << far << " " << count << " " << dtype_name(type) << " " << name_of(*ctx);
        }
      }
    }
  }
}

// More rows than a GPU has multiprocessors: its blocks take several, one after the other.
TEST_P(LayerNormOnDevice, ManyRows) {
  for (const DType type : kHalfAndSingle) {
    for (const int64_t n : {40, 2048}) {
      const Tensor x = normal_tensor({1501, n}, type, 1), w = normal_tensor({n}, type, 2), b = normal_tensor({n}, type, 3);
      const Tensor expected = layer_reference(x, w, b), expected_rms = reference(x, w);
      for (const auto& ctx : contexts(GetParam())) {
        const Tensor all = on(*ctx, x), weight = on(*ctx, w);
        Nmse layer, rms;
        layer.add(ops::layer_norm(*ctx, all, weight, on(*ctx, b), kEps), expected);
        rms.add(ops::rms_norm(*ctx, all, weight, kEps), expected_rms);
        EXPECT_LE(layer.error(), elementwise_bound(type)) << n << " " << dtype_name(type) << " " << name_of(*ctx);
        EXPECT_LE(rms.error(), elementwise_bound(type)) << n << " " << dtype_name(type) << " " << name_of(*ctx);
      }
    }
  }
}

TEST(LayerNorm, ViewsInPlaceNoBiasAndThreads) {
  const std::vector<std::unique_ptr<Context>> all = contexts();
  for (size_t i = 0; i < all.size(); ++i) {
    Context& ctx = *all[i];
    for (const DType type : kHalfAndSingle) {
      for (const int64_t n : {1, 15, 65, 576}) {
        const Tensor x = normal_tensor({30, 4, n}, type, 5);
        const Tensor w = normal_tensor({n}, type, 6), b = normal_tensor({n}, type, 7);
        const Tensor y = ops::layer_norm(ctx, x, w, b, kEps);
        EXPECT_TRUE(same_bits(ops::layer_norm(ctx, with_gaps(x), with_gaps(w), with_gaps(b), kEps), y));
        EXPECT_TRUE(same_bits(ops::layer_norm(ctx, column_major(x), w, b, kEps), y));
        EXPECT_TRUE(same_bits(ops::layer_norm(ctx, x, w, kEps), ops::layer_norm(ctx, x, w, Tensor::zeros({n}, type), kEps)));
        const Tensor gaps = with_gaps(x);
        ops::layer_norm(ctx, gaps, w, b, kEps, gaps);
        EXPECT_TRUE(same_bits(gaps, y));
        EXPECT_TRUE(same_bits(ops::layer_norm(*all[i / 2 * 2], x, w, b, kEps), y)) << name_of(ctx);  // any number of threads
      }
    }
    const Tensor w = Tensor::from_values(std::vector<float>{1, 1}, {2});
    EXPECT_EQ(ops::layer_norm(ctx, Tensor::empty({0, 2}, DType::kF32), w, w, kEps).elements(), 0);
    expect_values(ops::layer_norm(ctx, Tensor::from_values(std::vector<float>{3e38f, 3e38f}, {2}), w, w, kEps), {1, 1}, 0);
  }
}

TEST(LayerNorm, Misuse) {
  Context ctx;
  const Tensor x = Tensor::zeros({2, 4}, DType::kF32), w = Tensor::zeros({4}, DType::kF32);
  expect_error([&] { ops::layer_norm(ctx, x, w, Tensor::zeros({3}, DType::kF32), kEps); }, "layer_norm: b is [3], expected [4]");
  expect_error([&] { ops::layer_norm(ctx, x, w, Tensor::zeros({4}, DType::kF16), kEps); }, "layer_norm: b is f16, expected f32");
  expect_error([&] { ops::layer_norm(ctx, x, Tensor(), w, kEps); }, "layer_norm: w is an empty handle");
  expect_error([&] { ops::layer_norm(ctx, x, w, w, NAN); }, "layer_norm: eps is nan");
}

}  // namespace
}  // namespace wick
