// What wick's ops are compared with computes the same.
#include "bench/naive_ops.h"

#include <gtest/gtest.h>

#include "tests/ops/support.h"
#include "wick/nn/rotary.h"
#include "wick/ops/activation.h"
#include "wick/ops/attention.h"
#include "wick/ops/norm.h"
#include "wick/ops/rope.h"
#include "wick/ops/softmax.h"

namespace wick {
namespace {

using namespace test;  // NOLINT(google-build-using-namespace)
namespace naive = bench::naive;

// Every step of the naive way rounds.
void expect_close(const Tensor& got, const Tensor& expected) {
  ASSERT_EQ(got.shape(), expected.shape());
  expect_values(got, values_of(expected), got.dtype() == DType::kF32 ? 2e-5 : got.dtype() == DType::kF16 ? 2e-2 : 0.15);
}

TEST(NaiveOps, AreTheOps) {
  Context ctx;
  for (const DType type : kHalfAndSingle) {
    const Tensor x = normal_tensor({2, 3, 5, 16}, type, 1);
    nn::RopeConfig config;
    config.rotary_dim = 16;
    config.max_positions = 5;
    nn::RopeTable table(config);
    table.ensure(ctx, 5);
    const Tensor cos = table.cos().slice(0, 0, 5).to(type), sin = table.sin().slice(0, 0, 5).to(type);
    expect_close(naive::rope(x, cos, sin), ops::rope(ctx, x, cos, sin));
    expect_close(naive::rope_i(x, cos, sin), ops::rope_i(ctx, x, cos, sin));
    expect_close(naive::softmax(x), ops::softmax(ctx, x, -1));
    expect_close(naive::log_softmax(x), ops::log_softmax(ctx, x, -1));
    const Tensor w = normal_tensor({16}, type, 2), b = normal_tensor({16}, type, 3);
    expect_close(naive::rms_norm(x, w, 1e-5f), ops::rms_norm(ctx, x, w, 1e-5));
    expect_close(naive::layer_norm(x, w, b, 1e-5f), ops::layer_norm(ctx, x, w, b, 1e-5));
    expect_close(naive::silu(x), ops::silu(ctx, x));
    expect_close(naive::gelu(x), ops::gelu(ctx, x));
    expect_close(naive::gelu_tanh(x), ops::gelu_tanh(ctx, x));
    const Tensor q = normal_tensor({1, 6, 4, 16}, type, 4), k = normal_tensor({1, 2, 9, 16}, type, 5), v = normal_tensor({1, 2, 9, 16}, type, 6);
    expect_close(naive::attention(ctx, q, k, v), ops::attention(ctx, q, k, v, {.causal = true}));
  }
}

TEST(NaiveOps, ConcatenateAndNarrow) {
  const Tensor a = normal_tensor({2, 3, 4}, DType::kF32, 1), b = normal_tensor({2, 5, 4}, DType::kF32, 2);
  const Tensor joined = naive::concat(a, b, 1);
  EXPECT_TRUE(same_bits(naive::narrow(joined, 1, 0, 3), a));
  EXPECT_TRUE(same_bits(naive::narrow(joined, 1, 3, 8), b));
}

}  // namespace
}  // namespace wick
