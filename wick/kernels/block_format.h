// Rows of weights to f32 and back, for every type that weights are stored in: the layouts are those of tensor/dtype.h.
//
// Plain loops for loading and converting files. Not for the token loop, which multiplies with packed weights (linear.h).
#pragma once

#include <cstddef>
#include <cstdint>

#include "wick/tensor/dtype.h"

namespace wick {

// Whether the functions below know the type: f32, f16, bf16 and the block formats.
bool has_codec(DType type);

// out[i] = element i of `elements` consecutive ones, in f32: exactly the value that the format defines, but for the one rounding of the sum
// in Q4_1, Q5_1, Q4_K and Q5_K. Scales that are infinite or NaN give what f32 arithmetic makes of them.
// Throws Error(kUnsupported) for integer types and f64.
void decode_blocks(DType type, const std::byte* stored, int64_t elements, float* out);

// The other direction. f32, f16 and bf16: rounded once, to nearest even; NaN and infinity stay, and f16 has infinity beyond 65504.
// Block formats: scales and minimums that make the sum of squared errors small (block_search.h), except Q8_0, whose scale is the largest
// magnitude / 127. Scales are finite whatever the values: what an f16 scale cannot reach becomes the nearest value that the block can
// hold, and blocks below 2^-25 in magnitude become zero.
// Throws Error(kInvalidArgument) naming the element for a NaN or an infinity that should go into a block, and for elements that are not
// whole blocks; Error(kUnsupported) as above.
void encode_blocks(DType type, const float* x, int64_t elements, std::byte* out);

}  // namespace wick
