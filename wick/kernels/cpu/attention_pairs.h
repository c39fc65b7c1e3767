// q · k of plain bf16 tensors two elements at a time (VDPBF16PS), which takes them without rounding.
#pragma once

#include <cstdint>

#include "wick/base/machine.h"

namespace wick::cpu {

// A pair is two bf16 in 32 bits, the earlier one in the low half.
struct PairKernels {
  // out[i, t] = (rows[t, 2i], rows[t, 2i + 1]), i < dim / 2, t < 64; zero for t >= count. dim a multiple of 8.
  void (*keys)(const uint16_t* rows, int64_t row_stride, int64_t count, int64_t dim, uint32_t* out);
  // c[r, n] = scale * Σ a[r, k] · b[k, n] over `pairs` k in ascending order; r < rows <= 6, n < columns, a multiple of 16.
  void (*product)(const uint32_t* a, int64_t lda, const uint32_t* b, int64_t ldb, int64_t pairs, int64_t rows, int64_t columns, float scale, float* c,
                  int64_t ldc);
};

// Null where the instruction set has no such products.
const PairKernels* pair_kernels(Isa isa);

}  // namespace wick::cpu
