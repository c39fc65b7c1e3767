#include "wick/ops/argmax.h"

#include <limits>

#include "wick/kernels/argmax.h"
#include "wick/ops/arguments.h"
#include "wick/ops/device.h"

namespace wick::ops {
namespace {

Shape leading_shape(const Tensor& x) {
  require_rank_1("argmax", {"x", x});
  return Shape(std::span<const int64_t>(x.shape().begin(), static_cast<size_t>(x.rank() - 1)));
}

void check(Context& ctx, const Tensor& x, const Tensor& y) {
  require_kernels(ctx, "argmax");
  require_floating(ctx, "argmax", {{"x", x}});
  const Shape expected = leading_shape(x);
  if (!y.defined() || !(y.device() == ctx.device())) {
    fail(ErrorCode::kInvalidArgument, "argmax: y is not a tensor on device ", ctx.device().name());
  }
  if (y.dtype() != DType::kI32 || !(y.shape() == expected) || !y.is_contiguous()) {
    fail(ErrorCode::kInvalidArgument, "argmax: y is ", dtype_name(y.dtype()), " ", y.shape().to_string(), ", expected contiguous i32 ",
         expected.to_string());
  }
  require(x.dim(-1) >= 1 && x.dim(-1) <= std::numeric_limits<int32_t>::max(), "argmax: the last dimension of x is ", x.dim(-1),
          ", expected 1 to 2^31 - 1");
}

}  // namespace

void argmax(Context& ctx, const Tensor& x, const Tensor& y) {
  check(ctx, x, y);
  if (x.elements() == 0) return;
  const Tensor source = with_contiguous_rows(ctx, x);
  ArgmaxArgs args;
  args.x = rows_of(source);
  args.y = y.data<int32_t>();
  if (x.dtype() == DType::kF64) return ref::argmax(ctx, args);
  run_kernel<cpu::argmax, cuda::argmax>(ctx, args);
}

Tensor argmax(Context& ctx, const Tensor& x) {
  require_floating(ctx, "argmax", {{"x", x}});
  Tensor y = Tensor::empty(leading_shape(x), DType::kI32, ctx.device());
  argmax(ctx, x, y);
  return y;
}

}  // namespace wick::ops
