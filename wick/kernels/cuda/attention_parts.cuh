// What kernels for attention of many rows share. They work on tiles of rows that see the same keys: the query heads that share a kv head
// stand beside each other, head by head for each position, so that few positions fill a tile, too, and keys are read once for all of them.
//
// q is rounded to the type of k once, weights to the type of v. A value that is not a number reaches the rows beside those that see it,
// too: its weight there is zero.
#pragma once

#include <algorithm>

#include "wick/kernels/cuda/online_softmax.cuh"
#include "wick/kernels/cuda/tensor_core.cuh"

namespace wick::cuda {

inline constexpr int kPart = 64;      // keys that are neighbours in memory: a page's
inline constexpr int kWarpRows = 16;  // in a warp's registers, as mma.m16n8k16 has them

// The query heads of a kv head, and divisions by their number without dividing.
struct HeadGroup {
  int heads;
  unsigned inverse;  // the first whole number above 2^32 / heads

  HeadGroup(int count) : heads(count), inverse(static_cast<unsigned>((uint64_t{1} << 32) / static_cast<unsigned>(count) + 1)) {}
  // Of a row, for products of row and heads below 2^32.
  __device__ int position_of(int row) const { return heads == 1 ? row : static_cast<int>(__umulhi(static_cast<unsigned>(row), inverse)); }
  __device__ int head_of(int row) const { return row - position_of(row) * heads; }
};

// A tile of rows, those `first` … `first` + `rows` - 1 of its sequence and kv head.
struct RowTile {
  int rows;
  int first;
  HeadGroup group;
  int position;  // of the sequence's first row; rows are consecutive
  int keys;      // that exist: those beyond are not read
  bool causal;   // position p sees keys up to p

  __device__ int row_of(int row) const { return group.position_of(first + row); }
  __device__ int head_of(int row) const { return group.head_of(first + row); }
  __device__ int position_of(int row) const { return position + row_of(row); }
};

// Which tile is a block's, or a block's next one: those with most keys to see, the last ones, come first.
struct TileOrder {
  int kv_heads, batch, tiles;

  __device__ int kv_head(int item) const { return item % kv_heads; }
  __device__ int batch_of(int item) const { return item / kv_heads % batch; }
  __device__ int tile(int item) const { return tiles - 1 - item / (kv_heads * batch); }
  __host__ __device__ int items() const { return kv_heads * batch * tiles; }
};

// The keys that `count` rows of a tile, from `first` on, see: all of them those in [all_begin, all_end), some those in [begin, end).
struct SeenKeys {
  int begin, end, all_begin, all_end;

  __device__ SeenKeys(const RowTile& tile, int first, int count, int window) {
    const int low = tile.position_of(first), high = tile.position_of(min(first + count, tile.rows) - 1);
    end = first >= tile.rows ? 0 : tile.causal ? max(0, min(tile.keys, high + 1)) : tile.keys;
    all_end = tile.causal ? min(tile.keys, low + 1) : tile.keys;
    begin = window > 0 ? max(0, low + 1 - window) : 0;
    all_begin = window > 0 ? max(0, high + 1 - window) : 0;
  }
};

// The keys that one row sees.
struct SeenByRow {
  int least, last;

  __device__ SeenByRow(const RowTile& tile, int row, int window) {
    const int position = tile.position_of(row);
    last = tile.causal ? min(position, tile.keys - 1) : tile.keys - 1;
    least = window > 0 ? position + 1 - window : 0;
  }
};

// Scores of keys that a row does not see become -infinity. rows: the two of the thread's.
template <int kKeyTiles>
__device__ void mask_scores(float (&scores)[kKeyTiles][4], const SeenByRow (&rows)[2], int first_key) {
  const int own_key = first_key + static_cast<int>(threadIdx.x) % 4 * 2;
#pragma unroll
  for (int j = 0; j < kKeyTiles; ++j) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int key = own_key + 8 * j + i % 2;
      if (key > rows[i / 2].last || key < rows[i / 2].least) scores[j][i] = -INFINITY;
    }
  }
}

// What a thread knows of its two rows.
struct RowSums {
  float peak[2] = {-INFINITY, -INFINITY};  // that weights are under, of products times the scale
  float sum[2] = {};                       // of the thread's own weights
};

