#include "wick/ops/activation.h"

#include "tests/ops/support.h"
#include "wick/tensor/half.h"

namespace wick {
namespace {

using namespace test;  // NOLINT(google-build-using-namespace)

class SigmoidOnDevice : public OnDevice {};
WICK_ON_EVERY_DEVICE(SigmoidOnDevice);

class GeluOnDevice : public OnDevice {};
WICK_ON_EVERY_DEVICE(GeluOnDevice);

class SwigluOnDevice : public OnDevice {};
WICK_ON_EVERY_DEVICE(SwigluOnDevice);

class SiluOnDevice : public OnDevice {};
WICK_ON_EVERY_DEVICE(SiluOnDevice);

TEST_P(SiluOnDevice, KnownValues) {
  const Tensor x = Tensor::from_values(std::vector<float>{0, 1, -1, 5, -5, 100, -100, INFINITY, 20, -20}, {10});
  for (const auto& ctx : contexts(GetParam())) {
    const std::vector<double> y = values_of(ops::silu(*ctx, on(*ctx, x)));
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
      EXPECT_TRUE(std::isnan(values_of(ops::silu(*ctx, on(*ctx, Tensor::from_values(std::vector<float>{special}, {1}))))[0]));
    }
  }
}

TEST_P(SiluOnDevice, MatchesTheSlowTwin) {
  Context plain;
  for (const auto& ctx : contexts(GetParam())) {
    for (const DType type : kHalfAndSingle) {
      Nmse nmse;
      for (const int64_t n : kSizes) {
        const Tensor x = normal_tensor({3, n}, type, 1);
        nmse.add(ops::silu(*ctx, on(*ctx, x)), ops::silu(plain, x.to(DType::kF64)));
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

TEST_P(SwigluOnDevice, MatchesTheSlowTwin) {
  Context plain;
  for (const auto& ctx : contexts(GetParam())) {
    for (const DType type : kHalfAndSingle) {
      Nmse nmse;
      for (const int64_t n : kSizes) {
        const Tensor x = normal_tensor({3, 2 * n}, type, 4);
        nmse.add(ops::swiglu(*ctx, on(*ctx, x)), ops::swiglu(plain, x.to(DType::kF64)));
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

using Plain = Tensor (*)(Context&, const Tensor&);
using Gated = void (*)(Context&, const Tensor&, const Tensor&, const Tensor&);

TEST_P(GeluOnDevice, MatchesTheSlowTwinAndKnownValues) {
  Context plain;
  const std::vector<float> in = {-1e30f, -20, -5, -3, -1, -1e-6f, 0, 1e-6f, 0.5f, 1, 3, 5, 20, 1e30f};
  const Tensor points = Tensor::from_values(in, {static_cast<int64_t>(in.size())});
  for (const auto& ctx : contexts(GetParam())) {
    for (const Plain op : {Plain(ops::gelu), Plain(ops::gelu_tanh)}) {
      const std::vector<double> got = values_of(op(*ctx, on(*ctx, points))), expected = values_of(op(plain, points.to(DType::kF64)));
      for (size_t i = 0; i < in.size(); ++i) EXPECT_NEAR(got[i], expected[i], 1e-6 * std::fabs(expected[i]) + 1e-37) << in[i] << " " << name_of(*ctx);
      for (const DType type : kHalfAndSingle) {
        Nmse nmse;
        for (const int64_t n : kSizes) {
          const Tensor x = normal_tensor({3, n}, type, 1);
          nmse.add(op(*ctx, on(*ctx, x)), op(plain, x.to(DType::kF64)));
        }
        EXPECT_LE(nmse.error(), elementwise_bound(type)) << name_of(*ctx) << " " << dtype_name(type);
      }
      for (const float special : {-INFINITY, NAN}) {
        EXPECT_TRUE(std::isnan(values_of(op(*ctx, on(*ctx, Tensor::from_values(std::vector<float>{special}, {1}))))[0]));
      }
    }
  }
  expect_values(ops::gelu(plain, Tensor::from_values(std::vector<float>{1, -1}, {2})), {0.841344746, -0.158655254}, 1e-7);
  expect_values(ops::gelu_tanh(plain, Tensor::from_values(std::vector<float>{1, -1}, {2})), {0.841191991, -0.158808009}, 1e-7);
}

TEST_P(SigmoidOnDevice, MatchesTheSlowTwinAndKnownValues) {
  Context plain;
  const std::vector<float> in = {-INFINITY, -1e30f, -100, -88.5f, -87.2f, -20, -1, -1e-6f, 0, 1, 20, 88, 1e30f, INFINITY};
  const Tensor points = Tensor::from_values(in, {static_cast<int64_t>(in.size())});
  for (const auto& ctx : contexts(GetParam())) {
    const std::vector<double> got = values_of(ops::sigmoid(*ctx, on(*ctx, points))), expected = values_of(ops::sigmoid(plain, points.to(DType::kF64)));
    for (size_t i = 0; i < in.size(); ++i) EXPECT_NEAR(got[i], expected[i], 1e-6 * expected[i] + 1e-37) << in[i] << " " << name_of(*ctx);
    for (const DType type : kHalfAndSingle) {
      Nmse nmse;
      for (const int64_t n : kSizes) {
        const Tensor x = normal_tensor({3, n}, type, 1);
        nmse.add(ops::sigmoid(*ctx, on(*ctx, x)), ops::sigmoid(plain, x.to(DType::kF64)));
      }
      EXPECT_LE(nmse.error(), elementwise_bound(type)) << name_of(*ctx) << " " << dtype_name(type);
      EXPECT_TRUE(std::isnan(values_of(ops::sigmoid(*ctx, on(*ctx, Tensor::from_values(std::vector<float>(37, NAN), {37}, type))))[0]));
    }
  }
}

// Every finite value that the type has, within one unit in the last place. Below -5.5 gelu in bf16 is only near zero, as it should be.
TEST(Activation, HalvesAreWithinOneUnitEverywhere) {
  Context plain;
  std::vector<float> all;
  for (uint32_t bits = 0; bits < 0x10000; ++bits) all.push_back(f16_to_f32(static_cast<uint16_t>(bits)));
  for (uint32_t bits = 0; bits < 0x10000; ++bits) all.push_back(bf16_to_f32(static_cast<uint16_t>(bits)));
  std::erase_if(all, [](float x) { return !std::isfinite(x) || std::fabs(x) > 3e4f; });
  const Tensor x32 = Tensor::from_values(all, {static_cast<int64_t>(all.size())});
  for (const DType type : {DType::kF16, DType::kBF16}) {
    const Tensor x = x32.to(type);
    const double unit = type == DType::kF16 ? 0x1p-10 : 0x1p-7, smallest = type == DType::kF16 ? 0x1p-24 : 1e-36;
    for (const Plain op : {Plain(ops::silu), Plain(ops::sigmoid), Plain(ops::gelu), Plain(ops::gelu_tanh)}) {
      const std::vector<double> expected = values_of(op(plain, x.to(DType::kF64))), in = values_of(x);
      const double near_zero = op == Plain(ops::gelu) ? 1.1e-7 : 0;
      for (const auto& ctx : contexts()) {
        if (ctx->threads() > 1) continue;
        const std::vector<double> got = values_of(op(*ctx, x));
        for (size_t i = 0; i < in.size(); ++i) {
          ASSERT_LE(std::fabs(got[i] - expected[i]), unit * std::fabs(expected[i]) + smallest + near_zero) << in[i] << " " << dtype_name(type) << " " << name_of(*ctx);
        }
      }
    }
  }
}

TEST(Geglu, IsTheProductWithTheFunctionOfTheGate) {
  const std::pair<Gated, Plain> ops_and_functions[] = {{ops::geglu, ops::gelu}, {ops::geglu_tanh, ops::gelu_tanh}, {ops::swiglu, ops::silu}};
  for (const auto& ctx : contexts()) {
    for (const auto& [op, function] : ops_and_functions) {
      const Tensor x = normal_tensor({4, 2 * 67}, DType::kF32, 2);
      const Tensor gate = x.slice(1, 0, 67), up = x.slice(1, 67, 134);
      const Tensor y = Tensor::empty({4, 67}, DType::kF32);
      op(*ctx, gate, up, y);
      std::vector<double> expected = values_of(function(*ctx, gate)), factor = values_of(up);
      for (size_t i = 0; i < expected.size(); ++i) expected[i] = static_cast<float>(expected[i]) * static_cast<float>(factor[i]);
      expect_values(y, expected, 0);
    }
    const Tensor x = normal_tensor({4, 2 * 67}, DType::kF32, 3);
    const Tensor y = Tensor::empty({4, 67}, DType::kF32);
    ops::geglu(*ctx, x.slice(1, 0, 67), x.slice(1, 67, 134), y);
    EXPECT_TRUE(same_bits(ops::geglu(*ctx, x), y));
    ops::geglu_tanh(*ctx, x.slice(1, 0, 67), x.slice(1, 67, 134), y);
    EXPECT_TRUE(same_bits(ops::geglu_tanh(*ctx, x), y));
  }
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
