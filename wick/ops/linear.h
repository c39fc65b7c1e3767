// Matrix products with weights: y = x W^T + b.
#pragma once

#include <span>

#include "wick/kernels/packed_weight.h"
#include "wick/tensor/context.h"
#include "wick/tensor/tensor.h"

namespace wick::ops {

// A plain or quantised weight tensor [N, K] in the form that linear() reads on ctx's device. Copies; `weight` may go afterwards.
// Throws Error(kUnsupported) for a dtype without kernels.
PackedWeight pack_weight(Context& ctx, const Tensor& weight);
// The tensor as a source of rows for append_weight; it keeps the memory alive, or a copy of it where it is not the CPU's.
WeightSource weight_source(const Tensor& weight);
bool can_pack(DType type);  // whether weights of this type have kernels
// Bytes that a weight [rows, k] of this type takes on `device`, packed; on one without kernels, as stored.
uint64_t packed_bytes(const Device& device, DType type, int64_t rows, int64_t k);
// Appends the rows of `source` to `weight` as a segment of its own, in f32 when `expand`. Throws what source.read_rows throws, too.
void append_weight(Context& ctx, const WeightSource& source, bool expand, PackedWeight& weight);

// All of them, in order. On CUDA neighbours of bf16 lie side by side, where one product can run over them.
void append_weights(Context& ctx, std::span<const WeightSource> sources, bool expand, PackedWeight& weight);

struct LinearOptions {
  const Tensor* bias = nullptr;  // [N] f32 or the dtype of x
  bool accumulate = false;       // y += instead of y =; f32 only
  const Tensor* norm = nullptr;  // [K] f32: x is rms_norm(x, *norm, norm_eps)
  double norm_eps = 0;
  // Where rounds_to_bf16() holds: bf16 [T, N] contiguous, N a multiple of 8, gets rms_norm(y, *next_norm, norm_eps), which the next product
  // wants. y is rows of f32.
  const Tensor* normed = nullptr;
  const Tensor* next_norm = nullptr;  // [N] f32
  bool swiglu = false;  // the outputs are gates, then as many ups: y is [..., N / 2], silu(gate) * up; not with accumulate
};

// Whether linear() with so many rows rounds x to bf16, so that whoever makes x may as well do it.
bool rounds_to_bf16(const Context& ctx, const PackedWeight& weight, int64_t rows);

// y[..., n] = sum over k of x[..., k] * W[n, k] + bias[n].
// x: [..., K] f32|f16|bf16, any rank >= 1, any view;  y: [..., N], dtype of x, or one of the two f32 and the other bf16, any view, must not
// overlap x.
// W: packed once and for all, or a tensor [N, K] of f32|f16|bf16 (any view) or of a quantised type, packed on the way by every call: for a
// weight that is used again, pack it.
// x is rounded once as the weight's type asks (kernels/linear.h), sums in f32 in ascending k, the result rounded once. A row's result does
// not depend on the other rows or on the number of threads. f32 rows that are evenly spaced are used where they are, other views cost a
// copy, except where rounds_to_bf16() holds or, on the CPU, all weights are bf16: rows of bf16 are then as good. Norm and swiglu are for
// packed weights. Synchronous on the CPU; on CUDA as kernels/linear.h says.
// Throws Error(kInvalidArgument) on a rank, shape or dtype mismatch, Error(kUnsupported) on a device without the kernel.
void linear(Context& ctx, const Tensor& x, const PackedWeight& weight, const Tensor& y, const LinearOptions& options = {});
void linear(Context& ctx, const Tensor& x, const Tensor& weight, const Tensor& y, const LinearOptions& options = {});
Tensor linear(Context& ctx, const Tensor& x, const PackedWeight& weight, const LinearOptions& options = {});
Tensor linear(Context& ctx, const Tensor& x, const Tensor& weight, const LinearOptions& options = {});

}  // namespace wick::ops
