// The position of the largest element: greedy decoding.
#pragma once

#include "wick/tensor/context.h"
#include "wick/tensor/tensor.h"

namespace wick::ops {

// y[t] = the lowest position of the largest element of x[t], or -1 when x[t] holds a NaN (so that only that row's request need fail).
// x: [..., V] f32|f16|bf16|f64, rank >= 1, 1 <= V < 2^31, any view (copied when the elements of a row are not neighbours);
// y: [...] i32, contiguous. -0 equals 0. Synchronous on the CPU.
// Throws Error(kInvalidArgument) on a shape, dtype or device mismatch or an empty row, Error(kUnsupported) on a device without the kernel.
void argmax(Context& ctx, const Tensor& x, const Tensor& y);
Tensor argmax(Context& ctx, const Tensor& x);
// The same of f32 rows that lie one after another, but -1 where the largest element is not a finite number: the token that a Sampler chooses at
// temperature 0. next: as y, with 0 for -1, so that a step can be given it before y is read.
void greedy(Context& ctx, const Tensor& logits, const Tensor& y, const Tensor& next);

}  // namespace wick::ops
