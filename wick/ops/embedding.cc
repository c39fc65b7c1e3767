#include "wick/ops/embedding.h"

#include "wick/kernels/linear.h"
#include "wick/ops/device.h"

namespace wick::ops {

void embedding(Context& ctx, const Tensor& ids, const PackedWeight& table, const Tensor& y) {
  require_cpu(ctx, "embedding");
  require(ids.rank() == 1 && ids.dtype() == DType::kI32 && ids.is_contiguous(), "embedding: ids are ", dtype_name(ids.dtype()), " ",
          ids.shape(), ", expected contiguous i32 of rank 1");
  const Shape expected{ids.dim(0), table.k};
  require(y.dtype() == DType::kF32 && y.shape() == expected && y.rows_contiguous(), "embedding: y is ", dtype_name(y.dtype()), " ", y.shape(),
          ", expected f32 ", expected, " with contiguous rows");
  const int32_t* id = ids.data<int32_t>();
  for (int64_t t = 0; t < ids.dim(0); ++t) {
    require(id[t] >= 0 && id[t] < table.rows, "embedding: id ", id[t], " at position ", t, " is outside the table of ", table.rows, " rows");
  }
  float* out = y.data<float>();
  const int64_t stride = y.strides()[0];
  ctx.pool().parallel_for(ids.dim(0), 8, [&](int64_t begin, int64_t end, int) {
    for (int64_t t = begin; t < end; ++t) cpu::unpack_row(table, id[t], out + t * stride);
  });
}

}  // namespace wick::ops
