// Each op against PyTorch.
#include <gtest/gtest.h>

#include "tests/support/golden.h"
#include "wick/ops/activation.h"
#include "wick/ops/attention.h"
#include "wick/ops/embedding.h"
#include "wick/ops/linear.h"
#include "wick/ops/matmul.h"
#include "wick/ops/norm.h"
#include "wick/ops/rope.h"
#include "wick/ops/softmax.h"

namespace wick {
namespace {

using namespace test;  // NOLINT(google-build-using-namespace)

class Golden : public OnDevice {};
WICK_ON_EVERY_DEVICE(Golden);

constexpr DType kAll[] = {DType::kF64, DType::kF32, DType::kF16, DType::kBF16};

// What the type can hold of values up to a few units.
double tolerance(DType type) { return type == DType::kF16 ? 2e-3 : type == DType::kBF16 ? 2e-2 : 2e-6; }

TEST_P(Golden, ElementwiseAndRowOps) {
  const Goldens golden;
  for (const auto& ctx : contexts(GetParam())) {
    for (const DType type : kAll) {
      if (type == DType::kF64 && !ctx->device().is_cpu()) continue;
      const Tensor wide = on(*ctx, golden_input(2, {3, 20}).to(type)), tall = on(*ctx, golden_input(2, {3, 20}, 8).to(type));
      const Tensor w = on(*ctx, golden_input(3, {20}).to(type)), b = on(*ctx, golden_input(4, {20}).to(type));
      const double eps = tolerance(type);
      golden.expect(ops::softmax_last_dim(*ctx, tall), "softmax", eps);
      golden.expect(ops::softmax(*ctx, tall, 0), "softmax_dim0", eps);
      golden.expect(ops::log_softmax(*ctx, tall, 1), "log_softmax", eps);
      golden.expect(ops::rms_norm(*ctx, wide, w, 1e-5), "rms_norm", eps);
      golden.expect(ops::layer_norm(*ctx, wide, w, b, 1e-5), "layer_norm", eps);
      golden.expect(ops::silu(*ctx, tall), "silu", eps);
      golden.expect(ops::gelu(*ctx, tall), "gelu", eps);
      golden.expect(ops::gelu_tanh(*ctx, tall), "gelu_tanh", eps);
      golden.expect(ops::swiglu(*ctx, wide), "swiglu", eps);
      golden.expect(ops::geglu(*ctx, wide), "geglu", eps);
      std::vector<int32_t> ids = {2, 0, 1, 2};
      golden.expect(ops::embedding(*ctx, on(*ctx, Tensor::from_memory(ids.data(), {2, 2}, DType::kI32)), wide), "embedding", eps);
    }
  }
}

TEST_P(Golden, RopeInEveryLayout) {
  const Goldens golden;
  const auto [cos, sin] = golden_tables(5, 8);
  const auto [partial_cos, partial_sin] = golden_tables(5, 4);
  for (const auto& ctx : contexts(GetParam())) {
    for (const DType type : kAll) {
      if (type == DType::kF64 && !ctx->device().is_cpu()) continue;
      const DType table_type = type == DType::kF64 ? DType::kF64 : DType::kF32;
      const Tensor c = on(*ctx, cos.to(table_type)), s = on(*ctx, sin.to(table_type)), pc = on(*ctx, partial_cos.to(table_type)), ps = on(*ctx, partial_sin.to(table_type));
      const Tensor bhtd = golden_input(1, {2, 3, 5, 16}).to(type), x = on(*ctx, bhtd), thd = on(*ctx, bhtd.transpose(1, 2).contiguous());
      const double eps = tolerance(type);
      golden.expect(ops::rope(*ctx, x, c, s), "rope", eps);
      golden.expect(ops::rope_i(*ctx, x, c, s), "rope_i", eps);
      golden.expect(ops::rope(*ctx, x, pc, ps), "rope_partial", eps);
      golden.expect(ops::rope_i(*ctx, x, pc, ps), "rope_i_partial", eps);
      golden.expect(ops::rope_thd(*ctx, thd, c, s).transpose(1, 2), "rope", eps);
      golden.expect(ops::rope_i_thd(*ctx, thd, c, s).transpose(1, 2), "rope_i", eps);
    }
  }
}

TEST_P(Golden, ProductsAndAttention) {
  const Goldens golden;
  for (const auto& ctx : contexts(GetParam())) {
    for (const DType type : kHalfAndSingle) {
      const double eps = tolerance(type);
      const Tensor bias = on(*ctx, golden_input(9, {6}).to(type));
      golden.expect(ops::linear(*ctx, on(*ctx, golden_input(2, {3, 20}).to(type)), on(*ctx, golden_input(8, {6, 20}).to(type)), {.bias = &bias}), "linear", eps);
      golden.expect(ops::matmul(*ctx, on(*ctx, golden_input(10, {2, 1, 3, 5}).to(type)), on(*ctx, golden_input(11, {4, 5, 2}).to(type))), "matmul", eps);
      const Tensor q = on(*ctx, golden_input(5, {2, 4, 3, 16}).to(type)), k = on(*ctx, golden_input(6, {2, 2, 7, 16}).to(type)), v = on(*ctx, golden_input(7, {2, 2, 7, 16}).to(type));
      golden.expect(ops::attention(*ctx, q, k, v, {.causal = true}), "attention", eps);
      golden.expect(ops::attention(*ctx, q, k, v), "attention_all", eps);
    }
  }
}

}  // namespace
}  // namespace wick
