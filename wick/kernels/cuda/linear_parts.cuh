// What the ways of multiplying with a packed weight share.
#pragma once

#include "wick/kernels/cuda/packed_blocks.cuh"
#include "wick/kernels/linear.h"

namespace wick::cuda {

// What weights of T make of an input.
template <class T>
__device__ float rounded_input(float x) {
  if constexpr (std::is_same_v<T, __nv_bfloat16>) return to_float(__float2bfloat16_rn(x));
  return x;
}

// The columns of y that a segment fills, and what is added to them.
struct LinearOutput {
  float* y;
  int64_t ld;
  const float* bias;  // or none
  bool accumulate;

  __device__ float with_bias(int64_t n, float sum) const { return bias ? sum + bias[n] : sum; }
  __device__ void put(int64_t t, int64_t n, float sum) const {
    float& out = y[t * ld + n];
    out = accumulate ? out + with_bias(n, sum) : with_bias(n, sum);
  }
};

// Neighbouring segments of one type, which a launch does together.
struct Segment {
  PackedBlocks blocks;    // of block formats
  const std::byte* data;  // of plain types
  int64_t outputs;
  LinearOutput out;
};
inline constexpr int kMostSegments = 4;
struct Segments {
  DType type;
  int count;
  int64_t outputs;  // of the largest
  Segment at[kMostSegments];
};

// x of a product of few rows: f32, normalised on the way where there is a norm.
struct LinearInput {
  const float* x;
  int64_t ldx;
  int rows;
  int64_t k;
  const float* norm;  // [k], or none
  float eps;
};

// Up to kFewRows rows with weights of bf16 or a block format, bound by the weights' bytes. With `swiglu` the two segments are gate and up,
// and the first one's output gets silu(gate) * up.
// x lies and ends at multiples of 16 bytes, and so does norm.
void linear_stream(Context& ctx, const LinearInput& input, const Segments& segments, bool swiglu);
// Whether there is a kernel for weights of this type, and room for a row of x.
bool can_stream(Context& ctx, DType type, int64_t k);

// Many rows on the tensor cores, weights of bf16 or a block format: y[t, n] = sum over k of x[t, k] * w[n, k].
// x: bf16 [rows, round_up(k, 8)], the padding zero.
void linear_tiles(Context& ctx, const __nv_bfloat16* x, int64_t rows, const WeightSegment& segment, const LinearOutput& out);

}  // namespace wick::cuda
