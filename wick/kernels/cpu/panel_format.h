// How panels of the block-quantised types lie in memory. tensor/dtype.h has the layouts of their files; the integers and scales are the same.
//
// Per panel of 16 rows and block of 32 k:
//   [4][16][4] bytes  word g of a row: in its low nibbles the low four bits of elements 4g .. 4g + 3, in its high ones those of 16 + 4g ..
//   and above four bits
//     5 bits  [16][4] bytes     bit g of byte j: the fifth bit of element 4g + j, bit 4 + g: of 16 + 4g + j
//     6 bits  [2][16][4] bytes  bits 2g, 2g + 1 of byte j: the upper bits of element 4g + j, in the second part of 16 + 4g + j
//   8 bits: [8][16][4] bytes, word g of a row: elements 4g .. 4g + 3, each value + 128 so that it is unsigned
// Then, after all blocks, the scales:
//   one per 32       [k/32][16] f16 d, or with minimums [k/32][2][16] f16 d, m
//   Q4_K, Q5_K       [k/256] of [16] f16 d, [16] f16 dmin, [3][16] u32: the twelve bytes of six-bit scales and minimums
//   Q6_K             [k/256] of [16][16] i8 scales, one row per 16 k, then [16] f16 d
#pragma once

#include <cstddef>
#include <cstdint>

#include "wick/kernels/cpu/panels.h"
#include "wick/tensor/dtype.h"

namespace wick::cpu {

inline constexpr int64_t kBlocksPerSuper = 8;

enum class ScaleKind { kHalf, kHalfMin, kSuper, kSuper16 };

// A weight is scale * (q - offset) + minimum, q an integer >= 0.
struct PanelFormat {
  DType type;
  int high_bits;  // of q above its low four: 0, 1 or 2; 4 where q is a whole byte
  int offset;     // 0 with minimums
  ScaleKind scales;

  constexpr bool whole_bytes() const { return high_bits == 4; }
  constexpr bool has_min() const { return scales == ScaleKind::kHalfMin || scales == ScaleKind::kSuper; }
  constexpr int64_t block_bytes() const { return 256 + (whole_bytes() ? 256 : 64 * high_bits); }
  // Of `blocks` blocks, a multiple of 8 for the formats of 256.
  constexpr int64_t scale_bytes(int64_t blocks) const {
    switch (scales) {
      case ScaleKind::kHalf: return blocks * 32;
      case ScaleKind::kHalfMin: return blocks * 64;
      case ScaleKind::kSuper: return blocks / kBlocksPerSuper * 256;
      default: return blocks / kBlocksPerSuper * 288;
    }
  }
};

inline constexpr PanelFormat kPanelFormats[] = {
    {DType::kQ4_0, 0, 8, ScaleKind::kHalf},   {DType::kQ4_1, 0, 0, ScaleKind::kHalfMin}, {DType::kQ5_0, 1, 16, ScaleKind::kHalf},
    {DType::kQ5_1, 1, 0, ScaleKind::kHalfMin}, {DType::kQ8_0, 4, 128, ScaleKind::kHalf},  {DType::kQ4_K, 0, 0, ScaleKind::kSuper},
    {DType::kQ5_K, 1, 0, ScaleKind::kSuper},   {DType::kQ6_K, 2, 32, ScaleKind::kSuper16},
};

// Null for types that are not quantised in blocks, or have no kernels.
constexpr const PanelFormat* panel_format(DType type) {
  for (const PanelFormat& format : kPanelFormats) {
    if (format.type == type) return &format;
  }
  return nullptr;
}

// Writes a stored row of k elements as row `r` of a panel.
void pack_quantised_row(const PanelFormat& format, const std::byte* row, int64_t k, int64_t r, std::byte* panel);

// The integers of block b as [8][16][4] bytes, elements 4w .. 4w + 3 of each row in word w.
void unpack_block(const PanelFormat& format, const std::byte* panel, int64_t b, uint8_t* out);

// The scales of elements 0..15 and 16..31 of block b in row r, and its minimum.
struct BlockScales {
  float low, high, min;
};
BlockScales block_scales(const PanelFormat& format, const std::byte* panel, int64_t blocks, int64_t b, int64_t r);

// out[i] = element i of row r, i < k.
void unpack_quantised_row(const PanelFormat& format, const std::byte* panel, int64_t k, int64_t r, float* out);

}  // namespace wick::cpu
