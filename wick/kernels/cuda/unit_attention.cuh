// Attention of one row over 32 positions by one warp, on the tensor cores, for up to eight query heads that share a kv head: it needs no
// other warp until the end.
//
// Queries and weights are the sixteen rows of mma.m16n8k16, rounded to the type of the cache: eight heads, and below them what the rounding
// left of the same eight, so that a lane has both sums of a head and nothing is lost. Keys and values go from memory into the other operand
// as they lie, neighbours together: the order of positions and dimensions is ours to choose, as long as both operands have the same one.
#pragma once

#include "wick/kernels/cuda/paged_parts.cuh"
#include "wick/kernels/cuda/tensor_core.cuh"

namespace wick::cuda {

inline constexpr int kUnit = 32;  // positions of a warp at a time
inline constexpr int kUnitsPerPage = kPage / kUnit;
inline constexpr int kUnitHeads = 8;
inline constexpr int kUnitLine = 64;  // elements of a line of memory

// x and y to the type of the cache, and what that leaves of them.
template <class T>
__device__ uint2 in_two(float x, float y) {
  return {pair_of<T>(x, y), pair_of<T>(x - to_float(from_float<T>(x)), y - to_float(from_float<T>(y)))};
}

// Queries in shared memory as the tensor cores take them: lane 4 h + t has dimensions 16 s + 4 t to 16 s + 4 t + 3 of head h. Heads that
// are not put may be anything: they stay among themselves.
template <class T, int kDim>
struct UnitQueries {
  uint4 at[kDim / 16][kWarp];

  __device__ void put(int h, int d, float x) {
    const T high = from_float<T>(x);
    T* to = element(h, d);
    to[0] = high;
    to[2] = from_float<T>(x - to_float(high));
  }
  __device__ float get(int h, int d) {
    const T* from = element(h, d);
    return to_float(from[0]) + to_float(from[2]);
  }

 private:
  __device__ T* element(int h, int d) { return reinterpret_cast<T*>(&at[d / 16][4 * h + d % 16 / 4]) + d % 4 / 2 * 4 + d % 2; }
};

// A warp's running softmax. Lane 4 h + t has head h, of a unit positions 8 t to 8 t + 7, of every 64 dimensions of the result 16 t to
// 16 t + 15.
template <class T, int kDim>
class UnitState {
 public:
  // Adds the positions [begin, end) of a unit for heads from first_head on; its first position is `distance` from the row.
  __device__ void add(const T* keys, const T* values, int64_t value_stride, const UnitQueries<T, kDim>& q, const ScoreRule& rule,
                      int first_head, int heads, int begin, int end, int64_t distance) {
    float weights[kOwn];
    multiply_keys(keys, q, weights);
    const int own = lane() % 4 * kOwn, head = first_head + min(lane() / 4, heads - 1);  // those behind the last are nobody's
    const T* own_values = values + own * value_stride + lane() / 4 * 8;
    uint4 loaded[kOwn];
    if (kEarly) load_values(own_values, value_stride, begin - own, end - own, loaded);
    float peak = peak_;
#pragma unroll
    for (int i = 0; i < kOwn; ++i) {  // slots outside hold anything, NaN perhaps
      const bool inside = own + i >= begin && own + i < end;
      weights[i] = inside ? rule.score(weights[i], head, distance + own + i) : -INFINITY;
      peak = fmaxf(peak, weights[i]);
    }
    peak = fmaxf(peak, __shfl_xor_sync(kAllLanes, peak, 1));
    peak = fmaxf(peak, __shfl_xor_sync(kAllLanes, peak, 2));
    const float factor = rescale(peak_, peak), shift = finite_peak(peak);
    peak_ = peak;
    sum_ *= factor;
#pragma unroll
    for (float& weight : weights) {
      weight = exp2f(weight - shift);
      sum_ += weight;
    }
#pragma unroll
    for (auto& out : out_) {
#pragma unroll
      for (float& x : out) x *= factor;
    }
    uint4 factors[kOwn / 4];
#pragma unroll
    for (int m = 0; m < kOwn / 4; ++m) {
      const uint2 a = in_two<T>(weights[4 * m], weights[4 * m + 1]), b = in_two<T>(weights[4 * m + 2], weights[4 * m + 3]);
      factors[m] = {a.x, a.y, b.x, b.y};
    }
#pragma unroll
    for (int part = 0; part < kDim / 64; ++part) {
      if (part > 0 || !kEarly) load_values(own_values + part * 64, value_stride, begin - own, end - own, loaded);
#pragma unroll
      for (int m = 0; m < kOwn / 4; ++m) {
#pragma unroll
        for (int i = 0; i < 8; ++i) {
          const auto pair = [&](int row) { return turn(word(loaded[row], i / 2), word(loaded[row + 1], i / 2), i % 2); };
          const uint32_t b0 = pair(4 * m), b1 = pair(4 * m + 2);
          multiply<T>(out_[part * 8 + i], {factors[m].x, factors[m].y, factors[m].z, factors[m].w}, b0, b1);
        }
      }
    }
  }

