// Drawing tokens from logits.
#pragma once

#include "wick/kernels/token_draw.h"
#include "wick/tensor/context.h"
#include "wick/tensor/tensor.h"

namespace wick::ops {

// y[t] = the token that draws[t] takes from logits[t], by the rules of wick/kernels/token_draw.h, or -1 when logits[t] holds a NaN or its
// largest is not a finite number. next: as y, with 0 for -1, so that a step can be given it before y is read. The same on every device.
// logits: [N, V] f32, contiguous, 1 <= V <= kMostDrawTokens; y, next: [N] i32; draws: N of them in the memory of the context's device, or
// null: the largest logits, the lowest id among equals. Throws Error(kInvalidArgument) on a shape, dtype or device mismatch.
void draw_tokens(Context& ctx, const Tensor& logits, const TokenDraw* draws, const Tensor& y, const Tensor& next);

}  // namespace wick::ops
