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

}  // namespace wick::ops
