#include "wick/ops/activation.h"

#include "tests/ops/support.h"

namespace wick {
namespace {

using namespace test;  // NOLINT(google-build-using-namespace)

TEST(Silu, KnownValues) {
  const Tensor x = Tensor::from_values(std::vector<float>{0, 1, -1, 5, -5, 100, -100, INFINITY, 20, -20}, {10});
  for (const auto& ctx : contexts()) {
    const std::vector<double> y = values_of(ops::silu(*ctx, x));
    const std::vector<double> in = values_of(x);
    for (size_t i = 0; i < in.size(); ++i) {
      const double expected = in[i] / (1 + std::exp(-in[i]));
      if (std::isinf(expected)) {
        EXPECT_EQ(y[i], expected);
      } else {
        EXPECT_NEAR(y[i], expected, 3e-7 * std::fabs(expected) + 1e-38) << in[i] << " " << name_of(*ctx);
      }
    }
    for (const float special : {-INFINITY, NAN}) {
      EXPECT_TRUE(std::isnan(values_of(ops::silu(*ctx, Tensor::from_values(std::vector<float>{special}, {1})))[0]));
    }
  }
}

TEST(Silu, MatchesTheSlowTwin) {
  Context plain;
  for (const auto& ctx : contexts()) {
    for (const DType type : kHalfAndSingle) {
      Nmse nmse;
      for (const int64_t n : kSizes) {
        const Tensor x = normal_tensor({3, n}, type, 1);
        nmse.add(ops::silu(*ctx, x), ops::silu(plain, x.to(DType::kF64)));
      }
      EXPECT_LE(nmse.error(), elementwise_bound(type)) << name_of(*ctx) << " " << dtype_name(type);
    }
  }
}

TEST(Silu, ViewsInPlaceAndRanks) {
  for (const auto& ctx : contexts()) {
    for (const DType type : kHalfAndSingle) {
      const Tensor x = normal_tensor({5, 3, 67}, type, 2);
      const Tensor y = ops::silu(*ctx, x);
      EXPECT_TRUE(same_bits(ops::silu(*ctx, with_gaps(x)), y));
      EXPECT_TRUE(same_bits(ops::silu(*ctx, column_major(x)), y));
      const Tensor gaps = with_gaps(x);
      ops::silu(*ctx, gaps, gaps);
      EXPECT_TRUE(same_bits(gaps, y));
      EXPECT_TRUE(same_bits(ops::silu(*ctx, x.slice(2, 13, 15)), y.slice(2, 13, 15)));
      ops::silu(*ctx, x, x);
      EXPECT_TRUE(same_bits(x, y));
    }
    expect_values(ops::silu(*ctx, Tensor::from_values(std::vector<float>{1}, {})), {0.731058579}, 1e-7);
    EXPECT_EQ(ops::silu(*ctx, Tensor::empty({2, 0}, DType::kF16)).elements(), 0);
  }
}

TEST(Silu, LongRowsAreShared) {
  const Tensor x = normal_tensor({100003}, DType::kF32, 3);
  const std::vector<std::unique_ptr<Context>> all = contexts();
  for (size_t i = 0; i < all.size(); i += 2) EXPECT_TRUE(same_bits(ops::silu(*all[i], x), ops::silu(*all[i + 1], x)));
}

TEST(Swiglu, MatchesTheSlowTwin) {
  Context plain;
  for (const auto& ctx : contexts()) {
    for (const DType type : kHalfAndSingle) {
      Nmse nmse;
      for (const int64_t n : kSizes) {
        const Tensor x = normal_tensor({3, 2 * n}, type, 4);
        nmse.add(ops::swiglu(*ctx, x), ops::swiglu(plain, x.to(DType::kF64)));
      }
      EXPECT_LE(nmse.error(), elementwise_bound(type)) << name_of(*ctx) << " " << dtype_name(type);
    }
  }
}

TEST(Swiglu, BothFormsAgree) {
  for (const auto& ctx : contexts()) {
    for (const DType type : kHalfAndSingle) {
      const Tensor x = normal_tensor({2, 9, 2 * 1537}, type, 5);
      const Tensor gate = x.slice(2, 0, 1537);
      const Tensor up = x.slice(2, 1537, 3074);
      const Tensor y = Tensor::empty(gate.shape(), type);
      ops::swiglu(*ctx, x, y);
      for (const auto& [g, u] :
           {std::pair{gate, up}, {gate.contiguous(), up.contiguous()}, {gate.contiguous(), up}, {column_major(gate), with_gaps(up)}}) {
        const Tensor z = Tensor::empty(gate.shape(), type);
        ops::swiglu(*ctx, g, u, z);
        EXPECT_TRUE(same_bits(z, y)) << name_of(*ctx);
      }
      const Tensor up_copy = with_gaps(up);
      ops::swiglu(*ctx, gate, up_copy, up_copy);
      EXPECT_TRUE(same_bits(up_copy, y));
      ops::swiglu(*ctx, x, gate);
      EXPECT_TRUE(same_bits(gate, y));
    }
  }
}

TEST(Swiglu, FirstHalfIsTheGate) {
  Context ctx;
  expect_values(ops::swiglu(ctx, Tensor::from_values(std::vector<float>{1, 2, 10, 100}, {4})), {7.31058579, 176.1594156}, 1e-4);
}

TEST(Activation, Misuse) {
  Context ctx;
  const Tensor x = Tensor::zeros({2, 4}, DType::kF32);
  const Tensor half = Tensor::zeros({2, 2}, DType::kF32);
  expect_error([&] { ops::silu(ctx, Tensor(), x); }, "silu: x is an empty handle");
  expect_error([&] { ops::silu(ctx, Tensor()); }, "silu: x is an empty handle");
  expect_error([&] { ops::silu(ctx, x, half); }, "silu: y is [2, 2], expected [2, 4]");
  expect_error([&] { ops::silu(ctx, x, Tensor::zeros({2, 4}, DType::kBF16)); }, "silu: y is bf16, expected f32");
  expect_error([&] { ops::silu(ctx, x, Tensor::zeros({4, 2}, DType::kF32).transpose(0, 1)); }, "silu: y has stride 2");
  expect_error([&] { ops::silu(ctx, Tensor::zeros({2, 32}, DType::kQ8_0)); }, "silu: x is q8_0");
  expect_error(
      [&] {
        ops::swiglu(ctx, Tensor::zeros({2, 5}, DType::kF32));
      },
      "swiglu: the last dimension of x is 5, expected an even number");
  expect_error([&] { ops::swiglu(ctx, Tensor::zeros({2, 5}, DType::kF32), half); }, "expected an even number");
  expect_error([&] { ops::swiglu(ctx, Tensor::zeros({}, DType::kF32)); }, "swiglu: x has rank 0");
  expect_error([&] { ops::swiglu(ctx, x, x); }, "swiglu: y is [2, 4], expected [2, 2]");
  expect_error([&] { ops::swiglu(ctx, x, half, x); }, "swiglu: up is [2, 2], expected [2, 4]");
  expect_error([&] { ops::swiglu(ctx, x, Tensor::zeros({2, 4}, DType::kF16), x); }, "swiglu: up is f16, expected f32");
}

}  // namespace
}  // namespace wick
