// bf16 panels with VDPBF16PS: each 32-bit lane holds two consecutive k of one output row, so one instruction adds both products.
// The chain per output is the instruction's own order, pair by pair in ascending k, for any number of rows.
#if defined(__x86_64__)

#include <immintrin.h>

#include <algorithm>
#include <cstdint>

#include "wick/kernels/cpu/panel_output_avx512-inl.h"
#include "wick/kernels/cpu/panels.h"

#define WICK_BF16 __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")))
#define WICK_BF16_INLINE WICK_BF16 __attribute__((always_inline)) inline

namespace wick::cpu {
namespace {

WICK_BF16_INLINE __m512bh load_pairs(const std::byte* p) {
  const __m512i bits = _mm512_loadu_si512(p);
  __m512bh pairs;
  __builtin_memcpy(&pairs, &bits, sizeof pairs);
  return pairs;
}

WICK_BF16_INLINE __m512bh broadcast_pair(const uint16_t* p) {
  int32_t word;
  __builtin_memcpy(&word, p, 4);
  const __m512i bits = _mm512_set1_epi32(word);
  __m512bh pairs;
  __builtin_memcpy(&pairs, &bits, sizeof pairs);
  return pairs;
}

// R rows times P panels.
template <int R, int P>
WICK_BF16 void tile(const PanelJob& job, int64_t panel, int64_t row) {
  const Activations& x = *job.x;
  const int64_t pairs = (x.k + 1) / 2;
  const std::byte* weights = job.panels + panel * job.segment->panel_bytes;
  const uint16_t* rows = x.bf16.row(row);
  __m512 acc[R][P];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (int p = 0; p < P; ++p) acc[r][p] = _mm512_setzero_ps();
  }
  for (int64_t i = 0; i < pairs; ++i) {
    __m512bh w[P];
#pragma GCC unroll 4
    for (int p = 0; p < P; ++p) w[p] = load_pairs(weights + p * job.segment->panel_bytes + i * 64);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const __m512bh a = broadcast_pair(rows + r * x.bf16.ld + 2 * i);
#pragma GCC unroll 4
      for (int p = 0; p < P; ++p) acc[r][p] = _mm512_dpbf16_ps(acc[r][p], w[p], a);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (int p = 0; p < P; ++p) store(job, row + r, panel + p, acc[r][p]);
  }
}

template <int P>
void all_rows(const PanelJob& job, int64_t panel) {
  int64_t row = 0;
  for (; row + 8 <= job.x->rows; row += 8) tile<8, P>(job, panel, row);
  switch (job.x->rows - row) {
    case 7: return tile<7, P>(job, panel, row);
    case 6: return tile<6, P>(job, panel, row);
    case 5: return tile<5, P>(job, panel, row);
    case 4: return tile<4, P>(job, panel, row);
    case 3: return tile<3, P>(job, panel, row);
    case 2: return tile<2, P>(job, panel, row);
    case 1: return tile<1, P>(job, panel, row);
    default: return;
  }
}

}  // namespace

void bf16_panels_avx512(const PanelJob& job) {
  int64_t panel = job.panel_begin;
  if (job.x->rows < 4) {  // few chains per panel: more panels at a time hide the latency
    for (; panel + 4 <= job.panel_end; panel += 4) all_rows<4>(job, panel);
  }
  for (; panel + 2 <= job.panel_end; panel += 2) all_rows<2>(job, panel);
  for (; panel < job.panel_end; ++panel) all_rows<1>(job, panel);
}

}  // namespace wick::cpu

#endif
