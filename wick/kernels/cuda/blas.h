// Matrix products of cuBLASLt, which is opened when it is first wanted: programs run without it, on kernels of their own.
#pragma once

#include <cstdint>

#include "wick/tensor/context.h"

namespace wick::cuda {

struct BlasProduct {
  const void* x = nullptr;  // bf16 [rows, k], rows ldx apart
  int64_t rows = 0, ldx = 0;
  const void* weight = nullptr;  // bf16 [outputs, k], rows ldw apart
  int64_t outputs = 0, ldw = 0, k = 0;
  float* y = nullptr;  // [rows, outputs], rows ldy apart
  int64_t ldy = 0;
  const float* bias = nullptr;  // [outputs] or none
  bool accumulate = false;
};

// y = x W^T (+ bias) (+ y), sums in f32, on ctx's stream. False when the library is not there or does not want this product; y is untouched
// then.
bool blas_product(Context& ctx, const BlasProduct& product);

}  // namespace wick::cuda
