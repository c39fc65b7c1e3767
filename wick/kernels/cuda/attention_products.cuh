// Tiles of attention in shared memory and the products with them: of queries with keys, of weights with values. A warp has 16 rows in its
// registers, as mma.m16n8k16 has them.
#pragma once

#include "wick/kernels/cuda/tensor_core.cuh"
#include "wick/kernels/cuda/warpgroup.cuh"

namespace wick::cuda {

inline constexpr int kTileRows = 128;
inline constexpr int kTileKeys = 64;
inline constexpr int kTileThreads = 256;
inline constexpr int kWarpRows = 16;

// The rows of a block: where they stand, and the keys there are.
struct RowTile {
  int rows;      // of the 128
  int position;  // of the first; they are consecutive
  int keys;      // that exist: those beyond are not read
  bool causal;   // row r sees keys up to position + r
};

// On the tensor cores that every GPU has, in squares of 16 x 8. Rows of a tile are 16 bytes longer than they need to be, so that eight of
// them meet every bank once.
//   key_place, value_place: where the 16 bytes from element 8 chunk of a row on lie
//   queries: what multiply_keys wants of q, kept in kQueryElements of shared memory where it needs them
//   show: a thread's copies into tiles, once they have arrived and before the barrier
template <class T, int kDim, bool kKeysAcross>
struct WarpProducts {
  static constexpr int kRowsTogether = kWarpRows;  // that have to go the same way
  static constexpr int kKeyRows = kKeysAcross ? kDim : kTileKeys, kKeyWidth = kKeysAcross ? kTileKeys : kDim;
  static constexpr int kKeyStride = kKeyWidth + 8, kValueStride = kDim + 8;
  static constexpr int kKeyElements = kKeyRows * kKeyStride, kValueElements = kTileKeys * kValueStride;

  static constexpr int kQueryElements = 0;
  static constexpr int kBlocksTogether = kDim <= 64 ? 2 : 1;

  // A warp's rows of q, in registers.
  struct Queries {
    unsigned at[kDim / 16][4];
  };
  template <class Source>
  __device__ static Queries queries(const Source& source, const RowTile& tile, T*) {
    Queries q;
    const int lane = static_cast<int>(threadIdx.x) % kWarp, first_row = static_cast<int>(threadIdx.x) / kWarp * kWarpRows;
#pragma unroll
    for (int s = 0; s < kDim / 16; ++s) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int row = first_row + lane / 4 + i % 2 * 8;
        const float2 pair = row < tile.rows ? source.q(row, 16 * s + i / 2 * 8 + lane % 4 * 2) : float2{0, 0};
        q.at[s][i] = pair_of<T>(pair.x, pair.y);
      }
    }
    return q;
  }

  __device__ static void show() {}
  __device__ static int key_place(int row, int chunk) { return row * kKeyStride + chunk * 8; }
  __device__ static int value_place(int row, int chunk) { return row * kValueStride + chunk * 8; }

  __device__ static void multiply_keys(float (&scores)[kTileKeys / 8][4], const Queries& q, const T* keys) {
    const int lane = static_cast<int>(threadIdx.x) % kWarp, along = lane % 8 + lane / 8 % 2 * 8, across = lane / 16 * 8;
#pragma unroll
    for (auto& score : scores) score[0] = score[1] = score[2] = score[3] = 0;
#pragma unroll
    for (int s = 0; s < kDim / 16; ++s) {
#pragma unroll
      for (int j = 0; j < kTileKeys / 8; j += 2) {
        unsigned k[4];
        if constexpr (kKeysAcross) {
          load_matrices_transposed(k, keys + (16 * s + along) * kKeyStride + 8 * j + across);
        } else {
          load_matrices(k, keys + (8 * j + lane % 8 + across) * kKeyStride + 16 * s + lane / 8 % 2 * 8);
        }
        multiply<T>(scores[j], q.at[s], k[0], k[1]);
        multiply<T>(scores[j + 1], q.at[s], k[2], k[3]);
      }
    }
  }

  __device__ static void add_values(float (&out)[kDim / 8][4], const unsigned (&weights)[kTileKeys / 16][4], const T* values) {
    const int lane = static_cast<int>(threadIdx.x) % kWarp;
#pragma unroll
    for (int s = 0; s < kTileKeys / 16; ++s) {
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

// The same on Hopper's, for head sizes 64 and 128.
template <class T, int kDim, bool kKeysAcross>
struct GroupProducts {
  static constexpr int kRowsTogether = 4 * kWarpRows;
  static constexpr int kKeyRows = kKeysAcross ? kDim : kTileKeys, kKeyWidth = kKeysAcross ? kTileKeys : kDim;
  static constexpr int kKeyElements = kDim * kTileKeys, kValueElements = kDim * kTileKeys;
  static constexpr int kPanelBytes = kTileKeys * kPanelWidth * static_cast<int>(sizeof(T));

  static constexpr int kQueryElements = kTileRows * kDim;
  static constexpr int kBlocksTogether = kDim <= 64 ? 2 : 1;

  // The rows of the warp's group, in a tile. (Kept in registers over the loop, ptxas 13.0 gave those to the weights.)
  struct Queries {
    const T* at;
  };
  template <class Source>
  __device__ static Queries queries(const Source& source, const RowTile& tile, T* area) {
    constexpr int kChunks = kDim / 8;
    for (int at = 0; at < kTileRows * kChunks; at += kTileThreads) {
      const int i = at + static_cast<int>(threadIdx.x), row = i / kChunks, chunk = i % kChunks;
      unsigned words[4] = {};
      for (int j = 0; j < 4 && row < tile.rows; ++j) {
        const float2 pair = source.q(row, chunk * 8 + 2 * j);
        words[j] = pair_of<T>(pair.x, pair.y);
      }
      *reinterpret_cast<uint4*>(area + panel_place<kTileRows>(row, chunk)) = {words[0], words[1], words[2], words[3]};
    }
    return {area + static_cast<int>(threadIdx.x) / (4 * kWarp) * 64 * kPanelWidth};
  }

  __device__ static void show() { show_to_products(); }
  __device__ static int key_place(int row, int chunk) { return panel_place<kKeyRows>(row, chunk); }
  __device__ static int value_place(int row, int chunk) { return panel_place<kTileKeys>(row, chunk); }

  __device__ static void multiply_keys(float (&scores)[kTileKeys / 8][4], const Queries& q, const T* keys) {
    begin_products();
#pragma unroll
    for (int s = 0; s < kDim / 16; ++s) {
      const T* rows = q.at + s / 4 * kTileRows * kPanelWidth + s % 4 * 16;
      const T* sixteen = kKeysAcross ? keys + s * 16 * kPanelWidth : keys + s / 4 * kTileKeys * kPanelWidth + s % 4 * 16;
      multiply_group<T, kKeysAcross>(scores, tile_descriptor(rows, kPanelBytes), tile_descriptor(sixteen, kPanelBytes), s > 0);
    }
    finish_products();
  }

  __device__ static void add_values(float (&out)[kDim / 8][4], const unsigned (&weights)[kTileKeys / 16][4], const T* values) {
    begin_products();
#pragma unroll
    for (int s = 0; s < kTileKeys / 16; ++s) {
      multiply_group<T, true>(out, weights[s], tile_descriptor(values + s * 16 * kPanelWidth, kPanelBytes), true);
    }
    finish_products();
  }
};

}  // namespace wick::cuda
