// Softmax over any dimension.
#pragma once

#include "wick/tensor/context.h"
#include "wick/tensor/tensor.h"

namespace wick::ops {

// y = e^(x - m) / sum(e^(x - m)) with m = max(x), over dimension `dim`; a negative dim counts from the end.
// x: rank >= 1, f32|f16|bf16|f64, any view;  y: as x, any view, may be x but not overlap it otherwise.
// Exponentials in f32, blocked f32 sums, rounded once; f64 in f64. A row's result does not depend on the other rows or the number of
// threads. A row of all -inf, or with a NaN or +inf, gives NaN. (Attention gives zeros where everything is masked.) Synchronous on the CPU.
// Throws Error(kInvalidArgument) on a shape, dtype or device mismatch and for a dim out of range, Error(kUnsupported) on a device without
// the kernel.
void softmax(Context& ctx, const Tensor& x, int dim, const Tensor& y);
Tensor softmax(Context& ctx, const Tensor& x, int dim);

// softmax over the last dimension.
void softmax_last_dim(Context& ctx, const Tensor& x, const Tensor& y);
Tensor softmax_last_dim(Context& ctx, const Tensor& x);

// y = x - m - log(sum(e^(x - m))) over dimension `dim`. Else as softmax.
void log_softmax(Context& ctx, const Tensor& x, int dim, const Tensor& y);
Tensor log_softmax(Context& ctx, const Tensor& x, int dim);

}  // namespace wick::ops
