#include "wick/nn/linear.h"

#include "wick/base/error.h"
#include "wick/ops/linear.h"

namespace wick::nn {

Linear::Linear(Context& ctx, const std::vector<WeightSource>& sources, Tensor bias, bool expand, Shard shard) : bias_(std::move(bias)) {
  if (shard.count != 1) fail(ErrorCode::kUnsupported, "Linear: shard ", shard.rank, " of ", shard.count, ": only whole weights are supported");
  auto weight = std::make_shared<PackedWeight>();
  ops::append_weights(ctx, sources, expand, *weight);
  weight_ = std::move(weight);
}

Linear::Linear(Context& ctx, const Tensor& weight, Tensor bias) : Linear(ctx, {ops::weight_source(weight)}, std::move(bias), false) {}

Tensor Linear::forward(Context& ctx, const Tensor& x) const {
  ops::LinearOptions options;
  options.bias = bias_.defined() ? &bias_ : nullptr;
  return ops::linear(ctx, x, *weight_, options);
}

void Linear::forward(Context& ctx, const Tensor& x, const Tensor& y, ops::LinearOptions options) const {
  options.bias = bias_.defined() ? &bias_ : nullptr;
  ops::linear(ctx, x, *weight_, y, options);
}

}  // namespace wick::nn
