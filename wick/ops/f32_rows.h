// Matmul kernels read and write rows of f32 that are evenly spaced: tensors of any float type and strides as such rows.
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

}  // namespace wick::ops
