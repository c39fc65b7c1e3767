// Elements from one view to another.
#pragma once

#include "wick/tensor/context.h"
#include "wick/tensor/tensor.h"

namespace wick::ops {

// y = x.   x, y: one shape and dtype, any plain type, any views that do not overlap. Synchronous on the CPU.
// Throws Error(kInvalidArgument) on a shape, dtype or device mismatch, Error(kUnsupported) for quantised types or a device without the kernel.
void copy(Context& ctx, const Tensor& x, const Tensor& y);

}  // namespace wick::ops
