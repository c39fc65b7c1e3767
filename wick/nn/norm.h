// RmsNorm and LayerNorm: a weight, perhaps a bias, and an eps.
#pragma once

#include "wick/ops/norm.h"

namespace wick::nn {

// y = ops::rms_norm(x, weight, eps).
class RmsNorm {
 public:
  RmsNorm() = default;
  RmsNorm(Tensor weight, double eps) : weight_(std::move(weight)), eps_(eps) {}
  void forward(Context& ctx, const Tensor& x, const Tensor& y) const { ops::rms_norm(ctx, x, weight_, eps_, y); }
  Tensor forward(Context& ctx, const Tensor& x) const { return ops::rms_norm(ctx, x, weight_, eps_); }
  // residual += x, then its norm: ops::add_rms_norm.
  Tensor forward_add(Context& ctx, const Tensor& x, const Tensor& residual) const { return ops::add_rms_norm(ctx, x, residual, weight_, eps_); }
  const Tensor& weight() const { return weight_; }
  double eps() const { return eps_; }

 private:
  Tensor weight_;
  double eps_ = 0;
};

// y = ops::layer_norm(x, weight, bias, eps); bias may be undefined.
class LayerNorm {
 public:
  LayerNorm() = default;
  LayerNorm(Tensor weight, Tensor bias, double eps) : weight_(std::move(weight)), bias_(std::move(bias)), eps_(eps) {}
  void forward(Context& ctx, const Tensor& x, const Tensor& y) const {
    ops::layer_norm(ctx, x, weight_, bias_.defined() ? &bias_ : nullptr, eps_, y);
  }
  Tensor forward(Context& ctx, const Tensor& x) const {
    return bias_.defined() ? ops::layer_norm(ctx, x, weight_, bias_, eps_) : ops::layer_norm(ctx, x, weight_, eps_);
  }

 private:
  Tensor weight_, bias_;
  double eps_ = 0;
};

}  // namespace wick::nn
