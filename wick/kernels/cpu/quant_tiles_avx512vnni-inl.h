// What the kernels of many rows with quantised weights share: groups of panels, unpacked to bytes and f32 scales.
#pragma once

#include "wick/base/checked.h"
#include "wick/kernels/cpu/quant_panels_avx512vnni-inl.h"

namespace wick::cpu {
namespace {

// Where things are in the bytes and f32 scales of P unpacked panels: per block of 32
//   [8][P][16][4] i8   the integers, exactly, word g of a row: elements 4g .. 4g + 3
//   [kParts][P][16] i32  -128 * their sum: activations come with 128 added
//   [kParts][P][16] f32  d, then with minimums [P][16] f32 m
template <class F, int P>
struct Unpacked {
  static constexpr int kOffset = 512 * P;
  static constexpr int kScale = kOffset + 64 * P * F::kParts;
  static constexpr int kMinimum = kScale + 64 * P * F::kParts;
  static constexpr int kBytes = kMinimum + (F::kMin ? 64 * P : 0);
};

// The integers of words kG and 4 + kG with their signs, and what they add to the sums of a block.
template <class F, int P, int kG>
WICK_VNNI_INLINE void unpack_words(const Integers<F>& integers, uint8_t* out, __m512i* sums) {
  const __m512i offset = _mm512_set1_epi8(static_cast<char>(F::kMin ? 0 : F::kFormat.offset));
  const __m512i bias = _mm512_set1_epi8(static_cast<char>(128));
  const Words w = integers.template get<kG>();
  const __m512i low = _mm512_sub_epi8(w.low, offset), high = _mm512_sub_epi8(w.high, offset);
  _mm512_store_si512(out + kG * P * 64, low);
  _mm512_store_si512(out + (4 + kG) * P * 64, high);
  sums[0] = _mm512_dpbusd_epi32(sums[0], bias, low);
  sums[F::kParts - 1] = _mm512_dpbusd_epi32(sums[F::kParts - 1], bias, high);
}

template <class F, int P>
WICK_VNNI void unpack(const uint8_t* panel, int64_t blocks, uint8_t* out) {
  using To = Unpacked<F, P>;
  Scales<F> scales(panel);
  for (int64_t b = 0; b < blocks; ++b, out += To::kBytes) {
    const Integers<F> integers(panel + F::integers_at(b));
    __m512i sums[2] = {_mm512_setzero_si512(), _mm512_setzero_si512()};
    unpack_words<F, P, 0>(integers, out, sums);
    unpack_words<F, P, 1>(integers, out, sums);
    unpack_words<F, P, 2>(integers, out, sums);
    unpack_words<F, P, 3>(integers, out, sums);
    scales.enter(b);
    for (int part = 0; part < F::kParts; ++part) {
      _mm512_store_si512(out + To::kOffset + part * P * 64, _mm512_sub_epi32(_mm512_setzero_si512(), sums[part]));
      _mm512_store_ps(out + To::kScale + part * P * 64, scales.scale(b, part));
    }
    if constexpr (F::kMin) _mm512_store_ps(out + To::kMinimum, scales.min(b));
  }
}

// The sums of the first `rows` of R rows, for P panels.
template <int R, int P>
WICK_VNNI_INLINE void store_tile(const PanelJob& job, int64_t panel, int64_t row, int64_t rows, const __m512 (&sums)[R][P]) {
  const PanelRow out = output_row(job, row, panel);
  if (rows < R || out.bias || (panel + P) * kPanelRows > job.segment->rows) {
    alignas(64) float spilled[R][P][kPanelRows];
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 2
      for (int p = 0; p < P; ++p) _mm512_store_ps(spilled[r][p], sums[r][p]);
    }
    for (int64_t r = 0; r < rows; ++r) {
      for (int p = 0; p < P; ++p) store(job, row + r, panel + p, _mm512_load_ps(spilled[r][p]));
    }
    return;
  }
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 2
    for (int p = 0; p < P; ++p) {
      float* y = out.y + r * job.out.ldy + p * kPanelRows;
      _mm512_storeu_ps(y, out.accumulate ? _mm512_add_ps(sums[r][p], _mm512_loadu_ps(y)) : sums[r][p]);
    }
  }
}

// Panels [begin, end) as pairs, and a last one alone, or all alone with kMost = 1; behind one another in a job's scratch, each
// blocks * Unpacked<F, 1>::kBytes.
template <class F, int kMost>
void unpack_group(const PanelJob& job, int64_t begin, int64_t end) {
  const int64_t blocks = job.x->k / kQuantBlock, bytes = blocks * Unpacked<F, 1>::kBytes;
  auto* w = reinterpret_cast<uint8_t*>(job.scratch);
  const auto packed = [&](int64_t panel) { return reinterpret_cast<const uint8_t*>(job.panels + panel * job.segment->panel_bytes); };
  for (int64_t panel = begin; panel < end;) {
    const bool pair = kMost > 1 && panel + 2 <= end;
    if (pair) {
      for (int p = 0; p < 2; ++p) unpack<F, 2>(packed(panel + p), blocks, w + p * 64);
    } else {
      unpack<F, 1>(packed(panel), blocks, w);
    }
    panel += pair ? 2 : 1;
    w += (pair ? 2 : 1) * bytes;
  }
}

// Calls multiply(tile, first output row, how many) for tiles of kRows rows of activations: the rows, then their remainders. Meanwhile the
// packed panels from `end` on are asked for, as many as [begin, end).
template <int64_t kRows, class Multiply>
void each_tile(const PanelJob& job, int64_t begin, int64_t end, Multiply&& multiply) {
  const std::byte* next = job.panels + end * job.segment->panel_bytes;
  const int64_t share = (end - begin) * job.segment->panel_bytes / ceil_div(job.x->rows, kRows);
  int64_t tile = 0;
  for (int64_t part = 0; part < job.x->rows; part += job.out.rows) {
    for (int64_t row = 0; row < job.out.rows; row += kRows, ++tile) {
      for (int64_t i = 0; i < share; i += 64) _mm_prefetch(next + i, _MM_HINT_T1);
      next += share;
      multiply(tile, part + row, std::min(kRows, job.out.rows - row));
    }
  }
}

}  // namespace
}  // namespace wick::cpu
