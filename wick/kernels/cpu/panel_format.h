// How panels of the block-quantised types lie in memory. Integers and scales are those of their files (block_layout.h).
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
#include <type_traits>
#include <utility>

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

// A format's constants at compile time.
template <DType kType>
struct Format {
  static constexpr BlockFormat kFormat = *block_format(kType);
  static constexpr bool kBytes = kFormat.whole_bytes();
  static constexpr int kHighBits = kBytes ? 0 : kFormat.high_bits;
  static constexpr bool kMin = kFormat.has_min();
  static constexpr int kParts = kFormat.scales == ScaleKind::kSuper16 ? 2 : 1;  // of a block that have a scale each
  static constexpr int64_t kBlockBytes = integer_bytes(kFormat);
  static constexpr int64_t kScaleBytes = scale_bytes(kFormat);

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
// - Intel (Granite Rapids, one thread): 1 KiB, and the scales of the next panel, gives 15.0 (Q8_0) and 13.6 GB/s (Q4_0) of the 16.5 that
//   plain reads reach; 0.5 to 3 KiB the same within noise; a whole panel 14.0 and 11.5.
// - others: as much of the next panel, in the order of memory (4-bit weights, 2 threads of Zen 5: 36 to 44 GB/s before, 44 to 52 of 50 with
//   it). Nearer or further away, into the second cache, scales apart from integers, or only while the first rows read: all slower.
template <class F>
class Ahead {
 public:
  Ahead(const uint8_t* panel, int64_t panel_bytes, int64_t blocks)
      : nearby_(cpu_is_intel()), next_(panel + panel_bytes), scale_step_(panel_bytes / blocks - F::kBlockBytes), blocks_(blocks) {}

  // To be called once for every block; of a panel that lies `from` bytes behind the one given.
  void ask(int64_t b, int64_t from) const {
    if (!nearby_) return ask<F::kBlockBytes + 32>(next_ + from + b * (F::kBlockBytes + scale_step_));
    constexpr int64_t kLead = 1024 / F::kBlockBytes;  // blocks
    ask<F::kBlockBytes>(next_ + from + (b + kLead - blocks_) * F::kBlockBytes - (b + kLead < blocks_ ? blocks_ * scale_step_ : 0));
    __builtin_prefetch(next_ + from + blocks_ * F::kBlockBytes + b * scale_step_);
  }

 private:
  template <int64_t kBytes>
  static void ask(const uint8_t* part) {
#pragma GCC unroll 9
    for (int64_t i = 0; i < kBytes; i += 64) __builtin_prefetch(part + i);
  }

  bool nearby_;
  const uint8_t* next_;  // panel
  int64_t scale_step_;
  int64_t blocks_;
};

// Calls multiply(first, apart, n) for panels `first`, `first + apart` and so on, n of them, until a job's are done; n is an
// integral_constant. On Intel mostly kTurns, whose blocks are to be multiplied in turn: its prefetchers get further when they follow places
// far apart. On Granite Rapids one thread, for which plain reads give 15.7 GB/s, reads Q4_0 at 12.7 and with two 14.1, Q6_K at 11.1
// and 13.9, Q4_K at 11.8, with two 12.3 and with three 14.0. Elsewhere one.
template <int kTurns, class Multiply>
void in_turns(const PanelJob& job, Multiply&& multiply) {
  int64_t panel = job.panel_begin;
  if (cpu_is_intel()) {
    const int64_t apart = (job.panel_end - job.panel_begin) / kTurns;
    for (; panel < job.panel_begin + apart; ++panel) multiply(panel, apart, std::integral_constant<int, kTurns>());
    panel = job.panel_begin + kTurns * apart;
  }
  for (; panel < job.panel_end; ++panel) multiply(panel, int64_t{0}, std::integral_constant<int, 1>());
}

// Writes a stored row of k elements as row `r` of a panel.
void pack_quantised_row(const BlockFormat& format, const std::byte* row, int64_t k, int64_t r, std::byte* panel);

// The integers of block b as [8][16][4] bytes, elements 4w .. 4w + 3 of each row in word w.
void unpack_block(const BlockFormat& format, const std::byte* panel, int64_t b, uint8_t* out);

// The scales of block b in row r.
BlockScales panel_scales(const BlockFormat& format, const std::byte* panel, int64_t blocks, int64_t b, int64_t r);

// out[i] = element i of row r, i < k.
void unpack_quantised_row(const BlockFormat& format, const std::byte* panel, int64_t k, int64_t r, float* out);

}  // namespace wick::cpu
