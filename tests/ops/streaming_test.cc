// Outputs too large for the caches are written past them, and are the same as those of their parts, which are not.
#include <gtest/gtest.h>

#include <functional>

#include "tests/ops/support.h"
#include "wick/nn/rotary.h"
#include "wick/ops/activation.h"
#include "wick/ops/norm.h"
#include "wick/ops/rope.h"
#include "wick/ops/softmax.h"

namespace wick {
namespace {

using namespace test;  // NOLINT(google-build-using-namespace)

constexpr int64_t kSize = 1088;  // vectors in pairs, and behind them one
constexpr int64_t kParts = 8;

Tensor large_tensor(DType type, int64_t size) {
  const int64_t rows = (int64_t{25} << 20) / (size * traits(type).bytes);
  const Tensor block = normal_tensor({kParts, size}, type, 7);
  const Tensor x = Tensor::empty({rows / kParts * kParts, size}, type);
  for (int64_t row = 0; row < x.dim(0); row += kParts) std::copy_n(block.raw(), block.bytes(), x.slice(0, row, row + 1).raw());
  return x;
}

void expect_parts(const Tensor& x, const std::function<Tensor(const Tensor&)>& op) {
  const Tensor whole = op(x);
  for (int64_t part = 0; part < kParts; ++part) {
    const int64_t rows = x.dim(0) / kParts;
    ASSERT_TRUE(same_bits(whole.slice(0, part * rows, (part + 1) * rows), op(x.slice(0, part * rows, (part + 1) * rows)))) << part;
  }
}

TEST(Streaming, LargeOutputsAreTheSame) {
  for (const auto& ctx : contexts()) {
    for (const DType type : {DType::kF32, DType::kBF16}) {
      SCOPED_TRACE(name_of(*ctx) + " " + dtype_name(type));
      const Tensor x = large_tensor(type, kSize);
      const Tensor w = normal_tensor({kSize}, type, 8), b = normal_tensor({kSize}, type, 9);
      expect_parts(x, [&](const Tensor& part) { return ops::rms_norm(*ctx, part, w, 1e-5); });
      expect_parts(x, [&](const Tensor& part) { return ops::layer_norm(*ctx, part, w, b, 1e-5); });
      expect_parts(x, [&](const Tensor& part) { return ops::softmax(*ctx, part, -1); });
      expect_parts(x, [&](const Tensor& part) { return ops::log_softmax(*ctx, part, -1); });
      expect_parts(x, [&](const Tensor& part) { return ops::silu(*ctx, part); });
      expect_parts(large_tensor(type, 2 * kSize), [&](const Tensor& part) { return ops::swiglu(*ctx, part); });
    }
  }
}

TEST(Streaming, LargeRotationsAreTheSame) {
  constexpr int64_t kHeadDim = 128, kHeads = 4;
  for (const auto& ctx : contexts()) {
    for (const DType type : {DType::kF32, DType::kBF16}) {
      SCOPED_TRACE(name_of(*ctx) + " " + dtype_name(type));
      const Tensor rows = large_tensor(type, kHeadDim * kHeads);
      const int64_t positions = rows.dim(0);
      nn::RopeConfig config;
      config.rotary_dim = kHeadDim;
      config.max_positions = positions;
      nn::RopeTable table(config);
      table.ensure(*ctx, positions);
      const int64_t rows_per_part = positions / kParts;
      for (const auto op : {static_cast<Tensor (*)(Context&, const Tensor&, const Tensor&, const Tensor&)>(ops::rope_thd), ops::rope_i_thd}) {
        const Tensor whole = op(*ctx, rows.reshape({1, positions, kHeads, kHeadDim}), table.cos(), table.sin());
        for (int64_t begin = 0; begin < positions; begin += rows_per_part) {
          const int64_t end = std::min(positions, begin + rows_per_part);
          const Tensor part = rows.slice(0, begin, end).reshape({1, end - begin, kHeads, kHeadDim});
          ASSERT_TRUE(same_bits(whole.slice(1, begin, end), op(*ctx, part, table.cos().slice(0, begin, end), table.sin().slice(0, begin, end))));
        }
      }
    }
  }
}

}  // namespace
}  // namespace wick