  // The first `heads` rows of the warp's [heads, kDim] sums, peaks and sums of weights. The whole warp calls it.
  __device__ void put(int heads, float* outs, float* peaks, float* sums) const {
    const int h = lane() / 4, own = lane() % 4 * 16;
    float sum = sum_ + __shfl_xor_sync(kAllLanes, sum_, 1);
    sum += __shfl_xor_sync(kAllLanes, sum, 2);
    if (h >= heads) return;
    if (lane() % 4 == 0) {
      peaks[h] = peak_;
      sums[h] = sum;
    }
#pragma unroll
    for (int tile = 0; tile < kDim / 8; ++tile) {
      float* to = outs + h * kDim + tile / 8 * 64 + own + tile % 8;
      to[0] = out_[tile][0] + out_[tile][2];
      to[8] = out_[tile][1] + out_[tile][3];
    }
  }

 private:
  static constexpr int kOwn = kUnit / 4;      // positions of a lane
  static constexpr bool kEarly = kDim <= 64;  // values are on their way while weights are made, where registers allow it

  __device__ static int lane() { return static_cast<int>(threadIdx.x) % kWarp; }
  __device__ static uint32_t word(const uint4& row, int i) { return i == 0 ? row.x : i == 1 ? row.y : i == 2 ? row.z : row.w; }
  // The first or the second neighbours of two rows as a pair.
  __device__ static uint32_t turn(uint32_t a, uint32_t b, int second) { return __byte_perm(a, b, second ? 0x7632 : 0x5410); }

  // q times the keys, which lie across.
  __device__ static void multiply_keys(const T* keys, const UnitQueries<T, kDim>& q, float (&products)[kOwn]) {
    constexpr int kTogether = 4;
    const T* from = keys + lane() % 4 * 4 * kPage + lane() / 4 * 4;
    float sums[4][4] = {};
#pragma unroll
    for (int first = 0; first < kDim / 16; first += kTogether) {
      uint2 k[kTogether][4];
#pragma unroll
      for (int s = 0; s < kTogether; ++s) {
#pragma unroll
        for (int i = 0; i < 4; ++i) k[s][i] = *reinterpret_cast<const uint2*>(from + ((first + s) * 16 + i) * kPage);
      }
#pragma unroll
      for (int s = 0; s < kTogether; ++s) {
        const uint4 heads = q.at[first + s][lane()];
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const auto pair = [&](int row) {
            return turn(i < 2 ? k[s][row].x : k[s][row].y, i < 2 ? k[s][row + 1].x : k[s][row + 1].y, i % 2);
          };
          multiply<T>(sums[i], {heads.x, heads.y, heads.z, heads.w}, pair(0), pair(2));
        }
      }
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      products[i] = sums[i][0] + sums[i][2];
      products[4 + i] = sums[i][1] + sums[i][3];
    }
  }

  // 8 dimensions of the lane's positions, zeros outside [begin, end): nothing times NaN is NaN.
  __device__ static void load_values(const T* from, int64_t stride, int begin, int end, uint4 (&to)[kOwn]) {
#pragma unroll
    for (int i = 0; i < kOwn; ++i) {
      to[i] = {};
      if (i >= begin && i < end) to[i] = *reinterpret_cast<const uint4*>(from + i * stride);
    }
  }

  float peak_ = -INFINITY, sum_ = 0;  // the sum of the lane's positions only
  float out_[kDim / 8][4] = {};
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
