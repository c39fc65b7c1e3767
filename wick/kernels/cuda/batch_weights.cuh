// Weights of a tile of outputs on their way through shared memory to the tensor cores, for products of a batch of rows.
//
// Both operands of a product may lie in any order along k as long as it is the same one. Of 16 elements lane t of four has 4 t .. 4 t + 3,
// of weights and of x: those that lie together in memory. Rows of bf16 are words of 32 bytes, that of row r at word ^ r % 4, so that four
// rows meet every bank once.
#pragma once

#include "wick/kernels/cuda/linear_parts.cuh"
#include "wick/kernels/cuda/tensor_core.cuh"

namespace wick::cuda {

inline constexpr int kBatchWarps = 8;
inline constexpr int kBatchThreads = kBatchWarps * kWarp;
inline constexpr int kWarpOutputs = 32;  // in two squares of the tensor cores
inline constexpr int kBatchOutputs = kBatchWarps * kWarpOutputs;

// Where 16 elements of a row begin in shared memory.
template <int kDepth>
__device__ int bf16_place(int row, int sixteen) {
  return row * kDepth + (sixteen ^ row % 4) * 16;
}

// kRows rows of kDepth elements from k = begin on; rows behind the last one are that one once more. Places count in 32 bits.
template <int kRows, int kDepth>
__device__ void copy_bf16_rows(__nv_bfloat16* to, const __nv_bfloat16* from, uint32_t first, uint32_t rows, uint32_t ld, int begin, int k) {
  constexpr int kParts = kDepth / 8;
#pragma unroll
  for (int at = 0; at < kRows * kParts; at += kBatchThreads) {
    const int i = at + static_cast<int>(threadIdx.x), row = i / kParts, part = i % kParts;
    if (kRows * kParts % kBatchThreads != 0 && i >= kRows * kParts) break;
    const bool inside = begin + part * 8 < k;
    const uint32_t place = min(first + row, rows - 1) * ld + (inside ? begin + part * 8 : 0);
    copy16(to + bf16_place<kDepth>(row, part / 2) + part % 2 * 8, from + place, inside);
  }
}

// The lane's four of 16 elements.
template <int kDepth>
__device__ uint2 bf16_four(const __nv_bfloat16* rows, int row, int sixteen) {
  return *reinterpret_cast<const uint2*>(rows + bf16_place<kDepth>(row, sixteen) + threadIdx.x % 4 * 4);
}

// Weights of bf16, multiplied as they are.
struct PlainBatch {
  static constexpr int kDepth = 64;
  static constexpr int kSixteens = kDepth / 16;
  static constexpr int kStageBytes = kBatchOutputs * kDepth * 2;

  const __nv_bfloat16* data;
  uint32_t outputs, ld;

  static PlainBatch of(const WeightSegment& segment) {
    return {reinterpret_cast<const __nv_bfloat16*>(segment.storage->data()), static_cast<uint32_t>(segment.rows),
            static_cast<uint32_t>(padded_inputs(segment.k))};
  }

  __device__ void copy(std::byte* stage, uint32_t first, int step) const {
    copy_bf16_rows<kBatchOutputs, kDepth>(reinterpret_cast<__nv_bfloat16*>(stage), data, first, outputs, ld, step * kDepth,
                                          static_cast<int>(ld));
  }

