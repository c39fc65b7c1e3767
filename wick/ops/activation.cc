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

// y = function(x), times `up` where there is one.
void run(Context& ctx, const char* op, Activation function, const Argument& x, const Tensor* up, const Tensor& y) {
  require_kernels(ctx, op);
  if (up) check(ctx, op, x, {"up", *up});
  check(ctx, op, x, {"y", y});
  require_contiguous_rows(op, {"y", y});
  require_disjoint_or_same(op, x, {"y", y});
  if (up) require_disjoint_or_same(op, {"up", *up}, {"y", y});
  if (y.elements() == 0) return;
  const Tensor gate_rows = with_contiguous_rows(ctx, x.tensor);
  const Tensor up_rows = up ? with_contiguous_rows(ctx, *up) : gate_rows;
  const auto view = all_contiguous({&gate_rows, &up_rows, &y}) ? one_row : rows_of;
  const ActivationArgs args{function, view(gate_rows), up ? view(up_rows) : RowsView(), view(y)};
  if (y.dtype() == DType::kF64) return ref::activation(ctx, args);
  run_kernel<cpu::activation, cuda::activation>(ctx, args);
}

Tensor plain(Context& ctx, const char* op, Activation function, const Tensor& x) {
  Tensor y = Tensor::empty(x.shape(), x.dtype(), ctx.device());
  run(ctx, op, function, {"x", x}, nullptr, y);
  return y;
}

// The last dimension of x, halved.
int64_t half_of(const char* op, const Tensor& x) {
  require_rank_1(op, {"x", x});
  require(x.dim(-1) % 2 == 0, op, ": the last dimension of x is ", x.dim(-1), ", expected an even number");
  return x.dim(-1) / 2;
}

void halves(Context& ctx, const char* op, Activation function, const Tensor& x, const Tensor& y) {
  require_floating(ctx, op, {{"x", x}, {"y", y}});
  const int64_t half = half_of(op, x);
  const int last = x.rank() - 1;
  const Tensor up = x.slice(last, half, 2 * half);
  run(ctx, op, function, {"gate", x.slice(last, 0, half)}, &up, y);
}

Tensor halves(Context& ctx, const char* op, Activation function, const Tensor& x) {
  Shape shape = x.shape();
  const int64_t half = half_of(op, x);
  shape[x.rank() - 1] = half;
  Tensor y = Tensor::empty(shape, x.dtype(), ctx.device());
  halves(ctx, op, function, x, y);
  return y;
}

}  // namespace

void silu(Context& ctx, const Tensor& x, const Tensor& y) { run(ctx, "silu", Activation::kSilu, {"x", x}, nullptr, y); }
void gelu(Context& ctx, const Tensor& x, const Tensor& y) { run(ctx, "gelu", Activation::kGelu, {"x", x}, nullptr, y); }
void gelu_tanh(Context& ctx, const Tensor& x, const Tensor& y) { run(ctx, "gelu_tanh", Activation::kGeluTanh, {"x", x}, nullptr, y); }
void sigmoid(Context& ctx, const Tensor& x, const Tensor& y) { run(ctx, "sigmoid", Activation::kSigmoid, {"x", x}, nullptr, y); }
Tensor silu(Context& ctx, const Tensor& x) { return plain(ctx, "silu", Activation::kSilu, x); }
Tensor gelu(Context& ctx, const Tensor& x) { return plain(ctx, "gelu", Activation::kGelu, x); }
Tensor gelu_tanh(Context& ctx, const Tensor& x) { return plain(ctx, "gelu_tanh", Activation::kGeluTanh, x); }
Tensor sigmoid(Context& ctx, const Tensor& x) { return plain(ctx, "sigmoid", Activation::kSigmoid, x); }

void swiglu(Context& ctx, const Tensor& gate, const Tensor& up, const Tensor& y) {
  run(ctx, "swiglu", Activation::kSilu, {"gate", gate}, &up, y);
}
void geglu(Context& ctx, const Tensor& gate, const Tensor& up, const Tensor& y) {
  run(ctx, "geglu", Activation::kGelu, {"gate", gate}, &up, y);
}
void geglu_tanh(Context& ctx, const Tensor& gate, const Tensor& up, const Tensor& y) {
  run(ctx, "geglu_tanh", Activation::kGeluTanh, {"gate", gate}, &up, y);
}

void swiglu(Context& ctx, const Tensor& x, const Tensor& y) { halves(ctx, "swiglu", Activation::kSilu, x, y); }
void geglu(Context& ctx, const Tensor& x, const Tensor& y) { halves(ctx, "geglu", Activation::kGelu, x, y); }
void geglu_tanh(Context& ctx, const Tensor& x, const Tensor& y) { halves(ctx, "geglu_tanh", Activation::kGeluTanh, x, y); }
Tensor swiglu(Context& ctx, const Tensor& x) { return halves(ctx, "swiglu", Activation::kSilu, x); }
Tensor geglu(Context& ctx, const Tensor& x) { return halves(ctx, "geglu", Activation::kGelu, x); }
Tensor geglu_tanh(Context& ctx, const Tensor& x) { return halves(ctx, "geglu_tanh", Activation::kGeluTanh, x); }

}  // namespace wick::ops
