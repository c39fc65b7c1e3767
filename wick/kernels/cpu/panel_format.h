// How panels of the block-quantised types lie in memory. Integers and scales are those of their files (block_layout.h).
//
// A panel of 16 rows is read front to back, so what belongs together lies together: in groups of the 8 blocks of 32 k that share a stored
// block of the K formats, or of two blocks. A group begins at a cache line, and has room for all its blocks where k ends within it.
// First come the integers of each block:
//   [4][16][4] bytes  word g of a row: in its low nibbles the low four bits of elements 4g .. 4g + 3, in its high ones those of 16 + 4g ..
//   and above four bits
//     5 bits  [16][4] bytes     bit g of byte j: the fifth bit of element 4g + j, bit 4 + g: of 16 + 4g + j
//     6 bits  [2][16][4] bytes  bits 2g, 2g + 1 of byte j: the upper bits of element 4g + j, in the second part of 16 + 4g + j
//   8 bits: [8][16][4] bytes, word g of a row: elements 4g .. 4g + 3, each value + 128 so that it is unsigned
// Then their scales:
//   one per 32       [2][16] f16 d, or with minimums [2][2][16] f16 d, m
//   Q4_K, Q5_K       [16] f16 d, [16] f16 dmin, [3][16] u32: the twelve bytes of six-bit scales and minimums
//   Q6_K             [16][16] i8 scales, one row per 16 k, then [16] f16 d
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <utility>

#include "wick/base/checked.h"
#include "wick/base/machine.h"
#include "wick/kernels/block_layout.h"
#include "wick/kernels/cpu/panels.h"

namespace wick::cpu {

// Bytes of the integers of a block of 32.
constexpr int64_t integer_bytes(const BlockFormat& format) { return 256 + (format.whole_bytes() ? 256 : 64 * format.high_bits); }

// Bytes of the scales of a stored block.
constexpr int64_t scale_bytes(const BlockFormat& format) {
  switch (format.scales) {
    case ScaleKind::kHalf: return 32;
    case ScaleKind::kHalfMin: return 64;
    case ScaleKind::kSuper: return 256;
    default: return 288;
  }
}

// -offset times the sums of the activations, for each block of a row, in Q6_K for each half of one. Of no use with minimums.
inline const int32_t* offset_sums(const BlockFormat& format, const Activations& x) {
  switch (format.offset) {
    case 8: return x.minus_8_sum;
    case 16: return x.minus_16_sum;
    case 32: return x.minus_32_sum;
    default: return x.minus_128_sum;
  }
}

constexpr int64_t group_blocks(const BlockFormat& format) { return format.super() ? kBlocksPerSuper : 2; }
constexpr int64_t group_bytes(const BlockFormat& format) {
  return round_up<int64_t>(group_blocks(format) * integer_bytes(format) + format.stored_block(group_blocks(format)) * scale_bytes(format),
                           64);
}
// Where in a panel the integers of block b are, and the scales of the stored block that it is in.
constexpr int64_t integers_at(const BlockFormat& format, int64_t b) {
  return b / group_blocks(format) * group_bytes(format) + b % group_blocks(format) * integer_bytes(format);
}
constexpr int64_t scales_at(const BlockFormat& format, int64_t b) {
  return b / group_blocks(format) * group_bytes(format) + group_blocks(format) * integer_bytes(format) +
         format.stored_block(b % group_blocks(format)) * scale_bytes(format);
}

// A format's constants at compile time.
template <DType kType>
struct Format {
  static constexpr BlockFormat kFormat = *block_format(kType);
  static constexpr bool kBytes = kFormat.whole_bytes();
  static constexpr int kHighBits = kBytes ? 0 : kFormat.high_bits;
  static constexpr bool kMin = kFormat.has_min();
  static constexpr int kParts = kFormat.scales == ScaleKind::kSuper16 ? 2 : 1;  // of a block that have a scale each
  static constexpr int64_t integers_at(int64_t b) { return cpu::integers_at(kFormat, b); }
  static constexpr int64_t scales_at(int64_t b) { return cpu::scales_at(kFormat, b); }

