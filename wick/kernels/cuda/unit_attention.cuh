// Attention over 32 positions by one warp, for all the query heads of its block, which share a kv head: it needs no other warp until the
// end, and all of its loads are on their way together.
#pragma once

#include "wick/kernels/cuda/paged_parts.cuh"

namespace wick::cuda {

inline constexpr int kUnit = 32;  // positions of a warp at a time
inline constexpr int kUnitsPerPage = kPage / kUnit;
inline constexpr int kUnitLoads = 8;   // of 16 bytes that are on their way together
inline constexpr int kUnitLine = 64;   // elements of a line of memory

template <int kHeads>
struct alignas(sizeof(float) * kHeads) PerHead {
  float at[kHeads];
};

// A warp's running softmax. Lane l has 8 dimensions of the values, summed over every kPositions-th position; sums are of its own positions.
template <class T, int kDim, int kHeads>
class UnitState {
 public:
  static constexpr int kLanes = kDim / 8;            // that share a value
  static constexpr int kPositions = kWarp / kLanes;  // values of a load

  // Adds the positions [begin, end) of a unit, counted from its first. weights: [kUnit], the warp's own.
  __device__ void add(const T* keys, const T* values, int64_t value_stride, const PerHead<kHeads>* q, PerHead<kHeads>* weights,
                      const ScoreRule& rule, int first_head, int begin, int end, int distance) {
    const int lane = static_cast<int>(threadIdx.x) % kWarp, own = lane % 4 * 8 + lane / 4;
    PerHead<kHeads> scores = multiply_keys(keys, q);
#pragma unroll
    for (int h = 0; h < kHeads; ++h) {  // slots outside hold anything, NaN perhaps
      const float score = own >= begin && own < end ? rule.score(scores.at[h], first_head + h, distance + own) : -INFINITY;
      const float peak = fmaxf(peak_[h], warp_max(score));
      const float factor = rescale(peak_[h], peak);
      scores.at[h] = exp2f(score - finite_peak(peak));
      sum_[h] = fmaf(sum_[h], factor, scores.at[h]);
      peak_[h] = peak;
#pragma unroll
      for (int i = 0; i < 8; ++i) out_[h][i] *= factor;
    }
    __syncwarp();
    weights[own] = scores;
    __syncwarp();
    add_values(values, value_stride, weights, begin, end);
  }

  // The warp's [kHeads, kDim] sums, peaks and sums of weights.
  __device__ void put(float* outs, float* peaks, float* sums) {
    const int lane = static_cast<int>(threadIdx.x) % kWarp;
#pragma unroll
    for (int h = 0; h < kHeads; ++h) {
      const float sum = warp_sum(sum_[h]);
      if (lane == 0) {
        peaks[h] = peak_[h];
        sums[h] = sum;
      }
#pragma unroll
      for (int i = 0; i < 8; ++i) {
#pragma unroll
        for (int step = kLanes; step < kWarp; step *= 2) out_[h][i] += __shfl_xor_sync(kAllLanes, out_[h][i], step);
        if (lane < kLanes) outs[h * kDim + lane * 8 + i] = out_[h][i];
      }
    }
  }

 private:
  // The scores of position lane % 4 * 8 + lane / 4. Keys lie across: a lane multiplies 8 positions of every eighth dimension.
  __device__ static PerHead<kHeads> multiply_keys(const T* keys, const PerHead<kHeads>* q) {
    const int lane = static_cast<int>(threadIdx.x) % kWarp;
    const T* from = keys + lane / 4 * kPage + lane % 4 * 8;
    float sums[kHeads][8] = {};
#pragma unroll
    for (int first = 0; first < kDim / 8; first += kUnitLoads) {
      Pack<T, 8> k[kUnitLoads];
#pragma unroll
      for (int i = 0; i < kUnitLoads; ++i) k[i] = *reinterpret_cast<const Pack<T, 8>*>(from + (first + i) * 8 * kPage);
#pragma unroll
      for (int i = 0; i < kUnitLoads; ++i) {
        const PerHead<kHeads> factors = q[(first + i) * 8 + lane / 4];
#pragma unroll
        for (int p = 0; p < 8; ++p) {
          const float key = to_float(k[i].at[p]);
#pragma unroll
          for (int h = 0; h < kHeads; ++h) sums[h][p] = fmaf(factors.at[h], key, sums[h][p]);
        }
      }
    }
    // Each exchange halves the positions of a lane and doubles the dimensions that are in.
    PerHead<kHeads> result;
#pragma unroll
    for (int h = 0; h < kHeads; ++h) {
#pragma unroll
      for (int half = 4; half > 0; half /= 2) {
        const bool upper = lane & half * 4;
#pragma unroll
        for (int p = 0; p < half; ++p) {
          const float given = upper ? sums[h][p] : sums[h][p + half], kept = upper ? sums[h][p + half] : sums[h][p];
          sums[h][p] = kept + __shfl_xor_sync(kAllLanes, given, half * 4);
        }
      }
      result.at[h] = sums[h][0];
    }
    return result;
  }

  __device__ void add_values(const T* values, int64_t stride, const PerHead<kHeads>* weights, int begin, int end) {
    const int lane = static_cast<int>(threadIdx.x) % kWarp;
#pragma unroll
    for (int first = 0; first < kUnit / kPositions; first += kUnitLoads) {
      Pack<T, 8> v[kUnitLoads];
#pragma unroll
      for (int i = 0; i < kUnitLoads; ++i) {
        const int position = (first + i) * kPositions + lane / kLanes;
        v[i] = {};
        if (position >= begin && position < end)
          v[i] = *reinterpret_cast<const Pack<T, 8>*>(values + position * stride + lane % kLanes * 8);
      }
#pragma unroll
      for (int i = 0; i < kUnitLoads; ++i) {
        const PerHead<kHeads> factors = weights[(first + i) * kPositions + lane / kLanes];
#pragma unroll
        for (int d = 0; d < 8; ++d) {
          const float value = to_float(v[i].at[d]);
#pragma unroll
          for (int h = 0; h < kHeads; ++h) out_[h][d] = fmaf(factors.at[h], value, out_[h][d]);
        }
      }
    }
  }

  float peak_[kHeads], sum_[kHeads] = {};
  float out_[kHeads][8] = {};

 public:
  __device__ UnitState() {
    for (int h = 0; h < kHeads; ++h) peak_[h] = -INFINITY;
  }
};

// Asks for a unit's keys and values, one line per lane at a time.
template <class T, int kDim>
__device__ void prefetch_unit(const std::byte* head, const KvLayout& layout, int slot) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const T *keys = reinterpret_cast<const T*>(head) + slot,
          *values = reinterpret_cast<const T*>(head + layout.values) + slot * layout.value_stride;
#pragma unroll 1
  for (int d = lane; d < kDim; d += kWarp) prefetch(keys + d * kPage);
#pragma unroll 1
  for (int i = lane * kUnitLine; i < kUnit * layout.value_stride; i += kWarp * kUnitLine) prefetch(values + i);
}

}  // namespace wick::cuda
