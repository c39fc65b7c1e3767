#include "wick/ops/f32_rows.h"

#include "wick/base/checked.h"
#include "wick/kernels/convert.h"
#include "wick/ops/arguments.h"
#include "wick/ops/device.h"

namespace wick::ops {
namespace {

// The rows of a tensor as one even sequence: leading dimensions that RowsView has joined into at most one.
F32Rows own_rows(const Tensor& tensor, const RowsView& view) {
  return {tensor.data<float>(), view.leading == 1 ? view.strides[0] : view.size, view.count};
}

F32Rows scratch_rows(Context& ctx, const Tensor& tensor) {
  const RowsView rows = rows_of(tensor);
  return {ctx.scratch<float>(tensor.elements()).data(), rows.size, rows.count};
}

RowsView view_of(const F32Rows& rows, int64_t size) {
  RowsView view;
  view.data = reinterpret_cast<std::byte*>(rows.data);
  view.count = rows.count;
  view.size = size;
  view.leading = 1;
  view.sizes[0] = rows.count;
  view.strides[0] = rows.stride;
  return view;
}

}  // namespace

bool is_f32_rows(const Tensor& tensor) { return tensor.dtype() == DType::kF32 && tensor.rows_contiguous() && rows_of(tensor).leading <= 1; }

int64_t bf16_row_stride(const Tensor& tensor) {
  if (tensor.dtype() != DType::kBF16 || !tensor.rows_contiguous() || tensor.elements() == 0) return 0;
  const RowsView rows = rows_of(tensor);
  const int64_t stride = rows.leading == 1 ? rows.strides[0] : rows.size;
  return rows.leading <= 1 && stride > 0 && stride % 8 == 0 && reinterpret_cast<uintptr_t>(rows.data) % 16 == 0 ? stride : 0;
}

F32Rows read_rows(Context& ctx, const Tensor& tensor) {
  if (is_f32_rows(tensor)) return own_rows(tensor, rows_of(tensor));
  const F32Rows rows = scratch_rows(ctx, tensor);
  const RowsView from = rows_of(tensor);
  run_kernel<cpu::convert, cuda::convert>(ctx, from, view_of(rows, from.size));
  return rows;
}

F32Rows output_rows(Context& ctx, const Tensor& tensor) {
  return is_f32_rows(tensor) ? own_rows(tensor, rows_of(tensor)) : scratch_rows(ctx, tensor);
}

void write_rows(Context& ctx, const F32Rows& rows, const Tensor& tensor) {
  if (is_f32_rows(tensor)) return;
  const RowsView to = rows_of(tensor);
  run_kernel<cpu::convert, cuda::convert>(ctx, view_of(rows, to.size), to);
}

}  // namespace wick::ops
