// Linear: a weight, or several side by side, with an optional bias. Owns packed weights; the one place that knows about quantisation.
#pragma once

#include <memory>
#include <vector>

#include "wick/kernels/packed_weight.h"
#include "wick/ops/linear.h"
#include "wick/tensor/context.h"
#include "wick/tensor/tensor.h"

namespace wick::nn {

// Which part of each weight this process holds: slice `rank` of `count` along `axis` (0: outputs, 1: inputs).
struct Shard {
  int axis = 0;
  int rank = 0;
  int count = 1;
};

class Linear {
 public:
  Linear() = default;
  // The outputs of `sources` in order, in one dispatch: Linear(ctx, {q, k, v}). Their k agree; their types may differ.
  // `expand` turns weights into f32. bias: f32 [outputs] or undefined. Throws Error(kUnsupported) for a shard of more than one or a type
  // without kernels.
  Linear(Context& ctx, const std::vector<WeightSource>& sources, Tensor bias, bool expand, Shard shard = {});
  // One weight tensor [N, K], plain or quantised, of any view.
  Linear(Context& ctx, const Tensor& weight, Tensor bias = {});
  // Shares a weight that something else owns, as a tied output head does.
  explicit Linear(std::shared_ptr<const PackedWeight> weight) : weight_(std::move(weight)) {}

  int64_t inputs() const { return weight_->k; }
  int64_t outputs() const { return weight_->rows; }
  bool has_bias() const { return bias_.defined(); }
  const std::shared_ptr<const PackedWeight>& weight() const { return weight_; }

  // y = x W^T + b, with the rest of `options` but the bias as ops::linear says. Shapes, aliasing and errors as there.
  void forward(Context& ctx, const Tensor& x, const Tensor& y, ops::LinearOptions options = {}) const;
  Tensor forward(Context& ctx, const Tensor& x) const;

 private:
  std::shared_ptr<const PackedWeight> weight_;
  Tensor bias_;
};

}  // namespace wick::nn
