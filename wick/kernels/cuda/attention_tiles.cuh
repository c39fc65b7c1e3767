// Attention of many rows on the tensor cores that every GPU has: 128 rows to a block, 16 to a warp, 64 keys at a time, two stages of shared
// memory.
#pragma once

#include "wick/kernels/cuda/attention_groups.cuh"
#include "wick/kernels/cuda/attention_parts.cuh"

namespace wick::cuda {

inline constexpr int kTileRows = 128;
inline constexpr int kTileThreads = 256;

// Products of a tile of keys as scores in base 2, by a rule that does more than multiply with a positive scale. Few models need it: it
// stands apart, with an array of its own, so that the scores of others stay in registers.
template <int kKeyTiles>
struct TileScores {
  float at[kKeyTiles][4];
};
// distances: of the thread's first key from its two rows; heads: theirs.
template <int kKeyTiles>
__device__ __noinline__ TileScores<kKeyTiles> changed_scores(TileScores<kKeyTiles> scores, const ScoreRule& rule, int2 heads,
                                                             int2 distances) {
  for (int j = 0; j < kKeyTiles; ++j) {
    for (int i = 0; i < 4; ++i) {
      const int distance = (i / 2 == 0 ? distances.x : distances.y) + 8 * j + i % 2;
      scores.at[j][i] = rule.score(scores.at[j][i], i / 2 == 0 ? heads.x : heads.y, distance);
    }
  }
  return scores;
}
template <int kKeyTiles>
__device__ void change_scores(float (&scores)[kKeyTiles][4], const ScoreRule& rule, int2 heads, int2 distances) {
  TileScores<kKeyTiles> own;
#pragma unroll
  for (int i = 0; i < 4 * kKeyTiles; ++i) own.at[i / 4][i % 4] = scores[i / 4][i % 4];
  own = changed_scores(own, rule, heads, distances);
#pragma unroll
  for (int i = 0; i < 4 * kKeyTiles; ++i) scores[i / 4][i % 4] = own.at[i / 4][i % 4];
}

// Products of a warp's rows with a tile of keys or values in squares of 16 x 8. Rows of a tile are 16 bytes longer than they need to be, so
// that eight of them meet every bank once.
//   key_place, value_place: where the 16 bytes from element 8 chunk of a row on lie
template <class T, int kDim, bool kKeysAcross>
struct WarpProducts {
  static constexpr int kKeyRows = kKeysAcross ? kDim : kPart, kKeyWidth = kKeysAcross ? kPart : kDim;
  static constexpr int kKeyStride = kKeyWidth + 8, kValueStride = kDim + 8;
  static constexpr int kKeyElements = kKeyRows * kKeyStride, kValueElements = kPart * kValueStride;
  static constexpr int kStage = kKeyElements + kValueElements;

  // A warp's rows of q, in registers.
  unsigned q[kDim / 16][4];

  template <class Source>
  __device__ WarpProducts(const Source& source, const RowTile& tile, int first_row) {
    const int lane = static_cast<int>(threadIdx.x) % kWarp;
#pragma unroll
    for (int s = 0; s < kDim / 16; ++s) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int row = first_row + lane / 4 + i % 2 * 8;
        float pair[2] = {};
        if (row < tile.rows) source.q(tile, row, 16 * s + i / 2 * 8 + lane % 4 * 2, pair);
        q[s][i] = pair_of<T>(pair[0], pair[1]);
      }
    }
  }

  __device__ static int key_place(int row, int chunk) { return row * kKeyStride + chunk * 8; }
  __device__ static int value_place(int row, int chunk) { return row * kValueStride + chunk * 8; }

  __device__ void multiply_keys(float (&scores)[kPart / 8][4], const T* keys) const {
    const int lane = static_cast<int>(threadIdx.x) % kWarp, along = lane % 8 + lane / 8 % 2 * 8, across = lane / 16 * 8;
#pragma unroll
    for (auto& score : scores) score[0] = score[1] = score[2] = score[3] = 0;
#pragma unroll
    for (int s = 0; s < kDim / 16; ++s) {
#pragma unroll
      for (int j = 0; j < kPart / 8; j += 2) {
        unsigned k[4];
        if constexpr (kKeysAcross) {
          load_matrices_transposed(k, keys + (16 * s + along) * kKeyStride + 8 * j + across);
        } else {
          load_matrices(k, keys + (8 * j + lane % 8 + across) * kKeyStride + 16 * s + lane / 8 % 2 * 8);
        }
        multiply<T>(scores[j], q[s], k[0], k[1]);
        multiply<T>(scores[j + 1], q[s], k[2], k[3]);
      }
    }
  }

  __device__ static void add_values(float (&out)[kDim / 8][4], const unsigned (&weights)[kPart / 16][4], const T* values) {
    const int lane = static_cast<int>(threadIdx.x) % kWarp;
#pragma unroll
    for (int s = 0; s < kPart / 16; ++s) {
#pragma unroll
      for (int j = 0; j < kDim / 8; j += 2) {
        unsigned v[4];
        load_matrices_transposed(v, values + (16 * s + lane % 8 + lane / 8 % 2 * 8) * kValueStride + 8 * j + lane / 16 * 8);
        multiply<T>(out[j], weights[s], v[0], v[1]);
        multiply<T>(out[j + 1], weights[s], v[2], v[3]);
      }
    }
  }
};

