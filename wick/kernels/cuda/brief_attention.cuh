// Attention of one head over a short context, by all warps of a block, eight positions each at a time: little work for a warp, since nobody
// else is there to hide how long its instructions take.
#pragma once

#include "wick/kernels/cuda/paged_parts.cuh"

namespace wick::cuda {

inline constexpr int kChunk = 8;  // positions of a warp at a time
inline constexpr int kChunksPerPage = kPage / kChunk;

// A warp's running softmax. Of the keys a lane has every 32nd dimension, of the values neighbouring ones.
template <class T, int kDim>
class BriefState {
  static constexpr int kOwn = kDim / kWarp;

 public:
  // The keys and values of a chunk, which may be asked for before the query is there.
  struct Chunk {
    Pack<T, kChunk> keys[kOwn];
    Pack<T, kOwn> values[kChunk];

    // end: of the chunk's positions; slots behind it hold anything, NaN perhaps
    __device__ void load(const T* from_keys, const T* from_values, int64_t value_stride, int end) {
#pragma unroll
      for (int j = 0; j < kOwn; ++j) keys[j] = *reinterpret_cast<const Pack<T, kChunk>*>(from_keys + (lane() + j * kWarp) * kPage);
#pragma unroll
      for (int p = 0; p < kChunk; ++p) {
        values[p] = {};
        if (p < end) values[p] = *reinterpret_cast<const Pack<T, kOwn>*>(from_values + p * value_stride + lane() * kOwn);
      }
    }
  };

  // q: [kDim] in shared memory. scale: log2 e included
  __device__ void add(const Chunk& chunk, const float* q, float scale, int end) {
    float sums[kChunk] = {};
#pragma unroll
    for (int j = 0; j < kOwn; ++j) {
      const float factor = q[lane() + j * kWarp];
#pragma unroll
      for (int p = 0; p < kChunk; ++p) sums[p] = fmaf(factor, to_float(chunk.keys[j].at[p]), sums[p]);
    }
    // Each exchange halves the positions of a lane: it ends up with position lane / 4.
#pragma unroll
    for (int half = kChunk / 2; half > 0; half /= 2) {
      const bool upper = lane() & half * 4;
#pragma unroll
      for (int p = 0; p < half; ++p) {
        const float given = upper ? sums[p] : sums[p + half], kept = upper ? sums[p + half] : sums[p];
        sums[p] = kept + __shfl_xor_sync(kAllLanes, given, half * 4);
      }
    }
    float score = sums[0] + __shfl_xor_sync(kAllLanes, sums[0], 2);
    score += __shfl_xor_sync(kAllLanes, score, 1);
    score = lane() / 4 < end ? score * scale : -INFINITY;
    float peak = score;
#pragma unroll
    for (int step = 4; step < kWarp; step *= 2) peak = fmaxf(peak, __shfl_xor_sync(kAllLanes, peak, step));
    peak = fmaxf(peak_, peak);
    const float factor = rescale(peak_, peak), weight = exp2f(score - finite_peak(peak));
    float sum = weight;
#pragma unroll
    for (int step = 4; step < kWarp; step *= 2) sum += __shfl_xor_sync(kAllLanes, sum, step);
    sum_ = fmaf(sum_, factor, sum);
    peak_ = peak;
#pragma unroll
    for (int i = 0; i < kOwn; ++i) out_[i] *= factor;
#pragma unroll
    for (int p = 0; p < kChunk; ++p) {
      const float own = __shfl_sync(kAllLanes, weight, p * 4);
#pragma unroll
      for (int i = 0; i < kOwn; ++i) out_[i] = fmaf(own, to_float(chunk.values[p].at[i]), out_[i]);
    }
  }

  // The warp's [kDim] sums, peak and sum of weights.
  __device__ void put(float* out, float& peak, float& sum) const {
#pragma unroll
    for (int i = 0; i < kOwn; ++i) out[lane() * kOwn + i] = out_[i];
    if (lane() != 0) return;
    peak = peak_;
    sum = sum_;
  }

 private:
  __device__ static int lane() { return static_cast<int>(threadIdx.x) % kWarp; }

  float peak_ = -INFINITY, sum_ = 0;
  float out_[kOwn] = {};
};

}  // namespace wick::cuda