  // A warp's share of a step's stage, of a tile whose first output is given: calls body(sixteen, both squares' operands).
  template <class Body>
  __device__ void each(const std::byte* stage, uint32_t, int, Body&& body) const {
    const auto* rows = reinterpret_cast<const __nv_bfloat16*>(stage);
    const int warp = static_cast<int>(threadIdx.x) / kWarp, g = static_cast<int>(threadIdx.x) % kWarp / 4;
#pragma unroll
    for (int s = 0; s < kSixteens; ++s) {
      unsigned a[2][4];
#pragma unroll
      for (int m = 0; m < 2; ++m) {
        const int row = warp * kWarpOutputs + 16 * m + g;
        const uint2 upper = bf16_four<kDepth>(rows, row, s), lower = bf16_four<kDepth>(rows, row + 8, s);
        a[m][0] = upper.x;
        a[m][1] = lower.x;
        a[m][2] = upper.y;
        a[m][3] = lower.y;
      }
      body(s, a);
    }
  }
};

// Weights in blocks, four blocks of a row to a stage, unpacked to bf16 by the warp that multiplies them. k is a multiple of 128.
template <DType kType>
struct BlockBatch {
  static constexpr FormatTraits kFormat = format_traits(kType);
  static constexpr int kDepth = 128;
  static constexpr int kBlocks = kDepth / kBlock;
  static constexpr int kQuantBytes = kFormat.high_bits == 4 ? 32 : 16;  // of a block
  static constexpr int kHighBytes = kFormat.high_bits == 4 ? 0 : 4 * kFormat.high_bits;
  static constexpr int kScaleBytes = kFormat.super ? 4 : kFormat.minimum ? 16 : 8;  // of a row's four blocks
  static constexpr int kQuantStride = kBlocks * kQuantBytes + 16;                   // eight rows meet every bank once
  static constexpr int kHigh = kBatchOutputs * kQuantStride;                        // where parts of a stage begin
  static constexpr int kScales = kHigh + kBatchOutputs * kBlocks * kHighBytes;
  static constexpr int kParts = kScales + kBatchOutputs * kScaleBytes;
  static constexpr int kStageBytes = kParts + (kFormat.super ? kBatchOutputs * 2 * kBlocks : 0);

  PackedBlocks data;
  uint32_t outputs, blocks;  // of a row

  static BlockBatch of(const WeightSegment& segment) {
    return {packed_blocks(kType, segment.rows, segment.k, segment.storage->data()), static_cast<uint32_t>(segment.rows),
            static_cast<uint32_t>(segment.k / kBlock)};
  }

  __device__ uint32_t first_block(uint32_t row, int step) const { return min(row, outputs - 1) * blocks + step * kBlocks; }

  __device__ void copy(std::byte* stage, uint32_t first, int step) const {
    constexpr int kWords = kBlocks * kQuantBytes / 16, kHighWords = kBlocks * kHighBytes / 16;  // of a row
#pragma unroll
    for (int at = 0; at < kBatchOutputs * kWords; at += kBatchThreads) {
      const int i = at + static_cast<int>(threadIdx.x), row = i / kWords, word = i % kWords;
      copy16(stage + row * kQuantStride + word * 16, data.quants + (first_block(first + row, step) * kQuantBytes + word * 16), true);
    }
    const int row = static_cast<int>(threadIdx.x);
    static_assert(kBatchThreads == kBatchOutputs);
    const uint32_t block = first_block(first + row, step);
#pragma unroll
    for (int word = 0; word < kHighWords; ++word)
      copy16(stage + kHigh + (row * kHighWords + word) * 16, data.high + (block * kHighBytes + word * 16), true);
    std::byte* const scales = stage + kScales + row * kScaleBytes;
    if constexpr (kFormat.super) {
      const uint32_t own = block / kBlocksPerSuper;
      copy_word(reinterpret_cast<uint32_t*>(scales), reinterpret_cast<const uint32_t*>(data.scales) + (kFormat.minimum ? own : own / 2),
                true);
      copy_word(reinterpret_cast<uint2*>(stage + kParts) + row, data.parts + block * 2, true);
    } else if constexpr (kFormat.minimum) {
      copy16(scales, data.scales + block * 4, true);
    } else {
      copy_word(reinterpret_cast<uint2*>(scales), data.scales + block * 2, true);
    }
  }

  // Of block b of a tile's row in this step.
  __device__ BlockScales scales(const std::byte* stage, uint32_t first, int row, int b, int step) const {
    const std::byte* const own = stage + kScales + row * kScaleBytes;
    if constexpr (kFormat.super) {
      uint32_t d = *reinterpret_cast<const uint32_t*>(own);
      if constexpr (!kFormat.minimum) d >>= first_block(first + row, step) / kBlocksPerSuper % 2 * 16;
      return unpack_scales<kType>(d, reinterpret_cast<const uchar2*>(stage + kParts)[row * kBlocks + b]);
    } else if constexpr (kFormat.minimum) {
      return unpack_scales<kType>(reinterpret_cast<const uint32_t*>(own)[b], uchar2{});
    } else {
      return unpack_scales<kType>(reinterpret_cast<const uint16_t*>(own)[b], uchar2{});
    }
  }

