// Ops put together from elementary steps, as one writes them with a tensor library that has no fused ones: every step makes a new contiguous
// tensor, on one thread, rounded to the dtype. What wick's ops are compared with; nothing else uses them.
#pragma once

#include "wick/tensor/context.h"
#include "wick/tensor/tensor.h"

namespace wick::bench::naive {

// Elementary steps. f32, f16 or bf16, all of one dtype; sizes that differ are 1 in `b` (repeated).
Tensor narrow(const Tensor& x, int dim, int64_t begin, int64_t end);
Tensor concat(const Tensor& a, const Tensor& b, int dim);
Tensor contiguous(const Tensor& x);
Tensor add(const Tensor& a, const Tensor& b);
Tensor subtract(const Tensor& a, const Tensor& b);
Tensor multiply(const Tensor& a, const Tensor& b);
Tensor divide(const Tensor& a, const Tensor& b);
Tensor exp(const Tensor& x);
Tensor log(const Tensor& x);
Tensor sqrt(const Tensor& x);
Tensor tanh(const Tensor& x);
Tensor erf(const Tensor& x);
Tensor affine(const Tensor& x, float factor, float offset);  // factor * x + offset
Tensor max_last_dim(const Tensor& x);                        // [..., 1]
Tensor sum_last_dim(const Tensor& x);

// The ops.
Tensor rope(const Tensor& x, const Tensor& cos, const Tensor& sin);    // (B, H, T, Dh), tables [T, Dh / 2] of x's dtype
Tensor rope_i(const Tensor& x, const Tensor& cos, const Tensor& sin);
Tensor softmax(const Tensor& x);
Tensor log_softmax(const Tensor& x);
Tensor rms_norm(const Tensor& x, const Tensor& w, float eps);
Tensor layer_norm(const Tensor& x, const Tensor& w, const Tensor& b, float eps);
Tensor silu(const Tensor& x);
Tensor gelu(const Tensor& x);
Tensor gelu_tanh(const Tensor& x);
// K and V repeated for each group of heads, whole score matrix, mask, softmax. The two products are wick's own.
Tensor attention(Context& ctx, const Tensor& q, const Tensor& k, const Tensor& v);

}  // namespace wick::bench::naive
