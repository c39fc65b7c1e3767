#include "wick/ops/decode_step.h"

#include <gtest/gtest.h>

#include <deque>

#include "tests/ops/support.h"
#include "wick/ops/linear.h"

namespace wick {
namespace {

class DecodeStepOnDevice : public test::OnDevice {};
WICK_ON_EVERY_DEVICE(DecodeStepOnDevice);

// Two layers of a model of the Llama shape, and the weights that it points to.
struct Model {
  Model(Context& ctx, DType type, int64_t head_dim) {
    constexpr int64_t kHeads = 8, kKvHeads = 2, kVocab = 512;
    const int64_t width = kHeads * head_dim, hidden = 4096;
    const auto weight = [&](std::initializer_list<int64_t> rows, int64_t k) {
      PackedWeight& made = weights.emplace_back();
      for (const int64_t count : rows) {
        const Tensor zeros = test::on(ctx, Tensor::empty({count, k}, type));
        ops::append_weight(ctx, ops::weight_source(zeros), false, made);
      }
      return &made;
    };
    const Tensor& norm = norms.emplace_back(test::on(ctx, Tensor::zeros({width}, DType::kF32)));
    shape.heads = kHeads;
    shape.kv_heads = kKvHeads;
    shape.head_dim = static_cast<int32_t>(head_dim);
    shape.eps = 1e-5f;
    for (int layer = 0; layer < 2; ++layer) {
      shape.layers.push_back({norm.data<float>(), weight({width, kKvHeads * head_dim, kKvHeads * head_dim}, width), weight({width}, width),
                              norm.data<float>(), weight({hidden, hidden}, width), weight({width}, hidden)});
    }
    shape.final_norm = norm.data<float>();
    shape.head = weight({kVocab}, width);
  }
  std::deque<PackedWeight> weights;
  std::deque<Tensor> norms;
  DecodeModel shape;
};

// Steps fall back to the layer's kernels without a word, so it is asked for here.
TEST_P(DecodeStepOnDevice, IsThereForWhatItIsMadeFor) {
  const auto ctx = std::move(test::contexts_of_two_threads(GetParam()).back()), invariant = test::batch_invariant_context(GetParam());
  const bool cuda = !ctx->device().is_cpu();
  for (const int64_t head_dim : {64, 128}) {
    for (const DType type : {DType::kBF16, DType::kQ8_0, DType::kQ4_0, DType::kQ4_K}) {
      const Model model(*ctx, type, head_dim);
      EXPECT_EQ(cuda, ops::DecodeStep::make(*ctx, model.shape, DType::kF16) != nullptr) << dtype_name(type) << " heads of " << head_dim;
      EXPECT_EQ(nullptr, ops::DecodeStep::make(*ctx, model.shape, DType::kQ8_0)) << dtype_name(type);
      EXPECT_EQ(nullptr, ops::DecodeStep::make(*invariant, model.shape, DType::kF16)) << dtype_name(type);
    }
  }
  EXPECT_EQ(nullptr, ops::DecodeStep::make(*ctx, Model(*ctx, DType::kF16, 64).shape, DType::kF16));
  EXPECT_EQ(nullptr, ops::DecodeStep::make(*ctx, Model(*ctx, DType::kQ8_0, 32).shape, DType::kF16));
}

}  // namespace
}  // namespace wick
