// What the elementwise and row ops check of their tensors, and the views that their kernels take. Every message names op and argument.
#pragma once

#include <initializer_list>

#include "wick/kernels/attention.h"
#include "wick/kernels/rows.h"
#include "wick/tensor/context.h"
#include "wick/tensor/tensor.h"

namespace wick::ops {

// A tensor with the name that the op's header gives it.
struct Argument {
  const char* name;
  const Tensor& tensor;
};

// Throws Error(kInvalidArgument) unless every argument is defined, on ctx's device and f32, f16, bf16 or f64; Error(kUnsupported) for f64
// on another device than the CPU.
void require_floating(const Context& ctx, const char* op, std::initializer_list<Argument> arguments);

// Throws Error(kInvalidArgument) unless `other` has the dtype (and the shape) of `model`.
void require_same_dtype(const char* op, const Argument& model, const Argument& other);
void require_same_shape(const char* op, const Argument& model, const Argument& other);

// Throws Error(kInvalidArgument) unless the elements of the last dimension are neighbours: what a kernel asks of a tensor it writes.
void require_contiguous_rows(const char* op, const Argument& output);

// Throws Error(kInvalidArgument) unless the tensor has at least one dimension.
void require_rank_1(const char* op, const Argument& argument);

// Throws Error(kInvalidArgument) when an element of the output lies where one of the input does, unless they are the same view (same) or
// in any case (disjoint). Views that interleave without touching, as slices of one buffer do, are told apart when their strides agree; others
// whose memory interleaves are taken to overlap.
void require_disjoint_or_same(const char* op, const Argument& input, const Argument& output);
void require_disjoint(const char* op, const Argument& input, const Argument& output);

// `tensor`, or a contiguous copy on ctx's device when the elements of its last dimension are not neighbours, or when it is not contiguous.
Tensor with_contiguous_rows(Context& ctx, const Tensor& tensor);
Tensor contiguous(Context& ctx, const Tensor& tensor);

// The rows of a tensor; of rank 0 one row of one element.
RowsView rows_of(const Tensor& tensor);
// For functions of single elements: contiguous tensors become one long row, others stay as they are. All must have one shape.
bool all_contiguous(std::initializer_list<const Tensor*> tensors);
RowsView one_row(const Tensor& tensor);

// A tensor [B, heads, positions, Dh].
HeadsView heads_view(const Tensor& tensor);

}  // namespace wick::ops
