// The packed layout on the CPU and the kernels that read it.
//
// Panels of 16 output rows, so that one AVX-512 vector (two of AVX2, four of NEON) holds the same k of 16 outputs and no horizontal sum
// is ever needed. Per panel:
//   f32   [k][16] f32
//   f16   [k][16] f16
//   bf16  [ceil(k/2)][16][2] bf16: a pair of k per 32-bit lane, as VDPBF16PS reads them; odd k padded with zero
//   quantised types: panel_format.h
// Quantised weights are unsigned and activations signed, as VPDPBUSD wants them; the offset (8, 16, 32, 128 or none) comes back as the
// starting value of the integer sum, -offset * sum(x): exact, and at no cost per weight byte.
#pragma once

#include <algorithm>
#include <cstdint>

#include "wick/base/machine.h"
#include "wick/kernels/block_layout.h"
#include "wick/kernels/packed_weight.h"

namespace wick::cpu {

inline constexpr int64_t kPanelRows = 16;

// A block of 32 of kTileRows rows, for products of many rows: what a kernel reads one after the other lies so. Tiles of a matrix are in
// the order [row / kTileRows][k / 32]; rows that are not there are undefined. Those of remainders start with a tile of their own.
inline constexpr int64_t kTileRows = 8;
struct alignas(64) ActivationTile {
  int8_t q[8][kTileRows][4];  // + 128, as unsigned bytes; word g: elements 4g .. 4g + 3
  float scale[kTileRows];
  float scaled_sum[kTileRows];  // scale * sum of q
};

// The same of kWideRows rows for AMX: row by row, as they are.
inline constexpr int64_t kWideRows = 16;
struct alignas(64) WideTile {
  int8_t q[kWideRows][32];
  float scale[kWideRows];
  float scaled_sum[kWideRows];
};

// Rows rounded to bf16, zero past k up to ld: one behind the other or, as AMX wants them, in groups of up to 16 rows, each group
// [ld / 32][its rows][32]. Either way a row's elements come in chunks of 32, `step` apart.
inline constexpr int64_t kBf16Chunk = 32;
inline constexpr int64_t kBf16Rows = 16;
struct Bf16Rows {
  uint16_t* data = nullptr;
  int64_t rows = 0;
  int64_t ld = 0;
  bool grouped = false;

  uint16_t* row(int64_t r) const { return data + (grouped ? r / kBf16Rows * kBf16Rows * ld + r % kBf16Rows * kBf16Chunk : r * ld); }
  int64_t step(int64_t r) const { return grouped ? std::min(kBf16Rows, rows - r / kBf16Rows * kBf16Rows) * kBf16Chunk : kBf16Chunk; }
};

// The same as f32, for products in it; zero behind an odd k.
struct F32OfBf16 {
  float* data = nullptr;
  int64_t ld = 0;
};

// Activations rounded for a matmul. Only the members that the segment's type needs are set. For precise segments, rows [T, 2 T) in
// blocks hold what the rounding of rows [0, T) left over.
struct Activations {
  int64_t rows = 0;  // to multiply: T, or 2 T
  int64_t k = 0;
  const float* f32 = nullptr;  // [rows, k], rows ld_f32 apart
  int64_t ld_f32 = 0;
  Bf16Rows bf16;          // where has_bf16_pairs() holds
  F32OfBf16 f32_of_bf16;  // elsewhere
  // Blocks of 32: q[t, k], and per block [t, k/32]: scale, scale * sum(q), -8, -16 and -128 * sum(q); per 16 [t, k/16]: -32 * sum(q).
  const int8_t* q = nullptr;
  const float* scale = nullptr;
  const float* scaled_sum = nullptr;
  const int32_t* minus_8_sum = nullptr;
  const int32_t* minus_16_sum = nullptr;
  const int32_t* minus_128_sum = nullptr;
  const int32_t* minus_32_sum = nullptr;
  const ActivationTile* tiles = nullptr;  // instead of blocks, where wants_tiles() says so
  const WideTile* wide_tiles = nullptr;   // or these, with AMX
};

// Where a panel's 16 sums go: y[row * ldy + column], columns < columns_left of the panel. Rows from `rows` on, those of remainders, are
// added to row - rows, which every kernel has stored before. Sums of bf16 weights may go to y_bf16 instead, rounded: nothing is added then
// but a bias.
struct PanelOutput {
  float* y = nullptr;
  uint16_t* y_bf16 = nullptr;
  int64_t rows = 0;  // T
  int64_t ldy = 0;
  const float* bias = nullptr;
  bool accumulate = false;

