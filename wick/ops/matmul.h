// Products of matrices that are both activations. With weights, linear() is the op: it can keep them packed.
#pragma once

#include "wick/tensor/context.h"
#include "wick/tensor/tensor.h"

namespace wick::ops {

// y[..., m, n] = sum over k of a[..., m, k] * b[..., k, n].
// a: [..., M, K], b: [..., K, N], of one dtype f32|f16|bf16|f64, rank >= 2, any view; leading dimensions broadcast: aligned at the right, a
// missing one or a 1 repeats;  y: [broadcast of both..., M, N], dtype of a, any view, must not overlap a or b.
// Sums in f32 in ascending k, rounded once; f64 in f64. An element does not depend on the rest of the call or on the number of threads.
// K = 0 gives zeros. b is repacked on the way; a copy is made of what is not evenly spaced rows of f32 or bf16. Synchronous on the CPU.
// Throws Error(kInvalidArgument) on a rank, shape, dtype or device mismatch, Error(kUnsupported) on a device without the kernel.
void matmul(Context& ctx, const Tensor& a, const Tensor& b, const Tensor& y);
Tensor matmul(Context& ctx, const Tensor& a, const Tensor& b);

}  // namespace wick::ops
