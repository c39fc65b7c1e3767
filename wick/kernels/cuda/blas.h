// Matrix products of cuBLASLt, which is opened when it is first wanted: programs run without it, on kernels of their own.
#pragma once

#include <cstddef>
#include <cstdint>

#include "wick/tensor/context.h"
#include "wick/tensor/dtype.h"

namespace wick::cuda {

inline constexpr size_t kBlasWorkspaceBytes = size_t{32} << 20;  // what the fastest algorithms of Hopper ask for

// What shares of a product that are still to be added up take at most.
inline constexpr int64_t kBlasShareFloats = int64_t{1} << 21;

struct BlasProduct {
  const void* x = nullptr;  // [rows, k], rows ldx apart
  int64_t rows = 0, ldx = 0;
  const void* weight = nullptr;  // [outputs, k], rows ldw apart
  int64_t outputs = 0, ldw = 0, k = 0;
  void* y = nullptr;  // [rows, outputs], rows ldy apart
  DType y_type = DType::kF32;  // or `type`
  int64_t ldy = 0;
  const float* bias = nullptr;  // [outputs] or none
  bool accumulate = false;
  DType type = DType::kBF16;    // of x and weight: f32, f16, bf16
  bool weight_rows_are_inputs = false;  // weight is [k, outputs]
  int64_t batches = 1;          // products like this one, so many elements apart
  int64_t x_step = 0, weight_step = 0, y_step = 0;
};

// Whether the library is there and may be asked: the order of its sums depends on the number of rows.
bool has_blas(const Context& ctx);

// y = x W^T (+ bias) (+ y), sums in f32, on ctx's stream. False without has_blas() and when the library does not want this product; y is
// untouched then.
bool blas_product(Context& ctx, const BlasProduct& product);

}  // namespace wick::cuda