  static const int32_t* offsets(const Activations& x) { return offset_sums(kFormat, x); }
};

// Calls f(Format<type>()), for a type of kBlockFormats.
template <class F, size_t... kIndex>
void for_format(DType type, F&& f, std::index_sequence<kIndex...>) {
  ((type == kBlockFormats[kIndex].type ? f(Format<kBlockFormats[kIndex].type>()) : void()), ...);
}
template <class F>
void for_format(DType type, F&& f) {
  for_format(type, f, std::make_index_sequence<kBlockFormats.size()>());
}

// Asks for weights while a kernel reads a panel once: the processor's own prefetchers lose their way at each page, and unpacking takes too
// long between two lines to draw a memory's full speed without. How far ahead depends on the maker:
// - Intel: 3 KiB. Two threads of Granite Rapids, for which plain reads give 31 to 32 GB/s: Q4_0 34, Q8_0 33, Q4_K 33, Q6_K 31; with 1 KiB
//   33, 33, 31, 26; with 6 KiB 31, 31, 30, 30.
// - others: a panel (4-bit weights, 2 threads of Zen 5: 36 to 44 GB/s before, 44 to 52 of 50 with it). Nearer or further away, into the
//   second cache, or only while the first rows read: all slower.
template <class F>
class Ahead {
 public:
  Ahead(const uint8_t* panel, int64_t panel_bytes) : from_(panel + (cpu_is_intel() ? 3072 : panel_bytes)) {}

  // To be called once for every block; of a panel that lies `apart` bytes behind the one given.
  void ask(int64_t b, int64_t apart) const {
    constexpr int64_t kLine = 64, kBlocks = group_blocks(F::kFormat), kLines = group_bytes(F::kFormat) / kLine,
                      kOfBlock = ceil_div(kLines, kBlocks);
    const uint8_t* const lines = from_ + apart + b / kBlocks * kLines * kLine + b % kBlocks * kLines / kBlocks * kLine;
#pragma GCC unroll 9
    for (int64_t i = 0; i < kOfBlock; ++i) __builtin_prefetch(lines + i * kLine);
  }

 private:
  const uint8_t* from_;
};

// Calls multiply(first, apart, n) for panels `first`, `first + apart` and so on, n of them, until a job's are done; n is an
// integral_constant. On Intel mostly kTurns, 2 or 4, whose blocks are to be multiplied in turn: its prefetchers get further when they
// follow places far apart. Two threads of Granite Rapids, for which plain reads give 33 GB/s: Q4_0 24 to 29 with one, 30 with two, 31 with
// four; Q8_0 29, 30, 30. Elsewhere one.
template <int kTurns, class Multiply>
void in_turns(const PanelJob& job, Multiply&& multiply) {
  int64_t panel = job.panel_begin;
  const auto run = [&](auto turns) {
    constexpr int64_t kPanels = turns.value;
    const int64_t apart = (job.panel_end - panel) / kPanels, end = panel + apart;
    for (; panel < end; ++panel) multiply(panel, apart, turns);
    panel += (kPanels - 1) * apart;
  };
  if (cpu_is_intel()) {
    if constexpr (kTurns > 2) run(std::integral_constant<int, kTurns>());
    run(std::integral_constant<int, 2>());
  }
  run(std::integral_constant<int, 1>());
}

// Writes a stored row of k elements as row `r` of a panel.
void pack_quantised_row(const BlockFormat& format, const std::byte* row, int64_t k, int64_t r, std::byte* panel);

// The integers of block b as [8][16][4] bytes, elements 4w .. 4w + 3 of each row in word w.
void unpack_block(const BlockFormat& format, const std::byte* panel, int64_t b, uint8_t* out);

// The scales of block b in row r.
BlockScales panel_scales(const BlockFormat& format, const std::byte* panel, int64_t b, int64_t r);

// out[i] = element i of row r, i < k.
void unpack_quantised_row(const BlockFormat& format, const std::byte* panel, int64_t k, int64_t r, float* out);

}  // namespace wick::cpu
