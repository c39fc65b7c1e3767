// Rows of a table by token id.
#pragma once

#include "wick/kernels/packed_weight.h"
#include "wick/tensor/context.h"
#include "wick/tensor/tensor.h"

namespace wick::ops {

// y[..., :] = table[ids[...], :].   ids: [...] i32 or i64, any rank and view;  y: [..., D], rows contiguous.
// A packed table, which may be that of a tied output head: exactly the values that its type defines, y f32|f16|bf16, rounded once.
// A tensor [V, D] of f32|f16|bf16|f64, any view: copied, y of its dtype.
// Synchronous on the CPU. Throws Error(kInvalidArgument) for a mismatch and for an id outside the table, on the CPU before y is touched, else
// at the next Context::synchronize().
void embedding(Context& ctx, const Tensor& ids, const PackedWeight& table, const Tensor& y);
void embedding(Context& ctx, const Tensor& ids, const Tensor& table, const Tensor& y);
Tensor embedding(Context& ctx, const Tensor& ids, const PackedWeight& table);  // f32
Tensor embedding(Context& ctx, const Tensor& ids, const Tensor& table);

}  // namespace wick::ops
