// Weights as they lie in the device's memory.
//
// Plain types: rows of round_up(k, 8) elements, the padding zero. Block formats: planes over all blocks of 32, row after row, each plane
// beginning at a multiple of 16 bytes, so that neighbouring lanes read neighbouring blocks whole:
//   quants   16 bytes: byte j has element j in its low nibble and 16 + j in its high one; Q8_0: 32 signed bytes
//   high     a word of fifth bits: bits g and 4 + g of byte i are those of elements 4g + i and 16 + 4g + i; Q6_K: two words of upper two
//            bits, bits 2g and 2g + 1 of byte i of the first those of element 4g + i, of the second those of 16 + 4g + i
//   scales   f16 scale, and the minimum where there is one; formats with superblocks: of 256 elements
//   parts    formats with superblocks: two bytes, scale and minimum (Q4_K, Q5_K), the scales of both halves (Q6_K)
#pragma once

#include "wick/base/checked.h"
#include "wick/kernels/cuda/stored_block.cuh"

namespace wick::cuda {

inline constexpr int64_t kPlainPadding = 8;

constexpr int64_t padded_inputs(int64_t k) { return round_up(k, kPlainPadding); }

struct PackedBlocks {
  std::byte* quants;
  std::byte* high;
  std::byte* scales;
  std::byte* parts;
  int64_t bytes;  // of all planes
};

inline PackedBlocks packed_blocks(DType type, int64_t rows, int64_t k, std::byte* data) {
  const FormatTraits format = format_traits(type);
  const int64_t blocks = rows * (k / kBlock);
  const int64_t scale_bytes = (format.minimum ? 4 : 2) * (format.super ? blocks / kBlocksPerSuper : blocks);
  const int64_t sizes[4] = {blocks * (format.high_bits == 4 ? 32 : 16), format.high_bits == 4 ? 0 : blocks * 4 * format.high_bits,
                            scale_bytes, format.super ? blocks * 2 : 0};
  int64_t begins[5] = {};
  for (int i = 0; i < 4; ++i) begins[i + 1] = begins[i] + round_up<int64_t>(sizes[i], 16);
  return {data + begins[0], data + begins[1], data + begins[2], data + begins[3], begins[4]};
}

// Words of 16 bytes that hold a block's quants.
template <DType kType>
inline constexpr int kQuantWords = format_traits(kType).high_bits == 4 ? 2 : 1;

// A block's integers of its quants and its part of the plane of higher bits (Q5: the first word of it).
template <DType kType>
__device__ BlockIntegers unpack_block(const uint4 (&quants)[kQuantWords<kType>], uint2 bits) {
  constexpr FormatTraits kFormat = format_traits(kType);
  BlockIntegers q;
  if constexpr (kFormat.high_bits == 4) {
    *reinterpret_cast<uint4*>(q.low) = quants[0];
    *reinterpret_cast<uint4*>(q.high) = quants[1];
    return q;
  }
  const uint32_t word[4] = {quants[0].x, quants[0].y, quants[0].z, quants[0].w};
#pragma unroll
  for (int g = 0; g < 4; ++g) {
    q.low[g] = word[g] & kNibbles;
    q.high[g] = word[g] >> 4 & kNibbles;
    if constexpr (kFormat.high_bits == 1) {
      q.low[g] |= (bits.x >> g & kOnes) << 4;
      q.high[g] |= (bits.x >> (4 + g) & kOnes) << 4;
    } else if constexpr (kFormat.high_bits == 2) {
      q.low[g] |= (bits.x >> 2 * g & 3 * kOnes) << 4;
      q.high[g] |= (bits.y >> 2 * g & 3 * kOnes) << 4;
    }
  }
  return q;
}

template <DType kType>
__device__ BlockIntegers packed_integers(const PackedBlocks& w, int64_t block) {
  constexpr int kHighBits = format_traits(kType).high_bits;
  uint4 quants[kQuantWords<kType>];
#pragma unroll
  for (int i = 0; i < kQuantWords<kType>; ++i) quants[i] = reinterpret_cast<const uint4*>(w.quants)[block * kQuantWords<kType> + i];
  uint2 bits = {};
  if constexpr (kHighBits == 1) bits.x = reinterpret_cast<const uint32_t*>(w.high)[block];
  if constexpr (kHighBits == 2) bits = reinterpret_cast<const uint2*>(w.high)[block];
  return unpack_block<kType>(quants, bits);
}

// Elements 8 part .. 8 part + 7 of a block, a byte each.
template <DType kType>
__device__ uint2 packed_eight(const PackedBlocks& w, int64_t block, int part) {
  constexpr int kHighBits = format_traits(kType).high_bits;
  if constexpr (kHighBits == 4) return reinterpret_cast<const uint2*>(w.quants)[block * 4 + part];
  uint2 q = reinterpret_cast<const uint2*>(w.quants)[block * 2 + part % 2];
  const int upper = part / 2, g = part % 2 * 2;  // the half of the block, and its first word of elements
  q = {q.x >> 4 * upper & kNibbles, q.y >> 4 * upper & kNibbles};
  if constexpr (kHighBits == 1) {
    const uint32_t bits = reinterpret_cast<const uint32_t*>(w.high)[block] >> (4 * upper + g);
    q.x |= (bits & kOnes) << 4;
    q.y |= (bits >> 1 & kOnes) << 4;
  } else if constexpr (kHighBits == 2) {
    const uint32_t bits = reinterpret_cast<const uint32_t*>(w.high)[2 * block + upper] >> 2 * g;
    q.x |= (bits & 3 * kOnes) << 4;
    q.y |= (bits >> 2 & 3 * kOnes) << 4;
  }
  return q;
}

// Of the scales' part `d` for the block or superblock, with the minimum above it where there is one, and of the block's own part.
template <DType kType>
__device__ BlockScales unpack_scales(uint32_t d, uchar2 part) {
  constexpr FormatTraits kFormat = format_traits(kType);
  const float scale = __half2float(__ushort_as_half(static_cast<unsigned short>(d)));
  if constexpr (kFormat.minimum) {
    const float minimum = __half2float(__ushort_as_half(static_cast<unsigned short>(d >> 16)));
    if constexpr (!kFormat.super) return {{scale, scale}, minimum};
    const float own = scale * static_cast<float>(part.x);
    return {{own, own}, -(minimum * static_cast<float>(part.y))};
  }
  if constexpr (!kFormat.super) return {{scale, scale}, 0};
  return {{scale * static_cast<float>(static_cast<int8_t>(part.x)), scale * static_cast<float>(static_cast<int8_t>(part.y))}, 0};
}

template <DType kType>
__device__ BlockScales packed_scales(const PackedBlocks& w, int64_t block) {
  constexpr FormatTraits kFormat = format_traits(kType);
  const int64_t at = kFormat.super ? block / kBlocksPerSuper : block;
  const uint32_t d = kFormat.minimum ? reinterpret_cast<const uint32_t*>(w.scales)[at] : reinterpret_cast<const uint16_t*>(w.scales)[at];
  return unpack_scales<kType>(d, kFormat.super ? reinterpret_cast<const uchar2*>(w.parts)[block] : uchar2{});
}

// A type known when the program is compiled.
template <DType kType>
struct Quantised {
  static constexpr DType kDType = kType;
};

// Calls body(Quantised<type>()).
template <class Body>
void with_quantised(DType type, Body&& body) {
  switch (type) {
    case DType::kQ4_0: return body(Quantised<DType::kQ4_0>());
    case DType::kQ4_1: return body(Quantised<DType::kQ4_1>());
    case DType::kQ5_0: return body(Quantised<DType::kQ5_0>());
    case DType::kQ5_1: return body(Quantised<DType::kQ5_1>());
    case DType::kQ8_0: return body(Quantised<DType::kQ8_0>());
    case DType::kQ4_K: return body(Quantised<DType::kQ4_K>());
    case DType::kQ5_K: return body(Quantised<DType::kQ5_K>());
    default: return body(Quantised<DType::kQ6_K>());
  }
}

}  // namespace wick::cuda
