// The integers and scales of 32 elements of a quantised row as files store them (tensor/dtype.h). Bytes of any alignment.
#pragma once

#include "wick/kernels/cuda/device.cuh"

namespace wick::cuda {

inline constexpr int kBlock = 32;          // elements of a block
inline constexpr int kBlocksPerSuper = 8;  // of a K format
inline constexpr uint32_t kNibbles = 0x0f0f0f0fu;
inline constexpr uint32_t kOnes = 0x01010101u;

// Four integers to a word: of elements 4g .. 4g + 3 in low[g], of 16 + 4g .. in high[g]. Q8_0: signed, the others not.
struct BlockIntegers {
  uint32_t low[4];
  uint32_t high[4];
};

// w = scale * (q - offset), or scale * q + minimum; the two scales are those of elements 0 .. 15 and 16 .. 31.
struct BlockScales {
  float scale[2];
  float minimum;
};

// What does not depend on the block.
struct FormatTraits {
  int high_bits;  // of q above its low four: 0, 1, 2; 4 where q is a whole byte
  int offset;     // 0 with minimums
  bool minimum;
  bool super;  // blocks of 256 with scales of their own for parts
};

__host__ __device__ constexpr FormatTraits format_traits(DType type) {
  switch (type) {
    case DType::kQ4_0: return {0, 8, false, false};
    case DType::kQ4_1: return {0, 0, true, false};
    case DType::kQ5_0: return {1, 16, false, false};
    case DType::kQ5_1: return {1, 0, true, false};
    case DType::kQ8_0: return {4, 0, false, false};
    case DType::kQ4_K: return {0, 0, true, true};
    case DType::kQ5_K: return {1, 0, true, true};
    default: return {2, 32, false, true};  // Q6_K
  }
}

__device__ inline uint32_t word_at(const uint8_t* p) { return p[0] | uint32_t{p[1]} << 8 | uint32_t{p[2]} << 16 | uint32_t{p[3]} << 24; }
__device__ inline float half_at(const uint8_t* p) { return __half2float(__ushort_as_half(static_cast<unsigned short>(p[0] | p[1] << 8))); }

// Element e of a block.
__device__ inline int element(const BlockIntegers& q, int e, bool is_signed) {
  const uint32_t byte = (e < 16 ? q.low[e / 4] : q.high[e / 4 - 4]) >> 8 * (e % 4) & 255;
  return is_signed ? static_cast<int8_t>(byte) : static_cast<int>(byte);
}

template <DType kType>
__device__ float value_of(int q, const BlockScales& scales, int part) {
  if constexpr (format_traits(kType).minimum) return scales.scale[part] * static_cast<float>(q) + scales.minimum;
  return scales.scale[part] * static_cast<float>(q - format_traits(kType).offset);
}

// Block `b` of a stored row.
template <DType kType>
__device__ BlockIntegers stored_integers(const uint8_t* row, int64_t b) {
  constexpr FormatTraits kFormat = format_traits(kType);
  constexpr int kBytes = kType == DType::kQ4_0   ? 18
                         : kType == DType::kQ4_1 ? 20
                         : kType == DType::kQ5_0 ? 22
                         : kType == DType::kQ5_1 ? 24
                         : kType == DType::kQ8_0 ? 34
                         : kType == DType::kQ4_K ? 144
                         : kType == DType::kQ5_K ? 176
                                                 : 210;
  const uint8_t* block = row + (kFormat.super ? b / kBlocksPerSuper : b) * kBytes;
  const int part = static_cast<int>(b % kBlocksPerSuper);
  BlockIntegers q;
  for (int g = 0; g < 4; ++g) {
    if constexpr (kType == DType::kQ8_0) {
      q.low[g] = word_at(block + 2 + 4 * g);
      q.high[g] = word_at(block + 18 + 4 * g);
    } else if constexpr (kType == DType::kQ4_K || kType == DType::kQ5_K) {
      const uint8_t* qs = block + (kType == DType::kQ4_K ? 16 : 48) + part / 2 * 32 + 4 * g;
      q.low[g] = word_at(qs) >> 4 * (part % 2) & kNibbles;
      q.high[g] = word_at(qs + 16) >> 4 * (part % 2) & kNibbles;
      if constexpr (kType == DType::kQ5_K) {
        q.low[g] |= (word_at(block + 16 + 4 * g) >> part & kOnes) << 4;
        q.high[g] |= (word_at(block + 32 + 4 * g) >> part & kOnes) << 4;
      }
    } else if constexpr (kType == DType::kQ6_K) {
      const uint8_t* ql = block + part / 4 * 64 + part % 2 * 32 + 4 * g;
      const uint8_t* qh = block + 128 + part / 4 * 32 + 4 * g;
      const int shift = part % 4 >= 2 ? 4 : 0, bits = 2 * (part % 4);
      q.low[g] = (word_at(ql) >> shift & kNibbles) | (word_at(qh) >> bits & 3 * kOnes) << 4;
      q.high[g] = (word_at(ql + 16) >> shift & kNibbles) | (word_at(qh + 16) >> bits & 3 * kOnes) << 4;
    } else {
      constexpr int kHeader = kFormat.minimum ? 4 : 2;
      const uint32_t word = word_at(block + kHeader + (kFormat.high_bits == 1 ? 4 : 0) + 4 * g);
      q.low[g] = word & kNibbles;
      q.high[g] = word >> 4 & kNibbles;
      if constexpr (kFormat.high_bits == 1) {
        const auto spread = [](uint32_t four) { return (four * 0x00204081u & kOnes) << 4; };
        const uint32_t bits = word_at(block + kHeader);
        q.low[g] |= spread(bits >> 4 * g & 15);
        q.high[g] |= spread(bits >> (16 + 4 * g) & 15);
      }
    }
  }
  return q;
}

// The six-bit scale and minimum of block `part`: four of each whole, then the low four bits of four more, whose upper two stand above the
// first.
__device__ inline uchar2 six_bits(const uint8_t* packed, int part) {
  if (part < 4) return {static_cast<uint8_t>(packed[part] & 63), static_cast<uint8_t>(packed[part + 4] & 63)};
  return {static_cast<uint8_t>((packed[part + 4] & 15) | packed[part - 4] >> 6 << 4),
          static_cast<uint8_t>(packed[part + 4] >> 4 | packed[part] >> 6 << 4)};
}

}  // namespace wick::cuda
