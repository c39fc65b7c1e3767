// The search for the scales of a quantised block: which scale (and minimum) gives the smallest sum of squared errors.
//
// Knows of numbers only, nothing of how a format stores them. Values are expected in [-1, 1], at least one of them above 1/4 in magnitude
// within the block that they belong to: encode_blocks scales by a power of two. Sums in f32, the same on every machine.
#pragma once

#include <cstdint>

namespace wick {

// x ≈ scale * q - minimum
struct BlockScale {
  float scale = 0;
  float minimum = 0;
};

// Codes that a format has: q in [lowest, highest].
struct CodeRange {
  float lowest;
  float highest;
};

// q[i] = the code nearest to (x[i] + minimum) / scale, half to even; the code nearest to 0 for a scale of 0. Returns the sum of squared errors.
template <int N>
float nearest_codes(const float* x, BlockScale block, CodeRange range, float* q);

// The scale, of either sign, for x ≈ scale * q: candidates around largest magnitude / lowest, each moved to its least-squares value.
template <int N>
float fit_scale(const float* x, CodeRange range);

// Scale >= 0 and minimum for x ≈ scale * q - minimum, q in [0, highest]: candidates around the range of x, each moved to its least-squares
// line, the best of them refined. With `subtract_only` the minimum is not negative, as the K formats store it.
template <int N>
BlockScale fit_line(const float* x, float highest, bool subtract_only);

}  // namespace wick