// Rows of a part of keys or values: the first, elements from row to row, and how many there are. Others are zeros.
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
  constexpr bool kWhole = kTileThreads % kChunks == 0;  // rows: a thread copies the same part of each
  const int thread = static_cast<int>(threadIdx.x);
#pragma unroll
  for (int at = 0; at < kRows * kChunks; at += kTileThreads) {
    const int row = kWhole ? thread / kChunks + at / kChunks : (thread + at) / kChunks, chunk = (kWhole ? thread : thread + at) % kChunks;
    if (kRows * kChunks % kTileThreads != 0 && row >= kRows) break;
    copy16(to + place(row, chunk), from.first + (row < from.rows ? row * from.stride + chunk * 8 : 0), row < from.rows);
  }
}

// Source: how q, k, v and the result lie in memory. Type, kDim (a multiple of 16), kKeysAcross (a part of keys is [Dh, 64], else [64, Dh]);
//   TileOrder order;  RowTile begin(item, rows of a tile), first of all;  head(tile, row);  q(tile, row, d, x[]);
//   put(tile, row, d, a, b);  TileSource<Type> keys(first key, keys there are);  … values(…)
template <class Source>
__global__ void __launch_bounds__(kTileThreads, Source::kDim <= 64 ? 2 : 1)
    attention_tiles(Source source, const __grid_constant__ ScoreRule rule, int window) {
  begin_kernel();
  using T = typename Source::Type;
  constexpr int kDim = Source::kDim, kKeyTiles = kPart / 8;
  using Products = WarpProducts<T, kDim, Source::kKeysAcross>;
  extern __shared__ __align__(1024) unsigned char shared[];
  T* const stages = reinterpret_cast<T*>(shared);
  const RowTile tile = source.begin(static_cast<int>(blockIdx.x), kTileRows);
  const int thread = static_cast<int>(threadIdx.x), lane = thread % kWarp, first_row = thread / kWarp * kWarpRows;
  const int own_rows[2] = {first_row + lane / 4, first_row + lane / 4 + 8};
  const SeenKeys seen(tile, first_row, kWarpRows, window), all(tile, 0, kTileRows, window);
  const SeenByRow by_row[2] = {{tile, own_rows[0], window}, {tile, own_rows[1], window}};
  const bool changed = rule.softcap > 0 || rule.alibi || rule.scale <= 0;
  const float scale = changed ? 1 : rule.scale;
  const auto copy = [&](int first, int stage) {
    if (first < all.end) {
      T* const keys = stages + stage * Products::kStage;
      copy_tile<Products::kKeyRows, Products::kKeyWidth>(keys, source.keys(first, tile.keys), Products::key_place);
      copy_tile<kPart, kDim>(keys + Products::kKeyElements, source.values(first, tile.keys), Products::value_place);
    }
    end_stage();
  };
  const int begin = all.begin / kPart * kPart;
  copy(begin, 0);
  const Products products(source, tile, first_row);
  float out[kDim / 8][4] = {};
  RowSums rows;
  int stage = 0;
#pragma unroll 1
  for (int first = begin; first < all.end; first += kPart, stage ^= 1) {
    wait_stages<0>();
    __syncthreads();  // and everyone has read the other stage
    copy(first + kPart, stage ^ 1);
    if (first >= seen.end || first + kPart <= seen.begin) continue;
    const T* keys = stages + stage * Products::kStage;
    float scores[kKeyTiles][4], factor[2];
    products.multiply_keys(scores, keys);
    if (changed) {
      const int key = first + lane % 4 * 2;
      change_scores(scores, rule, {source.head(tile, own_rows[0]), source.head(tile, own_rows[1])},
                    {key - tile.position_of(own_rows[0]), key - tile.position_of(own_rows[1])});
    }
    if (first + kPart > seen.all_end || first < seen.all_begin) mask_scores(scores, by_row, first);
    weigh(scores, rows, factor, scale);
    rescale_sums(out, factor);
    unsigned weights[kPart / 16][4];
    pack_weights<T>(scores, weights);
    Products::add_values(out, weights, keys + Products::kKeyElements);
  }
  wait_stages<0>();
#pragma unroll
  for (int half = 0; half < 2; ++half) put_row(source, tile, own_rows[half], half, out, rows, rule);
}

// order(rows of a tile): the TileOrder.
template <class Source, class Order>
void launch_attention_tiles(Context& ctx, const char* op, Source source, Order&& order, const ScoreRule& rule, int64_t window) {
  using T = typename Source::Type;
  constexpr int64_t kNoBound = 1 << 30;  // no context is longer
  constexpr size_t kBytes = 2 * sizeof(T) * WarpProducts<T, Source::kDim, Source::kKeysAcross>::kStage;
  const int bound = static_cast<int>(std::min(window, kNoBound));
  if (launch_attention_groups(ctx, op, source, order, rule, bound)) return;
  const auto kernel = attention_tiles<Source>;
  source.order = order(kTileRows);
  stream_of(ctx).use();
  check(cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel), cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes), op);
  launch(ctx, op, kernel, static_cast<unsigned>(source.order.items()), kTileThreads, kBytes, source, rule, bound);
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
