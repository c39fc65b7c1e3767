#include "wick/ops/softmax.h"

#include "wick/kernels/softmax.h"
#include "wick/ops/arguments.h"
#include "wick/ops/device.h"

namespace wick::ops {
namespace {

void run(Context& ctx, bool log, const Tensor& x, int dim, const Tensor& y) {
  const char* op = log ? "log_softmax" : "softmax";
  require_kernels(ctx, op);
  require_floating(ctx, op, {{"x", x}, {"y", y}});
  require_rank_1(op, {"x", x});
  require(dim >= -x.rank() && dim < x.rank(), op, ": dim is ", dim, ", expected ", -x.rank(), " to ", x.rank() - 1, " for rank ", x.rank());
  require_same_dtype(op, {"x", x}, {"y", y});
  require_same_shape(op, {"x", x}, {"y", y});
  require_disjoint_or_same(op, {"x", x}, {"y", y});
  if (x.elements() == 0) return;

  const int axis = dim < 0 ? dim + x.rank() : dim;
  const int last = x.rank() - 1;
  const SoftmaxArgs args{rows_of(x.transpose(axis, last)), rows_of(y.transpose(axis, last)), log};
  if (x.dtype() == DType::kF64) return ref::softmax(ctx, args);
  run_kernel<cpu::softmax, cuda::softmax>(ctx, args);
}

}  // namespace

void softmax(Context& ctx, const Tensor& x, int dim, const Tensor& y) { run(ctx, false, x, dim, y); }
void log_softmax(Context& ctx, const Tensor& x, int dim, const Tensor& y) { run(ctx, true, x, dim, y); }

Tensor softmax(Context& ctx, const Tensor& x, int dim) {
  Tensor y = Tensor::empty(x.shape(), x.dtype(), ctx.device());
  softmax(ctx, x, dim, y);
  return y;
}

Tensor log_softmax(Context& ctx, const Tensor& x, int dim) {
  Tensor y = Tensor::empty(x.shape(), x.dtype(), ctx.device());
  log_softmax(ctx, x, dim, y);
  return y;
}

void softmax_last_dim(Context& ctx, const Tensor& x, const Tensor& y) { softmax(ctx, x, -1, y); }
Tensor softmax_last_dim(Context& ctx, const Tensor& x) { return softmax(ctx, x, -1); }

}  // namespace wick::ops
