#include "wick/ops/activation.h"

#include "wick/kernels/activation.h"
#include "wick/ops/arguments.h"
#include "wick/ops/device.h"

namespace wick::ops {
namespace {

void check(Context& ctx, const char* op, const Argument& x, const Argument& other) {
  require_floating(ctx, op, {x, other});
  require_same_dtype(op, x, other);
  require_same_shape(op, x, other);
}

// The last dimension of x, halved.
int64_t half_of(const Tensor& x) {
  require_rank_1("swiglu", {"x", x});
  require(x.dim(-1) % 2 == 0, "swiglu: the last dimension of x is ", x.dim(-1), ", expected an even number");
  return x.dim(-1) / 2;
}

}  // namespace

void silu(Context& ctx, const Tensor& x, const Tensor& y) {
  require_cpu(ctx, "silu");
  check(ctx, "silu", {"x", x}, {"y", y});
  require_contiguous_rows("silu", {"y", y});
  if (x.elements() == 0) return;
  const Tensor source = with_contiguous_rows(x);
  const auto view = all_contiguous({&source, &y}) ? one_row : rows_of;
  const ActivationArgs args{view(source), {}, view(y)};
  x.dtype() == DType::kF64 ? ref::silu(ctx, args) : cpu::silu(ctx, args);
}

Tensor silu(Context& ctx, const Tensor& x) {
  Tensor y = Tensor::empty(x.shape(), x.dtype(), ctx.device());
  silu(ctx, x, y);
  return y;
}

void swiglu(Context& ctx, const Tensor& gate, const Tensor& up, const Tensor& y) {
  require_cpu(ctx, "swiglu");
  check(ctx, "swiglu", {"gate", gate}, {"up", up});
  check(ctx, "swiglu", {"gate", gate}, {"y", y});
  require_contiguous_rows("swiglu", {"y", y});
  if (gate.elements() == 0) return;
  const Tensor gate_rows = with_contiguous_rows(gate);
  const Tensor up_rows = with_contiguous_rows(up);
  const auto view = all_contiguous({&gate_rows, &up_rows, &y}) ? one_row : rows_of;
  const ActivationArgs args{view(gate_rows), view(up_rows), view(y)};
  gate.dtype() == DType::kF64 ? ref::swiglu(ctx, args) : cpu::swiglu(ctx, args);
}

void swiglu(Context& ctx, const Tensor& x, const Tensor& y) {
  require_cpu(ctx, "swiglu");
  require_floating(ctx, "swiglu", {{"x", x}, {"y", y}});
  const int64_t half = half_of(x);
  const int last = x.rank() - 1;
  swiglu(ctx, x.slice(last, 0, half), x.slice(last, half, 2 * half), y);
}

Tensor swiglu(Context& ctx, const Tensor& x) {
  Shape shape = x.shape();
  const int64_t half = half_of(x);
  shape[x.rank() - 1] = half;
  Tensor y = Tensor::empty(shape, x.dtype(), ctx.device());
  swiglu(ctx, x, y);
  return y;
}

}  // namespace wick::ops
