// Normalisation over the last dimension.
#pragma once

#include "wick/tensor/context.h"
#include "wick/tensor/tensor.h"

namespace wick::ops {

// y = x / sqrt(mean(x^2) + eps) * w over the last dimension N.
// x: [..., N] f32|f16|bf16|f64, rank >= 1, any view (copied when the elements of a row are not neighbours);  w: [N], dtype of x or f32 with
// half x;  y: as x, rows contiguous, may be x but not overlap it otherwise.
// The f32 sum is blocked, rounded once; f64 in f64. A row's result does not depend on the other rows or the number of threads. A row of
// zeros with eps 0 gives NaN. Synchronous on the CPU.
// Throws Error(kInvalidArgument) on a shape, dtype or device mismatch and for an eps that is negative or not finite, Error(kUnsupported) on
// a device without the kernel.
void rms_norm(Context& ctx, const Tensor& x, const Tensor& w, double eps, const Tensor& y);
Tensor rms_norm(Context& ctx, const Tensor& x, const Tensor& w, double eps);

// r = r + x, rounded to r's dtype, and y = rms_norm(r), in one pass: bit for bit the two ops in turn.
// r: as x, rows contiguous, written;  y may be x but neither may be r. Else as rms_norm.
void add_rms_norm(Context& ctx, const Tensor& x, const Tensor& r, const Tensor& w, double eps, const Tensor& y);
Tensor add_rms_norm(Context& ctx, const Tensor& x, const Tensor& r, const Tensor& w, double eps);

// y = (x - m) / sqrt(mean((x - m)^2) + eps) * w + b over the last dimension N, m = mean(x).
// b: as w, or null for none. m is exact to f32 whatever the row's mean: no cancellation. Else as rms_norm.
void layer_norm(Context& ctx, const Tensor& x, const Tensor& w, const Tensor* b, double eps, const Tensor& y);
void layer_norm(Context& ctx, const Tensor& x, const Tensor& w, const Tensor& b, double eps, const Tensor& y);
Tensor layer_norm(Context& ctx, const Tensor& x, const Tensor& w, const Tensor& b, double eps);
Tensor layer_norm(Context& ctx, const Tensor& x, const Tensor& w, double eps);

}  // namespace wick::ops
