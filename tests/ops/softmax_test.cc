#include "wick/ops/softmax.h"

#include "tests/ops/support.h"

namespace wick {
namespace {

using namespace test;  // NOLINT(google-build-using-namespace)

class LogSoftmaxOnDevice : public OnDevice {};
WICK_ON_EVERY_DEVICE(LogSoftmaxOnDevice);

class SoftmaxOnDevice : public OnDevice {};
WICK_ON_EVERY_DEVICE(SoftmaxOnDevice);

TEST_P(SoftmaxOnDevice, Golden) {
  const Tensor x = Tensor::from_values(std::vector<float>{0, 1, 0, 1, -2, 2, 3, -3}, {2, 4});
  for (const auto& ctx : contexts(GetParam())) {
    expect_values(ops::softmax(*ctx, on(*ctx, x), 1), {.1345, .3655, .1345, .3655, .0049, .2671, .7262, .0018}, 5e-5);
    expect_values(ops::softmax(*ctx, on(*ctx, Tensor::from_values(std::vector<float>{1234, 0}, {2})), 0), {1, 0}, 0);
    // Down the columns: each of 2 elements, 1 / (1 + e^(b - a)).
    const std::vector<double> y = values_of(ops::softmax(*ctx, on(*ctx, x), 0));
    EXPECT_NEAR(y[0], 1 / (1 + std::exp(-2.0)), 1e-6);
    EXPECT_NEAR(y[7], 1 / (1 + std::exp(4.0)), 1e-6);
  }
}

TEST_P(SoftmaxOnDevice, MatchesTheSlowTwin) {
  Context plain;
  for (const auto& ctx : contexts(GetParam())) {
    for (const DType type : kHalfAndSingle) {
      Nmse nmse;
      for (const int64_t n : kSizes) {
        const Tensor x = normal_tensor({3, n}, type, 1);
        nmse.add(ops::softmax_last_dim(*ctx, on(*ctx, x)), ops::softmax_last_dim(plain, x.to(DType::kF64)));
      }
      EXPECT_LE(nmse.error(), elementwise_bound(type)) << name_of(*ctx) << " " << dtype_name(type);
    }
  }
}

TEST(Softmax, AnyDimensionAnyView) {
  for (const auto& ctx : contexts()) {
    for (const DType type : kHalfAndSingle) {
      const Tensor x = normal_tensor({3, 17, 5, 33}, type, 2);
      for (int dim = 0; dim < 4; ++dim) {
        const Tensor expected = ops::softmax_last_dim(*ctx, x.transpose(dim, 3).contiguous()).transpose(dim, 3);
        EXPECT_TRUE(same_bits(ops::softmax(*ctx, x, dim), expected)) << name_of(*ctx) << " dim " << dim;
        EXPECT_TRUE(same_bits(ops::softmax(*ctx, column_major(x), dim - 4), expected));
        const Tensor gaps = with_gaps(x);
        ops::softmax(*ctx, gaps, dim, gaps);
        EXPECT_TRUE(same_bits(gaps, expected));
      }
    }
  }
}

TEST(Softmax, RowsDoNotDependOnEachOther) {
  const Tensor x = normal_tensor({300, 333}, DType::kF16, 3);
  const std::vector<std::unique_ptr<Context>> all = contexts();
  for (size_t i = 0; i < all.size(); i += 2) {
    const Tensor y = ops::softmax_last_dim(*all[i], x);
    EXPECT_TRUE(same_bits(ops::softmax_last_dim(*all[i + 1], x), y));
    EXPECT_TRUE(same_bits(ops::softmax_last_dim(*all[i], x.slice(0, 299, 300)), y.slice(0, 299, 300)));
  }
}

// Candle sums half types in the half type, where 2048 + 1 is 2048.
TEST_P(SoftmaxOnDevice, LongRowsOfHalves) {
  for (const auto& ctx : contexts(GetParam())) {
    for (const DType type : kHalfAndSingle) {
      const Tensor x = Tensor::from_values(std::vector<float>(100000, 0.5f), {100000}, type);
      const double expected = values_of(Tensor::from_values(std::vector<float>{1e-5f}, {1}, type))[0];
      for (const double y : values_of(ops::softmax(*ctx, on(*ctx, x), 0))) ASSERT_DOUBLE_EQ(y, expected);
    }
  }
}

TEST_P(SoftmaxOnDevice, LongRowsOfDifferentValues) {
  Context plain;
  const Tensor x = normal_tensor({300007}, DType::kF32, 4);
  const Tensor expected = ops::softmax(plain, x.to(DType::kF64), 0);
  for (const auto& ctx : contexts(GetParam())) {
    Nmse nmse;
    nmse.add(ops::softmax(*ctx, on(*ctx, x), 0), expected);
    EXPECT_LE(nmse.error(), 1e-13) << name_of(*ctx);
  }
}

TEST(Softmax, Specials) {
  constexpr float kInf = INFINITY;
  for (const auto& ctx : contexts()) {
    for (const DType type : {DType::kF32, DType::kF16, DType::kBF16, DType::kF64}) {
      const auto softmax = [&](std::vector<float> values) {
        const Shape shape{static_cast<int64_t>(values.size())};
        return values_of(ops::softmax(*ctx, Tensor::from_values(values, shape).to(type), -1));
      };
      EXPECT_THAT(softmax({-kInf, 0, -kInf}), testing::ElementsAre(0, 1, 0));
      EXPECT_THAT(softmax({-3e4f, 3e4f}), testing::ElementsAre(0, 1));
      EXPECT_THAT(softmax({7}), testing::ElementsAre(1));
      for (const double y : softmax(std::vector<float>(37, -kInf))) EXPECT_TRUE(std::isnan(y));
      for (const size_t at : {size_t{0}, size_t{20}, size_t{36}}) {
        std::vector<float> values(37, 1.0f);
        values[at] = NAN;
        for (const double y : softmax(values)) EXPECT_TRUE(std::isnan(y)) << name_of(*ctx) << " NaN at " << at;
      }
      std::vector<float> negative(19, -200.0f);  // padding must not win over values below zero
      for (const double y : softmax(negative)) EXPECT_NEAR(y, 1.0 / 19, 3e-4);
    }
    EXPECT_EQ(ops::softmax(*ctx, Tensor::empty({3, 0}, DType::kF32), 1).elements(), 0);
  }
}

TEST(Softmax, Misuse) {
  Context ctx;
  const Tensor x = Tensor::zeros({2, 4}, DType::kF32);
  expect_error([&] { ops::softmax(ctx, Tensor(), 0); }, "softmax: x is an empty handle");
  expect_error([&] { ops::softmax(ctx, Tensor::zeros({}, DType::kF32), 0); }, "softmax: x has rank 0");
  for (const int dim : {2, -3, 1 << 30, -(1 << 30)}) {
    expect_error([&] { ops::softmax(ctx, x, dim); }, "softmax: dim is " + std::to_string(dim) + ", expected -2 to 1");
  }
  expect_error([&] { ops::softmax(ctx, x, 0, Tensor::zeros({4, 2}, DType::kF32)); }, "softmax: y is [4, 2], expected [2, 4]");
  expect_error([&] { ops::softmax(ctx, x, 0, Tensor::zeros({2, 4}, DType::kF64)); }, "softmax: y is f64, expected f32");
  expect_error([&] { ops::softmax(ctx, Tensor::zeros({2, 4}, DType::kI64), 0); }, "softmax: x is i64");
}

TEST(LogSoftmax, MatchesTheSlowTwinInEveryDimensionAndView) {
  Context plain;
  for (const auto& ctx : contexts()) {
    for (const DType type : kHalfAndSingle) {
      Nmse nmse;
      for (const int64_t n : kSizes) {
        const Tensor x = normal_tensor({3, n}, type, 4);
        nmse.add(ops::log_softmax(*ctx, x, -1), ops::log_softmax(plain, x.to(DType::kF64), -1));
      }
      EXPECT_LE(nmse.error(), elementwise_bound(type)) << name_of(*ctx) << " " << dtype_name(type);
      const Tensor x = normal_tensor({3, 17, 33}, type, 5);
      for (int dim = 0; dim < 3; ++dim) {
        const Tensor expected = ops::log_softmax(*ctx, x.transpose(dim, 2).contiguous(), -1).transpose(dim, 2);
        EXPECT_TRUE(same_bits(ops::log_softmax(*ctx, x, dim), expected)) << name_of(*ctx) << " dim " << dim;
        const Tensor gaps = with_gaps(x);
        ops::log_softmax(*ctx, gaps, dim - 3, gaps);
        EXPECT_TRUE(same_bits(gaps, expected));
      }
    }
  }
}

// Near 1 a probability's logarithm is as small as the other probabilities: an error of the largest exponential would be all of it.
TEST(LogSoftmax, IsExactWhereOneElementRules) {
  Context plain;
  for (const auto& ctx : contexts()) {
    for (const DType type : kHalfAndSingle) {
      for (const int64_t n : {2, 5, 33, 200}) {
        std::vector<float> values(static_cast<size_t>(n), -5);
        values[static_cast<size_t>(n / 2)] = 3;
        const Tensor x = Tensor::from_values(values, {1, n}).to(type);
        const auto expected = values_of(ops::log_softmax(plain, x.to(DType::kF64), -1)), found = values_of(ops::log_softmax(*ctx, x, -1));
        const double bound = type == DType::kBF16 ? 0x1p-8 : 0x1p-10;
        for (size_t i = 0; i < found.size(); ++i) {
          EXPECT_NEAR(found[i] / expected[i], 1, bound) << name_of(*ctx) << " " << dtype_name(type) << " " << n << ", element " << i;
        }
      }
    }
  }
}

// The logarithm of a probability that is zero in f32.
TEST_P(LogSoftmaxOnDevice, KeepsWhatSoftmaxLoses) {
  for (const auto& ctx : contexts(GetParam())) {
    expect_values(ops::log_softmax(*ctx, on(*ctx, Tensor::from_values(std::vector<float>{1000, 0, 1000}, {3})), 0), {-0.69314718, -1000.69314718, -0.69314718}, 1e-4);
    for (const double value : values_of(ops::log_softmax(*ctx, on(*ctx, Tensor::from_values(std::vector<float>{1, NAN}, {2})), 0))) EXPECT_TRUE(std::isnan(value));
  }
  Context ctx;
  expect_error([&] { ops::log_softmax(ctx, Tensor::zeros({2, 3}, DType::kF32), 2); }, "log_softmax: dim is 2, expected -2 to 1");
}

}  // namespace
}  // namespace wick
