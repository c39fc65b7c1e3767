#include "wick/ops/copy.h"

#include <cstring>

#include "wick/base/error.h"
#include "wick/ops/arguments.h"
#include "wick/ops/device.h"

namespace wick::ops {

void copy(Context& ctx, const Tensor& x, const Tensor& y) {
  require_cpu(ctx, "copy");
  require(x.defined() && y.defined(), "copy: x or y is an empty handle, expected tensors");
  require(x.device() == ctx.device() && y.device() == ctx.device(), "copy: x is on ", x.device().name(), ", y on ", y.device().name(), ", expected ",
          ctx.device().name());
  if (is_quantised(x.dtype())) fail(ErrorCode::kUnsupported, "copy: x is ", dtype_name(x.dtype()));
  require_same_dtype("copy", {"x", x}, {"y", y});
  require_same_shape("copy", {"x", x}, {"y", y});
  require_disjoint_or_same("copy", {"x", x}, {"y", y});
  if (x.elements() == 0) return;
  const RowsView from = rows_of(x);
  const RowsView to = rows_of(y);
  const size_t bytes = static_cast<size_t>(traits(x.dtype()).bytes);
  ctx.pool().parallel_for(from.count, share_grain(from.size), [&](int64_t begin, int64_t end, int) {
    for (int64_t row = begin; row < end; ++row) {
      const std::byte* source = from.at(row);
      std::byte* target = to.at(row);
      if (from.step == 1 && to.step == 1) {
        std::memcpy(target, source, static_cast<size_t>(from.size) * bytes);
        continue;
      }
      for (int64_t i = 0; i < from.size; ++i) {
        std::memcpy(target + i * to.step * static_cast<int64_t>(bytes), source + i * from.step * static_cast<int64_t>(bytes), bytes);
      }
    }
  });
}

}  // namespace wick::ops
