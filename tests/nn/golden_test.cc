// A whole attention block against PyTorch: B = 2, grouped heads, a prompt and cached steps.
#include <gtest/gtest.h>

#include "tests/support/golden.h"
#include "wick/nn/attention.h"

namespace wick::nn {
namespace {

using namespace test;  // NOLINT(google-build-using-namespace)

TEST(Golden, AttentionBlockWithCache) {
  const Goldens golden;
  RopeConfig rope;
  rope.rotary_dim = 16;
  rope.max_positions = 8;
  for (const auto& ctx : contexts()) {
    QkvProjection qkv(*ctx, {4, 2, 16}, golden_input(2, {64, 24}), golden_input(3, {32, 24}), golden_input(4, {32, 24}));
    Attention attention(std::move(qkv), Linear(*ctx, golden_input(5, {24, 64})), Rotary(rope), {.causal = true}, 4);
    const Tensor x = golden_input(1, {2, 8, 24}), y = Tensor::empty({2, 8, 24}, DType::kF32);
    for (const auto& [begin, end] : {std::pair<int64_t, int64_t>{0, 5}, {5, 6}, {6, 7}, {7, 8}}) {
      copy_elements(attention.forward_with_cache(*ctx, x.slice(1, begin, end), begin), y.slice(1, begin, end));
    }
    golden.expect(y, "block", 5e-6);
  }
}

}  // namespace
}  // namespace wick::nn
