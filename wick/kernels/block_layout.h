// How a row of a block format lies in memory, for what decodes, encodes and packs: the integers and scales within the blocks that
// tensor/dtype.h lays out.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "wick/tensor/dtype.h"

namespace wick {

inline constexpr int64_t kQuantBlock = 32;     // elements with one scale, in Q6_K with two
inline constexpr int64_t kBlocksPerSuper = 8;  // such blocks in a stored one of the K formats

enum class ScaleKind {
  kHalf,     // one f16 per 32
  kHalfMin,  // and an f16 minimum
  kSuper,    // per 256 an f16 for scales and one for minimums, per 32 six bits of each (Q4_K, Q5_K)
  kSuper16,  // per 256 an f16, per 16 a signed byte (Q6_K)
};

// A weight is scale * (q - offset) + minimum, q an integer >= 0.
struct BlockFormat {
  DType type;
  int high_bits;  // of q above its low four: 0, 1 or 2; 4 where q is a whole byte
  int offset;     // 0 with minimums
  ScaleKind scales;
  // Where the parts of a stored block begin, in bytes; 0 for what the format does not have.
  int low_at;     // the low four bits of q, or whole bytes
  int high_at;    // the bits above
  int d_at;       // f16; with minimums another one behind it
  int scales_at;  // the integer scales of the K formats

  constexpr bool whole_bytes() const { return high_bits == 4; }
  constexpr bool has_min() const { return scales == ScaleKind::kHalfMin || scales == ScaleKind::kSuper; }
  constexpr int64_t bytes() const { return traits(type).bytes; }
  constexpr bool super() const { return scales == ScaleKind::kSuper || scales == ScaleKind::kSuper16; }
  // The stored block that block b of 32 is in, for the K formats as number b % kBlocksPerSuper of it.
  constexpr int64_t stored_block(int64_t b) const { return super() ? b / kBlocksPerSuper : b; }
};

inline constexpr std::array<BlockFormat, 8> kBlockFormats = {{
    {DType::kQ4_0, 0, 8, ScaleKind::kHalf, 2, 0, 0, 0},
    {DType::kQ4_1, 0, 0, ScaleKind::kHalfMin, 4, 0, 0, 0},
    {DType::kQ5_0, 1, 16, ScaleKind::kHalf, 6, 2, 0, 0},
    {DType::kQ5_1, 1, 0, ScaleKind::kHalfMin, 8, 4, 0, 0},
    {DType::kQ8_0, 4, 128, ScaleKind::kHalf, 2, 0, 0, 0},
    {DType::kQ4_K, 0, 0, ScaleKind::kSuper, 16, 0, 0, 4},
    {DType::kQ5_K, 1, 0, ScaleKind::kSuper, 48, 16, 0, 4},
    {DType::kQ6_K, 2, 32, ScaleKind::kSuper16, 0, 128, 208, 192},
}};

// Null for plain types.
constexpr const BlockFormat* block_format(DType type) {
  for (const BlockFormat& format : kBlockFormats) {
    if (format.type == type) return &format;
  }
  return nullptr;
}

template <class T>
T load_as(const std::byte* p) {
  T value;
  std::memcpy(&value, p, sizeof value);
  return value;
}

template <class T>
void store_as(T value, std::byte* p) {
  std::memcpy(p, &value, sizeof value);
}

// The integers of a block of 32, a byte each: those of elements 4w .. 4w + 3 in words[w].
struct BlockIntegers {
  uint32_t words[8];
};

// Of block b of a stored row.
BlockIntegers read_integers(const BlockFormat& format, const std::byte* row, int64_t b);
// The reverse for a whole stored block, whose elements are q[0], q[1] .. .
void write_integers(const BlockFormat& format, const uint8_t* q, std::byte* block);

// The scales of elements 0..15 and 16..31 of a block, and its minimum.
struct BlockScales {
  float low, high, min;

  // Element e, whose integer is q.
  float weight(const BlockFormat& format, size_t e, int q) const {
    const float product = (e < kQuantBlock / 2 ? low : high) * static_cast<float>(q - format.offset);
    return format.has_min() ? product + min : product;  // + 0 would lose the sign of a zero
  }
};

// Of block b of a stored row.
BlockScales read_scales(const BlockFormat& format, const std::byte* row, int64_t b);

// The scale and the minimum of block `part` of a stored one of Q4_K or Q5_K, from its two f16 and its twelve bytes in three words.
BlockScales six_bit_scales(float d, float dmin, const std::array<uint32_t, 3>& words, int64_t part);

struct SixBits {
  std::array<uint8_t, kBlocksPerSuper> scale, minimum;
};
// Writes those twelve bytes.
void write_six_bits(const SixBits& six, std::byte* p);

}  // namespace wick