  // From `column` on.
  PanelOutput at(int64_t column) const {
    PanelOutput out = *this;
    if (y) out.y += column;
    if (y_bf16) out.y_bf16 += column;
    if (bias) out.bias += column;
    return out;
  }
};

struct PanelJob {
  const WeightSegment* segment = nullptr;  // type, rows and panel_bytes; its storage is not read
  const std::byte* panels = nullptr;       // where panel 0 is, or would be: panels panel_begin to panel_end - 1 are read
  const Activations* x = nullptr;
  PanelOutput out;  // y and bias at the segment's first column
  int64_t panel_begin = 0;
  int64_t panel_end = 0;
  std::byte* scratch = nullptr;  // panel_scratch_bytes() of this worker, 64-byte aligned
};

using PanelKernel = void (*)(const PanelJob& job);

// Bytes of scratch that any kernel needs per worker for inputs of this k, and how many unpacked panels of any type go into it.
int64_t panel_scratch_bytes(Isa isa, int64_t k);
int64_t panels_in_scratch(int64_t k);
int64_t bf16_scratch_bytes_amx();  // of those, what bf16_panels_amx needs
// Whether products of so many rows with quantised weights want tiles, and those with bf16 weights groups of rows.
bool wants_tiles(Isa isa, int64_t rows);
bool wants_groups(Isa isa);
// The kernel for a weight type on an instruction set.
PanelKernel panel_kernel(DType type, Isa isa);
int64_t panel_bytes(DType type, int64_t k);

// Writes rows [16 panel, 16 panel + 16) of `matrix` as a panel of its type; missing rows become zeros.
void pack_panel(const MatrixView& matrix, int64_t panel, std::byte* out);

// Kernels, by file.
void float_panels(const PanelJob& job, Isa isa);    // float_panels.cc: f32, f16, bf16
void bf16_panels_avx512(const PanelJob& job);       // bf16_panels_avx512.cc
void bf16_panels_amx(const PanelJob& job);          // bf16_panels_amx.cc
void bf16_panels_neon(const PanelJob& job);         // bf16_panels_neon.cc
void quant_panels_generic(const PanelJob& job);     // quant_panels_generic.cc
void quant_panels_avx2(const PanelJob& job);        // quant_panels_avx2.cc
void quant_panels_avx512vnni(const PanelJob& job);  // quant_panels_avx512vnni.cc
void quant_tiles_avx512vnni(const PanelJob& job);   // quant_tiles_avx512vnni.cc
void quant_tiles_amx(const PanelJob& job);          // quant_tiles_amx.cc
void quant_panels_neon(const PanelJob& job);        // quant_panels_neon.cc
void quant_panels_neon_dot(const PanelJob& job);    // quant_panels_neon_dot.cc

// Where rounded activations are written: the members of Activations, writable.
struct ActivationBuffers {
  Bf16Rows bf16;
  F32OfBf16 f32_of_bf16;
  int8_t* q = nullptr;
  float* scale = nullptr;
  float* scaled_sum = nullptr;
  int32_t* minus_8_sum = nullptr;
  int32_t* minus_16_sum = nullptr;
  int32_t* minus_128_sum = nullptr;
  int32_t* minus_32_sum = nullptr;
};

// Round rows [begin, end) of a matrix, of which x is row `begin`.  rounding.cc
// Unless it is 0, what the rounding of row t left over goes to row t + remainder, rounded to blocks of its own.
void quantise_rows(Isa isa, const float* x, int64_t ldx, int64_t k, int64_t begin, int64_t end, const ActivationBuffers& out,
                   int64_t remainder);
// As quantise_rows, up to kTileRows or kWideRows rows as a row of tiles. The remainders have tiles of their own, if they are wanted.
// quant_tiles_avx512vnni.cc
void quantise_tile_row_avx512vnni(const float* x, int64_t ldx, int64_t rows, int64_t k, ActivationTile* tiles, ActivationTile* remainders);
void quantise_wide_row_avx512vnni(const float* x, int64_t ldx, int64_t rows, int64_t k, WideTile* tiles, WideTile* remainders);
void widen_row_bf16(Isa isa, const uint16_t* x, int64_t k, float* out);
// To whichever of bf16 and f32_of_bf16 there is.
void round_rows_bf16(Isa isa, const float* x, int64_t ldx, int64_t k, int64_t begin, int64_t end, const ActivationBuffers& out);

}  // namespace wick::cpu
