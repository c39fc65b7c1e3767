#include "wick/ops/norm.h"

#include <cmath>

#include "wick/kernels/norm.h"
#include "wick/ops/arguments.h"
#include "wick/ops/device.h"

namespace wick::ops {
namespace {

void check_weight(const char* op, const Tensor& x, const Argument& w) {
  const bool half = x.dtype() == DType::kF16 || x.dtype() == DType::kBF16;
  if (!(half && w.tensor.dtype() == DType::kF32)) require_same_dtype(op, {"x", x}, w);
  require(w.tensor.shape() == Shape({x.dim(-1)}), op, ": ", w.name, " is ", w.tensor.shape(), ", expected [", x.dim(-1), "]");
}

void check_eps(const char* op, double eps) { require(eps >= 0 && std::isfinite(eps), op, ": eps is ", eps, ", expected a finite number >= 0"); }

void run(Context& ctx, const char* op, const Tensor& x, const Tensor* residual, const Tensor& w, double eps, const Tensor& y) {
  require_kernels(ctx, op);
  require_floating(ctx, op, {{"x", x}, {"r", residual ? *residual : x}, {"w", w}, {"y", y}});
  require_rank_1(op, {"x", x});
  check_weight(op, x, {"w", w});
  for (const Argument& other : {Argument{"r", residual ? *residual : x}, Argument{"y", y}}) {
    require_same_dtype(op, {"x", x}, other);
    require_same_shape(op, {"x", x}, other);
  }
  if (residual) {
    require_contiguous_rows(op, {"r", *residual});
    require_disjoint(op, {"x", x}, {"r", *residual});
    require_disjoint(op, {"r", *residual}, {"y", y});
  }
  require_contiguous_rows(op, {"y", y});
  require_disjoint_or_same(op, {"x", x}, {"y", y});
  check_eps(op, eps);
  if (x.elements() == 0) return;

  const Tensor source = with_contiguous_rows(ctx, x);
  const Tensor weight = contiguous(ctx, w);
  RmsNormArgs args;
  args.x = rows_of(source);
  if (residual) args.residual = rows_of(*residual);
  args.weight = weight.raw();
  args.weight_type = weight.dtype();
  args.y = rows_of(y);
  args.eps = eps;
  if (x.dtype() == DType::kF64) return ref::rms_norm(ctx, args);
  run_kernel<cpu::rms_norm, cuda::rms_norm>(ctx, args);
}

}  // namespace

void rms_norm(Context& ctx, const Tensor& x, const Tensor& w, double eps, const Tensor& y) { run(ctx, "rms_norm", x, nullptr, w, eps, y); }

Tensor rms_norm(Context& ctx, const Tensor& x, const Tensor& w, double eps) {
  Tensor y = Tensor::empty(x.shape(), x.dtype(), ctx.device());
  rms_norm(ctx, x, w, eps, y);
  return y;
}

void add_rms_norm(Context& ctx, const Tensor& x, const Tensor& r, const Tensor& w, double eps, const Tensor& y) {
  run(ctx, "add_rms_norm", x, &r, w, eps, y);
}

Tensor add_rms_norm(Context& ctx, const Tensor& x, const Tensor& r, const Tensor& w, double eps) {
  Tensor y = Tensor::empty(x.shape(), x.dtype(), ctx.device());
  add_rms_norm(ctx, x, r, w, eps, y);
  return y;
}

void layer_norm(Context& ctx, const Tensor& x, const Tensor& w, const Tensor* b, double eps, const Tensor& y) {
  constexpr const char* op = "layer_norm";
  require_kernels(ctx, op);
  require_floating(ctx, op, {{"x", x}, {"w", w}, {"b", b ? *b : w}, {"y", y}});
  require_rank_1(op, {"x", x});
  check_weight(op, x, {"w", w});
  if (b) {
    check_weight(op, x, {"b", *b});
    require_same_dtype(op, {"w", w}, {"b", *b});
  }
  require_same_dtype(op, {"x", x}, {"y", y});
  require_same_shape(op, {"x", x}, {"y", y});
  require_contiguous_rows(op, {"y", y});
  require_disjoint_or_same(op, {"x", x}, {"y", y});
  check_eps(op, eps);
  if (x.elements() == 0) return;

  const Tensor source = with_contiguous_rows(ctx, x);
  const Tensor weight = contiguous(ctx, w);
  const Tensor bias = b ? contiguous(ctx, *b) : Tensor();
  LayerNormArgs args;
  args.x = rows_of(source);
  args.weight = weight.raw();
  args.bias = bias.raw();
  args.weight_type = weight.dtype();
  args.y = rows_of(y);
  args.eps = eps;
  if (x.dtype() == DType::kF64) return ref::layer_norm(ctx, args);
  run_kernel<cpu::layer_norm, cuda::layer_norm>(ctx, args);
}

void layer_norm(Context& ctx, const Tensor& x, const Tensor& w, const Tensor& b, double eps, const Tensor& y) { layer_norm(ctx, x, w, &b, eps, y); }

Tensor layer_norm(Context& ctx, const Tensor& x, const Tensor& w, const Tensor& b, double eps) {
  Tensor y = Tensor::empty(x.shape(), x.dtype(), ctx.device());
  layer_norm(ctx, x, w, &b, eps, y);
  return y;
}

Tensor layer_norm(Context& ctx, const Tensor& x, const Tensor& w, double eps) {
  Tensor y = Tensor::empty(x.shape(), x.dtype(), ctx.device());
  layer_norm(ctx, x, w, nullptr, eps, y);
  return y;
}

}  // namespace wick::ops