// The highest of the thread's own scores of its two rows.
template <int kKeyTiles>
__device__ float2 local_peaks(const float (&scores)[kKeyTiles][4], float scale) {
  float top[4] = {scores[0][0], scores[0][1], scores[0][2], scores[0][3]};  // chains that do not wait for each other
#pragma unroll
  for (int j = 1; j < kKeyTiles; ++j) {
#pragma unroll
    for (int i = 0; i < 4; ++i) top[i] = fmaxf(top[i], scores[j][i]);
  }
  return {fmaxf(top[0], top[1]) * scale, fmaxf(top[2], top[3]) * scale};
}

// Whether weights have to be put under a new peak: up to 2^8 they are as exact as below 1. So do the first that a row sees.
__device__ inline bool rises(float top, float peak) { return top - peak > 8; }

// New peaks for rows that rise, all threads' together. What was summed under the old ones is to be multiplied with `factor`.
__device__ inline void raise_peaks(float2 own, RowSums& rows, float (&factor)[2]) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    float top = half == 0 ? own.x : own.y;
    for (int step = 1; step < 4; step *= 2) top = fmaxf(top, __shfl_xor_sync(kAllLanes, top, step));
    const float old = rows.peak[half];
    const bool higher = rises(top, old);
    factor[half] = higher ? fast_exp2(old - top) : 1;
    rows.peak[half] = higher ? top : old;
    rows.sum[half] *= factor[half];
  }
}

// Scores become weights under the rows' peaks, and are added to their sums.
template <int kKeyTiles>
__device__ void weigh_under(float (&scores)[kKeyTiles][4], RowSums& rows, float scale) {
  const float shift[2] = {finite_peak(rows.peak[0]), finite_peak(rows.peak[1])};
#pragma unroll
  for (int j = 0; j < kKeyTiles; ++j) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      scores[j][i] = fast_exp2(fmaf(scores[j][i], scale, -shift[i / 2]));
      rows.sum[i / 2] += scores[j][i];
    }
  }
}

// A row's softmax over one more tile.
template <int kKeyTiles>
__device__ void weigh(float (&scores)[kKeyTiles][4], RowSums& rows, float (&factor)[2], float scale) {
  raise_peaks(local_peaks(scores, scale), rows, factor);
  weigh_under(scores, rows, scale);
}

template <int kValueTiles>
__device__ void rescale_sums(float (&out)[kValueTiles][4], const float (&factor)[2]) {
  if (!__any_sync(kAllLanes, factor[0] != 1 || factor[1] != 1)) return;
#pragma unroll
  for (int i = 0; i < 4 * kValueTiles; ++i) out[i / 4][i % 4] *= factor[i % 4 / 2];
}

// Weights as an operand of the next product.
template <class T, int kKeyTiles>
__device__ void pack_weights(const float (&scores)[kKeyTiles][4], unsigned (&weights)[kKeyTiles / 2][4]) {
#pragma unroll
  for (int s = 0; s < kKeyTiles / 2; ++s) {
#pragma unroll
    for (int i = 0; i < 4; ++i) weights[s][i] = pair_of<T>(scores[2 * s + i / 2][i % 2 * 2], scores[2 * s + i / 2][i % 2 * 2 + 1]);
  }
}

// Writes the thread's part of a row.
template <class Source, int kValueTiles>
__device__ void put_row(const Source& source, const RowTile& tile, int row, int half, const float (&out)[kValueTiles][4],
                        const RowSums& rows, const ScoreRule& rule) {
  float total = rows.sum[half];
  for (int step = 1; step < 4; step *= 2) total += __shfl_xor_sync(kAllLanes, total, step);
  if (row >= tile.rows) return;
  const float factor = final_factor(rows.peak[half], total, rule.sinks, source.head(tile, row));
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const bool none = total == 0;
#pragma unroll
  for (int j = 0; j < kValueTiles; ++j) {
    source.put(tile, row, 8 * j + lane % 4 * 2, none ? 0 : out[j][2 * half] * factor, none ? 0 : out[j][2 * half + 1] * factor);
  }
}

}  // namespace wick::cuda
