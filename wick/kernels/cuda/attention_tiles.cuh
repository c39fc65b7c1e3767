// Attention of many rows on the tensor cores: 64 rows of one head to a block, 16 to a warp, 64 keys at a time, two stages of shared memory.
//
// q is split into two halves, q = high + low, each of the type of k: products with both lose nothing that matters. Weights are rounded to
// the type of v. A value that is not a number reaches every row of its block's tile that stands before it, too: its weight there is zero.
#pragma once

#include "wick/kernels/cuda/online_softmax.cuh"
#include "wick/kernels/cuda/tensor_core.cuh"

namespace wick::cuda {

inline constexpr int kTileRows = 64;
inline constexpr int kTileKeys = 64;
inline constexpr int kTileThreads = 128;

// The rows of a block: where they stand, and the keys there are.
struct RowTile {
  int rows;          // of the 64
  int64_t position;  // of the first; they are consecutive
  int64_t keys;      // that exist: those beyond are not read
  bool causal;       // row r sees keys up to position + r
};

template <class T>
__device__ unsigned pair_of(float a, float b) {
  const Pack<T, 2> pack = {{from_float<T>(a), from_float<T>(b)}};
  return *reinterpret_cast<const unsigned*>(&pack);
}

// What is left of a pair once it is rounded.
template <class T>
__device__ unsigned rest_of(float a, float b) {
  return pair_of<T>(a - to_float(from_float<T>(a)), b - to_float(from_float<T>(b)));
}

// Elements from row to row of 64 keys or values in shared memory: rows of 16 bytes meet every bank once.
constexpr int padded(int elements) { return elements + 8; }

template <class Source>
constexpr size_t kTileBytes = sizeof(typename Source::Type) * 2 *
                              (Source::kKeysAcross ? Source::kDim * padded(kTileKeys) + kTileKeys * padded(Source::kDim)
                                                   : 2 * kTileKeys * padded(Source::kDim));

// Source: how q, k, v and the result lie in memory. Type, kDim (a multiple of 16), kKeysAcross (a tile of keys is [Dh, 64], else [64, Dh]);
//   RowTile tile();  float2 q(row, d);  void put(row, d, a, b);  void copy_keys(to, first key);  void copy_values(to, first key, keys there
//   are)
template <class Source>
__global__ void __launch_bounds__(kTileThreads) attention_tiles(Source source, const __grid_constant__ ScoreRule rule, int64_t window) {
  begin_kernel();
  using T = typename Source::Type;
  constexpr int kDim = Source::kDim, kSteps = kDim / 16, kKeyTiles = kTileKeys / 8, kValueTiles = kDim / 8;
  constexpr int kKeyStride = Source::kKeysAcross ? padded(kTileKeys) : padded(kDim), kValueStride = padded(kDim);
  constexpr int kKeyElements = (Source::kKeysAcross ? kDim : kTileKeys) * kKeyStride, kStage = kKeyElements + kTileKeys * kValueStride;
  extern __shared__ __align__(16) unsigned char shared[];
  T* stages = reinterpret_cast<T*>(shared);
  const RowTile tile = source.tile();
  const int lane = static_cast<int>(threadIdx.x) % kWarp, first_row = static_cast<int>(threadIdx.x) / kWarp * 16;
  const int own_rows[2] = {first_row + lane / 4, first_row + lane / 4 + 8};

  unsigned high[kSteps][4], low[kSteps][4];
#pragma unroll
  for (int s = 0; s < kSteps; ++s) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int row = own_rows[i % 2];
      const float2 q = row < tile.rows ? source.q(row, 16 * s + i / 2 * 8 + lane % 4 * 2) : float2{0, 0};
      high[s][i] = pair_of<T>(q.x, q.y);
      low[s][i] = rest_of<T>(q.x, q.y);
    }
  }

  const int64_t end = tile.causal ? max(int64_t{0}, min(tile.keys, tile.position + tile.rows)) : tile.keys;
  const int64_t begin = window > 0 ? max(int64_t{0}, tile.position + 1 - window) / kTileKeys * kTileKeys : 0;
  const auto copy = [&](int64_t first, int stage) {
    if (first < end) {
      source.copy_keys(stages + stage * kStage, first);
      source.copy_values(stages + stage * kStage + kKeyElements, first, tile.keys);
    }
    end_stage();
  };
  float out[kValueTiles][4] = {}, peak[2] = {-INFINITY, -INFINITY}, sum[2] = {};
  copy(begin, 0);
  int stage = 0;
  for (int64_t first = begin; first < end; first += kTileKeys, stage ^= 1) {
    __syncthreads();
    copy(first + kTileKeys, stage ^ 1);
    wait_stages<1>();
    __syncthreads();
    const T* keys = stages + stage * kStage;
    const T* values = keys + kKeyElements;
    float scores[kKeyTiles][4] = {};
#pragma unroll
    for (int s = 0; s < kSteps; ++s) {
#pragma unroll
      for (int j = 0; j < kKeyTiles; j += 2) {
        unsigned k[4];
        const int along = lane % 8 + lane / 8 % 2 * 8, across = lane / 16 * 8;
        if constexpr (Source::kKeysAcross) {
          load_matrices_transposed(k, keys + (16 * s + along) * kKeyStride + 8 * j + across);
        } else {
          load_matrices(k, keys + (8 * j + lane % 8 + across) * kKeyStride + 16 * s + lane / 8 % 2 * 8);
        }
        multiply<T>(scores[j], high[s], k[0], k[1]);
        multiply<T>(scores[j], low[s], k[0], k[1]);
        multiply<T>(scores[j + 1], high[s], k[2], k[3]);
        multiply<T>(scores[j + 1], low[s], k[2], k[3]);
      }
    }
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int64_t own = tile.position + own_rows[half], last = tile.causal ? min(own, tile.keys - 1) : tile.keys - 1;
      const int64_t least = window > 0 ? own + 1 - window : 0;
      float top = peak[half];
#pragma unroll
      for (int j = 0; j < kKeyTiles; ++j) {
#pragma unroll
        for (int c = 0; c < 2; ++c) {
          const int64_t key = first + 8 * j + lane % 4 * 2 + c;
          float& score = scores[j][2 * half + c];
          score = key <= last && key >= least ? rule.score(score, source.head(), key - own) : -INFINITY;
          top = fmaxf(top, score);
        }
      }
      for (int step = 1; step < 4; step *= 2) top = fmaxf(top, __shfl_xor_sync(kAllLanes, top, step));
      const float factor = rescale(peak[half], top), shift = finite_peak(top);
      peak[half] = top;
      sum[half] *= factor;
#pragma unroll
      for (int j = 0; j < kKeyTiles; ++j) {
#pragma unroll
        for (int c = 0; c < 2; ++c) {
          float& score = scores[j][2 * half + c];
          score = exp2f(score - shift);
          sum[half] += score;
        }
      }
#pragma unroll
      for (int j = 0; j < kValueTiles; ++j) {
        out[j][2 * half] *= factor;
        out[j][2 * half + 1] *= factor;
      }
    }
