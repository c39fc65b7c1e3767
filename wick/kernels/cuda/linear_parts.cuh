// What the ways of multiplying with a packed weight share.
#pragma once

#include <span>

#include "wick/kernels/cuda/packed_blocks.cuh"
#include "wick/kernels/linear.h"

namespace wick::cuda {

// What weights of T make of an input.
template <class T>
__device__ float rounded_input(float x) {
  if constexpr (std::is_same_v<T, __nv_bfloat16>) return to_float(__float2bfloat16_rn(x));
  return x;
}

// A lane's block of four in a slot that keeps words of 16 bytes as they lie in memory, which is how they are copied a sector at a time: the
// second cache is asked once for words that stay neighbours, and aligned. Of blocks of two words those of the third and fourth change
// places, so that eight lanes read from all banks; so do the halves of what they are multiplied with.
template <int kWords>
__device__ void read_block(const uint4 (&words)[kWords][kWarp], int lane, uint4 (&block)[kWords]) {
  if constexpr (kWords == 1) {
    block[0] = words[0][lane];
  } else {
    const int t = lane % 4;
    const uint4* const own = &words[t / 2][lane - t + t % 2 * 2];
    block[0] = own[t / 2];
    block[1] = own[1 - t / 2];
  }
}
// The place of a half of the input for one of four blocks.
template <int kWords>
__device__ int place_of_half(int half, int block) {
  return half ^ static_cast<int>(kWords == 2 && block >= 2);
}

// The columns of y that a segment fills, and what is added to them.
struct LinearOutput {
  float* y;
  int64_t ld;
  const float* bias;  // or none
  bool accumulate;
  __nv_bfloat16* rounded = nullptr;  // in place of y: only without accumulate

  bool anywhere() const { return y || rounded; }
  __device__ float with_bias(int64_t n, float sum) const { return bias ? sum + bias[n] : sum; }
  __device__ void put(int64_t t, int64_t n, float sum) const {
    if (rounded) {
      rounded[t * ld + n] = __float2bfloat16_rn(with_bias(n, sum));
      return;
    }
    float& out = y[t * ld + n];
    out = accumulate ? out + with_bias(n, sum) : with_bias(n, sum);
  }
  // That of the segment behind one of so many outputs.
  LinearOutput behind(int64_t outputs) const {
    return {y ? y + outputs : nullptr, ld, bias ? bias + outputs : nullptr, accumulate, rounded ? rounded + outputs : nullptr};
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

inline int64_t outputs_of(std::span<const WeightSegment> segments) {
  int64_t outputs = 0;
  for (const WeightSegment& segment : segments) outputs += segment.rows;
  return outputs;
}

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

// x of a product of many rows: bf16, up to round_up(k, 8) with zeros behind k, rows ld apart, a multiple of 8.
struct RoundedInput {
  const __nv_bfloat16* x;
  int64_t ld;
  int64_t rows;
};

// args.x, normalised where there is a norm, as such rows round_up(k, 8) apart, in scratch of the caller's scope; args.x_bf16 as it is.
const __nv_bfloat16* rounded_rows(Context& ctx, const LinearArgs& args);

// The whole of linear() where rounds_to_bf16() holds.
void linear_many(Context& ctx, const LinearArgs& args);

// Sums over shares of k that have still to be added up, in order. None: the product is where it belongs.
struct BatchShares {
  const float* partial = nullptr;  // [count, rows, outputs], in scratch of the caller's scope
  int count = 0;
};
inline constexpr int kBatchRows = 64;

// Up to kBatchRows rows, where ctx is batch invariant any number, bound by the weights' bytes, with neighbouring segments of one type,
// whose outputs `out` has side by side. Without a place for them, which more than kBatchRows rows need, shares are left to the caller even
// if there is one only. False where there is no kernel for these weights.
bool linear_batch(Context& ctx, const RoundedInput& x, std::span<const WeightSegment> segments, const LinearOutput& out,
                  BatchShares& result);
void merge_products(Context& ctx, const BatchShares& shares, int64_t rows, int64_t outputs, const LinearOutput& out);

// Segments of bf16 as the rows of one matrix; null where they lie apart.
const __nv_bfloat16* plain_matrix(std::span<const WeightSegment> segments);

// Few rows of x, with segments as for linear_batch; swiglu: the first half of the outputs are gates, the second their ups, and
// `out` gets silu(gate) * up. False where the device, or this product, has no kernel for it, or sums must not depend on the number of rows;
// nothing has been written then.
bool linear_clusters(Context& ctx, const RoundedInput& x, std::span<const WeightSegment> segments, const LinearOutput& out, bool swiglu);

// By cuBLASLt, with segments as for linear_batch. False where that is not there or does not want the product; nothing has been written
// then.
bool linear_blas(Context& ctx, const RoundedInput& x, std::span<const WeightSegment> segments, LinearOutput out);
// The same as shares to be added up, where there are too few outputs for all multiprocessors; else none.
BatchShares blas_shares(Context& ctx, const RoundedInput& x, std::span<const WeightSegment> segments);

// Many rows on the tensor cores, weights of bf16 or a block format: y[t, n] = sum over k of x[t, k] * w[n, k].
void linear_tiles(Context& ctx, const RoundedInput& x, const WeightSegment& segment, const LinearOutput& out);

}  // namespace wick::cuda
