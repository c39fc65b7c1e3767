#include "wick/ops/decode_step.h"

#include "wick/ops/device.h"

namespace wick::ops {

std::unique_ptr<DecodeStep> DecodeStep::make(Context& ctx, const DecodeModel& model, DType cache_type) {
  if constexpr (kHasCuda) {
    if (!on_cuda(ctx) || ctx.batch_invariant()) return nullptr;
    if (auto kernel = cuda::make_decode_kernel(ctx, model, cache_type)) return std::unique_ptr<DecodeStep>(new DecodeStep(std::move(kernel)));
  }
  return nullptr;
}

void DecodeStep::begin(Context& ctx) {
  if constexpr (kHasCuda) cuda::recover(ctx, *kernel_);
}

void DecodeStep::run(Context& ctx, const Tensor& x, const Tensor& cos, const Tensor& sin, const StepBatch& batch,
                     const KvLayerView (&layers)[2], const Tensor& logits) {
  require(batch.rows == 1 && batch.logit_count == 1, "decode_step: a batch of ", batch.rows, " rows and ", batch.logit_count,
          " with logits, expected one");
  DecodeStepArgs args;
  args.x = x.data<float>();
  args.cos = cos.data<float>();
  args.sin = sin.data<float>();
  args.half = static_cast<int32_t>(cos.dim(1));
  args.cache = layers[0];
  args.layer_bytes = layers[1].pages - layers[0].pages;
  args.logits = logits.data<float>();
  if constexpr (kHasCuda) cuda::decode_step(ctx, *kernel_, args, batch);
}

}  // namespace wick::ops