#pragma unroll
    for (int s = 0; s < kTileKeys / 16; ++s) {
      const float(&a)[4] = scores[2 * s];
      const float(&b)[4] = scores[2 * s + 1];
      const unsigned weights[4] = {pair_of<T>(a[0], a[1]), pair_of<T>(a[2], a[3]), pair_of<T>(b[0], b[1]), pair_of<T>(b[2], b[3])};
#pragma unroll
      for (int j = 0; j < kValueTiles; j += 2) {
        unsigned v[4];
        load_matrices_transposed(v, values + (16 * s + lane % 8 + lane / 8 % 2 * 8) * kValueStride + 8 * j + lane / 16 * 8);
        multiply<T>(out[j], weights, v[0], v[1]);
        multiply<T>(out[j + 1], weights, v[2], v[3]);
      }
    }
  }
  wait_stages<0>();
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    float total = sum[half];
    for (int step = 1; step < 4; step *= 2) total += __shfl_xor_sync(kAllLanes, total, step);
    const float factor = final_factor(peak[half], total, rule.sinks, source.head());
    if (own_rows[half] >= tile.rows) continue;
#pragma unroll
    for (int j = 0; j < kValueTiles; ++j) {
      const bool none = total == 0;
      source.put(own_rows[half], 8 * j + lane % 4 * 2, none ? 0 : out[j][2 * half] * factor, none ? 0 : out[j][2 * half + 1] * factor);
    }
  }
}

template <class Source>
void launch_attention_tiles(Context& ctx, const char* op, dim3 grid, const Source& source, const ScoreRule& rule, int64_t window) {
  stream_of(ctx).use();
  const auto kernel = attention_tiles<Source>;
  check(cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel), cudaFuncAttributeMaxDynamicSharedMemorySize,
                             static_cast<int>(kTileBytes<Source>)),
        op);
  launch(ctx, op, kernel, grid, kTileThreads, kTileBytes<Source>, source, rule, window);
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
