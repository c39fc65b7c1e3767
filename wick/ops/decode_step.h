// A decode step of one sequence as one kernel, where the device has it (kernels/decode_step.h).
#pragma once

#include <memory>

#include "wick/kernels/decode_step.h"
#include "wick/tensor/tensor.h"

namespace wick::ops {

// Of one model and one stream of work: what the kernel keeps from step to step. The model's weights and norms must outlive it.
class DecodeStep {
 public:
  // Null when there is no kernel for the model on ctx's device: then a step is made of other ops.
  static std::unique_ptr<DecodeStep> make(Context& ctx, const DecodeModel& model, DType cache_type);

  // To be called before every step, also one that DeviceStream::replay does.
  void begin(Context& ctx);
  // x: [1, D] f32, the token's embedding; logits: [1, V] f32; cos, sin: f32 [positions, half], of neighbouring pairs. layers: the cache of the
  // first layer and of the second, or of the first twice. The batch has one row, whose logits are wanted. On ctx's stream.
  // Throws Error(kInvalidArgument) for another batch.
  void run(Context& ctx, const Tensor& x, const Tensor& cos, const Tensor& sin, const StepBatch& batch, const KvLayerView (&layers)[2],
           const Tensor& logits);

 private:
  explicit DecodeStep(std::shared_ptr<cuda::DecodeKernel> kernel) : kernel_(std::move(kernel)) {}
  std::shared_ptr<cuda::DecodeKernel> kernel_;
};

}  // namespace wick::ops
