// Rows of a table by token id.
#pragma once

#include "wick/kernels/packed_weight.h"
#include "wick/tensor/context.h"
#include "wick/tensor/tensor.h"

namespace wick::ops {

// y[t, :] = table[ids[t], :] in f32, exactly the values that the table's type defines.   ids: [T] i32 contiguous;  y: [T, D] f32, rows contiguous.
// The table may be the packed weight of a tied output head. Throws Error(kInvalidArgument) for an id outside the table or a mismatch.
void embedding(Context& ctx, const Tensor& ids, const PackedWeight& table, const Tensor& y);

}  // namespace wick::ops
