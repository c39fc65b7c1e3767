// Attention of many rows on the tensor cores: 128 rows of one head to a block, 16 to a warp, 64 keys at a time, two stages of shared
// memory.
//
// q is rounded to the type of k once, weights to the type of v. A value that is not a number reaches the rows beside those that see it,
// too: its weight there is zero.
#pragma once

#include <algorithm>

#include "wick/kernels/cuda/attention_products.cuh"
#include "wick/kernels/cuda/online_softmax.cuh"

namespace wick::cuda {

// The keys that some rows of a tile, from `first` on, see: all of them those in [all_begin, all_end), some those in [begin, end).
struct SeenKeys {
  int begin, end, all_begin, all_end;

  __device__ SeenKeys(const RowTile& tile, int first, int count, int window) {
    const int low = tile.position + first, high = low + count - 1;
    end = first >= tile.rows ? 0 : tile.causal ? max(0, min(tile.keys, high + 1)) : tile.keys;
    all_end = tile.causal ? min(tile.keys, low + 1) : tile.keys;
    begin = window > 0 ? max(0, low + 1 - window) : 0;
    all_begin = window > 0 ? max(0, high + 1 - window) : 0;
  }
};

// Products of a tile of keys as scores in base 2, by a rule that does more than multiply with a positive scale. Few models need it: it
// stands apart, with an array of its own, so that the scores of others stay in registers.
template <int kKeyTiles>
struct TileScores {
  float at[kKeyTiles][4];
};
template <int kKeyTiles>
__device__ __noinline__ TileScores<kKeyTiles> changed_scores(TileScores<kKeyTiles> scores, const ScoreRule& rule, int head, int first_key,
                                                             int first_row) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  for (int j = 0; j < kKeyTiles; ++j) {
    for (int i = 0; i < 4; ++i) {
      const int key = first_key + 8 * j + lane % 4 * 2 + i % 2, row = first_row + lane / 4 + i / 2 * 8;
      scores.at[j][i] = rule.score(scores.at[j][i], head, int64_t{key} - row);
    }
  }
  return scores;
}
template <int kKeyTiles>
__device__ void change_scores(float (&scores)[kKeyTiles][4], const ScoreRule& rule, int head, int first_key, int first_row) {
  TileScores<kKeyTiles> own;
#pragma unroll
  for (int i = 0; i < 4 * kKeyTiles; ++i) own.at[i / 4][i % 4] = scores[i / 4][i % 4];
  own = changed_scores(own, rule, head, first_key, first_row);
#pragma unroll
  for (int i = 0; i < 4 * kKeyTiles; ++i) scores[i / 4][i % 4] = own.at[i / 4][i % 4];
}

// Scores of keys that a row does not see become -infinity.
template <int kKeyTiles>
__device__ void mask_scores(float (&scores)[kKeyTiles][4], const RowTile& tile, int window, int first_key, int first_row) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp, own_key = first_key + lane % 4 * 2;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int row = first_row + lane / 4 + 8 * half, last = tile.causal ? min(row, tile.keys - 1) : tile.keys - 1;
    const int least = window > 0 ? row + 1 - window : 0;
#pragma unroll
    for (int j = 0; j < kKeyTiles; ++j) {
#pragma unroll
      for (int c = 0; c < 2; ++c) {
        const int key = own_key + 8 * j + c;
        if (key > last || key < least) scores[j][2 * half + c] = -INFINITY;
      }
    }
  }
}

// Rows of a tile of keys or values: the first, elements from row to row, and how many there are. Others are zeros.
template <class T>
struct TileSource {
  const T* first;
  int64_t stride;
  int rows;
};

// Copies kRows rows of kWidth elements to where place(row, chunk) says.
template <int kRows, int kWidth, class T, class Place>
__device__ void copy_tile(T* to, const TileSource<T>& from, Place&& place) {
  constexpr int kChunks = kWidth / 8;
#pragma unroll
  for (int at = 0; at < kRows * kChunks; at += kTileThreads) {
    const int i = at + static_cast<int>(threadIdx.x), row = i / kChunks, chunk = i % kChunks;
    if (kRows * kChunks % kTileThreads != 0 && i >= kRows * kChunks) break;
    copy16(to + place(row, chunk), from.first + (row < from.rows ? row * from.stride + chunk * 8 : 0), row < from.rows);
  }
}

