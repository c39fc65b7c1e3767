// Rotary position embedding with given tables (nn/rotary.h makes them).
#pragma once

#include "wick/tensor/context.h"
#include "wick/tensor/tensor.h"

namespace wick::ops {

// y0 = x0 * cos - x1 * sin;  y1 = x0 * sin + x1 * cos for the pairs of the first R elements of each head; elements R..Dh-1 are copied.
//
//              x, y             pairs                          also called
//   rope       (B, H, T, Dh)    (i, i + R/2)                   half-split, NeoX
//   rope_i     (B, H, T, Dh)    (2i, 2i + 1)                   interleaved, GPT-J
//   rope_thd   (B, T, H, Dh)    (i, i + R/2)
//   rope_i_thd (B, T, H, Dh)    (2i, 2i + 1)
//
// x: f32|f16|bf16|f64, any view (copied when the elements of a head are not neighbours);  y: as x, the elements of a head neighbours, may
// be x but not overlap it otherwise.
//
// cos, sin: of one shape and dtype, (Tc, R/2) shared by the batch or (B, Tc, R/2) with a table per row of the batch, any view; Tc >= T,
// rows 0..T-1 are used (slice the table for a later position); R <= Dh; dtype of x, or f32 with half x.
//
// Products and their sum are each rounded to f32, then once to y's dtype (f64 in f64): the same bits on every instruction set and in every
// layout. Synchronous on the CPU. Throws Error(kInvalidArgument) on a rank, shape, dtype or device mismatch (a rank-3 cos with a rank-2
// sin is one), Error(kUnsupported) on a device without the kernel.
void rope(Context& ctx, const Tensor& x, const Tensor& cos, const Tensor& sin, const Tensor& y);
void rope_i(Context& ctx, const Tensor& x, const Tensor& cos, const Tensor& sin, const Tensor& y);
void rope_thd(Context& ctx, const Tensor& x, const Tensor& cos, const Tensor& sin, const Tensor& y);
void rope_i_thd(Context& ctx, const Tensor& x, const Tensor& cos, const Tensor& sin, const Tensor& y);

Tensor rope(Context& ctx, const Tensor& x, const Tensor& cos, const Tensor& sin);
Tensor rope_i(Context& ctx, const Tensor& x, const Tensor& cos, const Tensor& sin);
Tensor rope_thd(Context& ctx, const Tensor& x, const Tensor& cos, const Tensor& sin);
Tensor rope_i_thd(Context& ctx, const Tensor& x, const Tensor& cos, const Tensor& sin);

}  // namespace wick::ops
