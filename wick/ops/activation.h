// Activation functions, element by element.
#pragma once

#include "wick/tensor/context.h"
#include "wick/tensor/tensor.h"

namespace wick::ops {

// For all: f32|f16|bf16|f64 of one dtype; inputs are any views (copied when the elements of a row are not neighbours), y has contiguous
// rows and may be an input (or a half of x) but not overlap it otherwise. Computed in f32 (f64 in f64), rounded once. Rank 0
// and empty tensors are legal. NaN stays NaN, f(-inf) is NaN as the formulas say. Synchronous on the CPU. Throws Error(kInvalidArgument)
// on a shape, dtype or device mismatch, Error(kUnsupported) on a device without the kernel.

// y = f(x).   y: as x.
//   silu       x / (1 + e^-x), also called swish
//   gelu       x * (1 + erf(x / sqrt(2))) / 2
//   gelu_tanh  x * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3))) / 2: the approximation that some models were trained with
//   sigmoid    1 / (1 + e^-x); of -inf 0
void silu(Context& ctx, const Tensor& x, const Tensor& y);
void gelu(Context& ctx, const Tensor& x, const Tensor& y);
void gelu_tanh(Context& ctx, const Tensor& x, const Tensor& y);
void sigmoid(Context& ctx, const Tensor& x, const Tensor& y);
Tensor silu(Context& ctx, const Tensor& x);
Tensor gelu(Context& ctx, const Tensor& x);
Tensor gelu_tanh(Context& ctx, const Tensor& x);
Tensor sigmoid(Context& ctx, const Tensor& x);

// y = f(gate) * up, with silu, gelu and gelu_tanh.   up, y: as gate. Slices of one [T, 2F] buffer are read as they are.
void swiglu(Context& ctx, const Tensor& gate, const Tensor& up, const Tensor& y);
void geglu(Context& ctx, const Tensor& gate, const Tensor& up, const Tensor& y);
void geglu_tanh(Context& ctx, const Tensor& gate, const Tensor& up, const Tensor& y);

// The same of the halves of x's last dimension: gate = x[..., :F], up = x[..., F:].   x: [..., 2F], rank >= 1;  y: [..., F].
void swiglu(Context& ctx, const Tensor& x, const Tensor& y);
void geglu(Context& ctx, const Tensor& x, const Tensor& y);
void geglu_tanh(Context& ctx, const Tensor& x, const Tensor& y);
Tensor swiglu(Context& ctx, const Tensor& x);
Tensor geglu(Context& ctx, const Tensor& x);
Tensor geglu_tanh(Context& ctx, const Tensor& x);

}  // namespace wick::ops
