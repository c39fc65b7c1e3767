// Stored rows to plain ones.
#pragma once

#include "wick/tensor/context.h"
#include "wick/tensor/dtype.h"

namespace wick::cuda {

// out[r, i] = element i of stored row r, exactly the value that its type defines, in rows of ld >= k; behind rows of plain types zeros.
void expand_rows(Context& ctx, const std::byte* stored, DType type, int64_t rows, int64_t k, float* out, int64_t ld);

}  // namespace wick::cuda