  // The lane's four bytes of each half of a block.
  __device__ static uint2 quants(const std::byte* stage, int row, int b) {
    const int t = static_cast<int>(threadIdx.x) % 4;
    const auto* words = reinterpret_cast<const uint32_t*>(stage + row * kQuantStride + b * kQuantBytes);
    if constexpr (kFormat.high_bits == 4) return {words[t] ^ 0x80808080u, words[4 + t] ^ 0x80808080u};
    uint2 q = {words[t] & kNibbles, words[t] >> 4 & kNibbles};
    const auto* high = reinterpret_cast<const uint32_t*>(stage + kHigh + (row * kBlocks + b) * kHighBytes);
    if constexpr (kFormat.high_bits == 1) {
      q.x |= (high[0] >> t & kOnes) << 4;
      q.y |= (high[0] >> (4 + t) & kOnes) << 4;
    } else if constexpr (kFormat.high_bits == 2) {
      q.x |= (high[0] >> 2 * t & 3 * kOnes) << 4;
      q.y |= (high[1] >> 2 * t & 3 * kOnes) << 4;
    }
    return q;
  }

  // Four bytes as bf16.
  __device__ static uint2 values(uint32_t q, float scale, float minimum) {
    constexpr float kBias = 8388608.0f;  // 2^23, whose last bits are the integer's
    constexpr float kOffset = kBias + (kFormat.high_bits == 4 ? 128 : kFormat.offset);
    float x[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      x[i] = __uint_as_float(__byte_perm(q, __float_as_uint(kBias), 0x7540u + static_cast<unsigned>(i))) - kOffset;
      x[i] = kFormat.minimum ? fmaf(x[i], scale, minimum) : x[i] * scale;
    }
    uint2 pairs;
    reinterpret_cast<__nv_bfloat162&>(pairs.x) = __floats2bfloat162_rn(x[0], x[1]);
    reinterpret_cast<__nv_bfloat162&>(pairs.y) = __floats2bfloat162_rn(x[2], x[3]);
    return pairs;
  }

  template <class Body>
  __device__ void each(const std::byte* stage, uint32_t first, int step, Body&& body) const {
    const int warp = static_cast<int>(threadIdx.x) / kWarp, lane = static_cast<int>(threadIdx.x) % kWarp, g = lane / 4;
    // Lane t of four makes the scales of block t.
    BlockScales own[4];
#pragma unroll
    for (int r = 0; r < 4; ++r) own[r] = scales(stage, first, warp * kWarpOutputs + 8 * r + g, lane % 4, step);
#pragma unroll
    for (int b = 0; b < kBlocks; ++b) {
      unsigned a[2][2][4];  // halves of the block, squares
#pragma unroll
      for (int r = 0; r < 4; ++r) {
        const int from = lane / 4 * 4 + b;
        const float scale = __shfl_sync(kAllLanes, own[r].scale[0], from);
        const float upper_scale = kType == DType::kQ6_K ? __shfl_sync(kAllLanes, own[r].scale[1], from) : scale;
        const float minimum = kFormat.minimum ? __shfl_sync(kAllLanes, own[r].minimum, from) : 0;
        const uint2 q = quants(stage, warp * kWarpOutputs + 8 * r + g, b);
        const uint2 low = values(q.x, scale, minimum), high = values(q.y, upper_scale, minimum);
        a[0][r / 2][r % 2] = low.x;
        a[0][r / 2][2 + r % 2] = low.y;
        a[1][r / 2][r % 2] = high.x;
        a[1][r / 2][2 + r % 2] = high.y;
      }
      body(2 * b, a[0]);
      body(2 * b + 1, a[1]);
    }
  }
};

}  // namespace wick::cuda
