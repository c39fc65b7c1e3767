#include "wick/ops/copy.h"

#include "wick/base/error.h"
#include "wick/kernels/convert.h"
#include "wick/ops/arguments.h"
#include "wick/ops/device.h"

namespace wick::ops {

void copy(Context& ctx, const Tensor& x, const Tensor& y) {
  require_kernels(ctx, "copy");
  require(x.defined() && y.defined(), "copy: x or y is an empty handle, expected tensors");
  require(x.device() == ctx.device() && y.device() == ctx.device(), "copy: x is on ", x.device().name(), ", y on ", y.device().name(), ", expected ",
          ctx.device().name());
  if (is_quantised(x.dtype())) fail(ErrorCode::kUnsupported, "copy: x is ", dtype_name(x.dtype()));
  require_same_dtype("copy", {"x", x}, {"y", y});
  require_same_shape("copy", {"x", x}, {"y", y});
  require_disjoint_or_same("copy", {"x", x}, {"y", y});
  if (x.elements() == 0) return;
  run_kernel<cpu::copy, cuda::copy>(ctx, rows_of(x), rows_of(y));
}

}  // namespace wick::ops