template <class Source, class Products>
constexpr size_t kTileBytes = sizeof(typename Source::Type) *
                              (Products::kQueryElements + 2 * (Products::kKeyElements + Products::kValueElements));

// A row's softmax over one more tile: scores become weights, sums and what was summed so far are put under the new peak.
template <int kKeyTiles, int kValueTiles>
__device__ void weigh(float (&scores)[kKeyTiles][4], float (&out)[kValueTiles][4], float (&peak)[2], float (&sum)[2], float scale) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    float top = peak[half];
#pragma unroll
    for (int j = 0; j < kKeyTiles; ++j) top = fmaxf(top, fmaxf(scores[j][2 * half], scores[j][2 * half + 1]));
    for (int step = 1; step < 4; step *= 2) top = fmaxf(top, __shfl_xor_sync(kAllLanes, top, step));
    const float shift = finite_peak(top) * scale;
    // 0 for a peak of -infinity: scale is positive. 1 where the peak stays: rounding would make almost 1 of it, also for tiles that a row
    // does not see.
    const float factor = peak[half] == top ? 1 : fast_exp2(fmaf(peak[half], scale, -shift));
    peak[half] = top;
    sum[half] *= factor;
#pragma unroll
    for (int j = 0; j < kKeyTiles; ++j) {
#pragma unroll
      for (int c = 0; c < 2; ++c) {
        float& score = scores[j][2 * half + c];
        score = fast_exp2(fmaf(score, scale, -shift));
        sum[half] += score;
      }
    }
#pragma unroll
    for (int j = 0; j < kValueTiles; ++j) {
      out[j][2 * half] *= factor;
      out[j][2 * half + 1] *= factor;
    }
  }
}

// Source: how q, k, v and the result lie in memory. Type, kDim (a multiple of 16), kKeysAcross (a tile of keys is [Dh, 64], else [64, Dh]);
//   RowTile begin(), first of all;  int head();  float2 q(row, d);  void put(row, d, a, b);  TileSource<Type> keys(first key, keys there
//   are);  … values(…)
template <class Source, class Products>
__global__ void __launch_bounds__(kTileThreads, Products::kBlocksTogether)
    attention_tiles(Source source, const __grid_constant__ ScoreRule rule, int window) {
  begin_kernel();
  using T = typename Source::Type;
  constexpr int kDim = Source::kDim, kKeyTiles = kTileKeys / 8, kValueTiles = kDim / 8;
  constexpr int kStage = Products::kKeyElements + Products::kValueElements;
  extern __shared__ __align__(1024) unsigned char shared[];
  T* const area = reinterpret_cast<T*>(shared);
  T* const stages = area + Products::kQueryElements;
  const RowTile tile = source.begin();
  const int lane = static_cast<int>(threadIdx.x) % kWarp, first_row = static_cast<int>(threadIdx.x) / kWarp * kWarpRows;
  const int own_rows[2] = {first_row + lane / 4, first_row + lane / 4 + 8};
  const SeenKeys seen(tile, first_row / Products::kRowsTogether * Products::kRowsTogether, Products::kRowsTogether, window);
  const bool changed = rule.softcap > 0 || rule.alibi || rule.scale <= 0;
  const float scale = changed ? 1 : rule.scale;
  const int end = tile.causal ? max(0, min(tile.keys, tile.position + tile.rows)) : tile.keys;
  const int begin = window > 0 ? max(0, tile.position + 1 - window) / kTileKeys * kTileKeys : 0;
  const auto copy = [&](int first, int stage) {
    if (first < end) {
      T* const keys = stages + stage * kStage;
      copy_tile<Products::kKeyRows, Products::kKeyWidth>(keys, source.keys(first, tile.keys), Products::key_place);
      copy_tile<kTileKeys, kDim>(keys + Products::kKeyElements, source.values(first, tile.keys), Products::value_place);
    }
    end_stage();
  };
  copy(begin, 0);
  const typename Products::Queries q = Products::queries(source, tile, area);
  float out[kValueTiles][4] = {}, peak[2] = {-INFINITY, -INFINITY}, sum[2] = {};
  int stage = 0;
#pragma unroll 1
  for (int first = begin; first < end; first += kTileKeys, stage ^= 1) {
    wait_stages<0>();
    Products::show();
    __syncthreads();  // and everyone has read the other stage
    copy(first + kTileKeys, stage ^ 1);
    if (first >= seen.end || first + kTileKeys <= seen.begin) continue;
    const T* keys = stages + stage * kStage;
    float scores[kKeyTiles][4];
    Products::multiply_keys(scores, q, keys);
    if (changed) change_scores(scores, rule, source.head(), first, tile.position + first_row);
    if (first + kTileKeys > seen.all_end || first < seen.all_begin) mask_scores(scores, tile, window, first, tile.position + first_row);
    weigh(scores, out, peak, sum, scale);
    unsigned weights[kTileKeys / 16][4];
#pragma unroll
    for (int s = 0; s < kTileKeys / 16; ++s) {
#pragma unroll
      for (int i = 0; i < 4; ++i) weights[s][i] = pair_of<T>(scores[2 * s + i / 2][i % 2 * 2], scores[2 * s + i / 2][i % 2 * 2 + 1]);
    }
    Products::add_values(out, weights, keys + Products::kKeyElements);
  }
  wait_stages<0>();
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    float total = sum[half];
    for (int step = 1; step < 4; step *= 2) total += __shfl_xor_sync(kAllLanes, total, step);
    const float factor = final_factor(peak[half] * scale, total, rule.sinks, source.head());
    if (own_rows[half] >= tile.rows) continue;
#pragma unroll
    for (int j = 0; j < kValueTiles; ++j) {
      const bool none = total == 0;
      source.put(own_rows[half], 8 * j + lane % 4 * 2, none ? 0 : out[j][2 * half] * factor, none ? 0 : out[j][2 * half + 1] * factor);
    }
  }
}

