// What the ways of multiplying with a packed weight share.
#pragma once

#include "wick/kernels/cuda/device.cuh"
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

  __device__ void put(int64_t t, int64_t n, float sum) const {
    float& out = y[t * ld + n];
    if (bias) sum += bias[n];
    out = accumulate ? out + sum : sum;
  }
};

// Many rows on the tensor cores, weights of bf16 or a block format: y[t, n] = sum over k of x[t, k] * w[n, k].
// x: bf16 [rows, round_up(k, 8)], the padding zero.
void linear_tiles(Context& ctx, const __nv_bfloat16* x, int64_t rows, const WeightSegment& segment, const LinearOutput& out);

}  // namespace wick::cuda
