// Matmul kernels read and write rows of f32 that are evenly spaced, some of them rows of bf16 as well: tensors of any float type and
// strides as such rows.
#pragma once

#include "wick/tensor/context.h"
#include "wick/tensor/tensor.h"

namespace wick::ops {

struct F32Rows {
  float* data = nullptr;
  int64_t stride = 0;  // elements from row to row
  int64_t count = 0;   // all leading dimensions, in row-major order
};

// Whether the tensor's own memory is such rows.
bool is_f32_rows(const Tensor& tensor);
// The distance in elements from row to row where the tensor is evenly spaced rows of bf16 that begin at multiples of 16 bytes; 0 if not.
int64_t bf16_row_stride(const Tensor& tensor);
// The tensor's rows, read only: where they are, or a copy in ctx's scratch.
F32Rows read_rows(Context& ctx, const Tensor& tensor);
// Memory for the rows of an output: its own, or scratch that write_rows copies into it.
F32Rows output_rows(Context& ctx, const Tensor& tensor);
void write_rows(Context& ctx, const F32Rows& rows, const Tensor& tensor);

// Sets a kernel's x and ldx: the rows of `x` as f32, or x_bf16, if `bf16` says that the kernel takes it and they are such rows.
template <class Args>
void give_input(Context& ctx, const Tensor& x, bool bf16, Args& args) {
  if (args.ldx = bf16 ? bf16_row_stride(x) : 0; args.ldx > 0) {
    args.x_bf16 = x.data<uint16_t>();
    return;
  }
  const F32Rows rows = read_rows(ctx, x);
  args.x = rows.data;
  args.ldx = rows.stride;
}

// The same of an output: y and ldy, or y_bf16. finish_output() after the kernel.
template <class Args>
F32Rows give_output(Context& ctx, const Tensor& y, bool bf16, Args& args) {
  if (args.ldy = bf16 ? bf16_row_stride(y) : 0; args.ldy > 0) {
    args.y_bf16 = y.data<uint16_t>();
    return {};
  }
  const F32Rows rows = output_rows(ctx, y);
  args.y = rows.data;
  args.ldy = rows.stride;
  return rows;
}

template <class Args>
void finish_output(Context& ctx, const Args& args, const F32Rows& rows, const Tensor& y) {
  if (args.y) write_rows(ctx, rows, y);
}

}  // namespace wick::ops