// Which head and which tile of rows a block has: the tiles with most keys to see, the last ones, begin first.
struct TileOfGrid {
  int heads, tiles;

  __device__ int head() const { return static_cast<int>(blockIdx.x) % heads; }
  __device__ int tile() const { return tiles - 1 - static_cast<int>(blockIdx.x) / heads; }
  unsigned blocks() const { return static_cast<unsigned>(heads) * static_cast<unsigned>(tiles); }
};

template <class Products, class Source>
void launch_attention_tiles(Context& ctx, const char* op, const dim3& grid, const Source& source, const ScoreRule& rule, int64_t window) {
  constexpr int64_t kNoBound = 1 << 30;  // no context is longer
  stream_of(ctx).use();
  const auto kernel = attention_tiles<Source, Products>;
  constexpr size_t kBytes = kTileBytes<Source, Products>;
  check(cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel), cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(kBytes)),
        op);
  launch(ctx, op, kernel, grid, kTileThreads, kBytes, source, rule, static_cast<int>(std::min(window, kNoBound)));
}

template <class Source>
void launch_attention_tiles(Context& ctx, const char* op, const dim3& grid, const Source& source, const ScoreRule& rule, int64_t window) {
  using T = typename Source::Type;
  if constexpr (Source::kDim == 64 || Source::kDim == 128) {
    if (has_warpgroups(ctx))
      return launch_attention_tiles<GroupProducts<T, Source::kDim, Source::kKeysAcross>>(ctx, op, grid, source, rule, window);
  }
  launch_attention_tiles<WarpProducts<T, Source::kDim, Source::kKeysAcross>>(ctx, op, grid, source, rule, window);
}

// Calls body(std::integral_constant<int, dim>) for a head size with a kernel; false for others.
template <class Body>
bool with_tile_dim(int64_t dim, Body&& body) {
  switch (dim) {
    case 32: body(std::integral_constant<int, 32>()); return true;
    case 64: body(std::integral_constant<int, 64>()); return true;
    case 80: body(std::integral_constant<int, 80>()); return true;
    case 96: body(std::integral_constant<int, 96>()); return true;
    case 128: body(std::integral_constant<int, 128>()); return true;
    default: return false;
  }
}

}  // namespace wick::cuda
