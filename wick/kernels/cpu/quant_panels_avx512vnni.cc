// Quantised panels with VPDPBUSD times few rows: the packed weights are read once and unpacked in registers. For more rows the product of
// tiles, quant_tiles_avx512vnni.cc, does the same arithmetic.
#if defined(__x86_64__)

#include "wick/kernels/cpu/quant_panels_avx512vnni-inl.h"

namespace wick::cpu {
namespace {

// sums += words kG of a block times R rows of x.
template <class F, int kG, int R>
WICK_VNNI_INLINE void add_words(const Integers<F>& integers, const int8_t* x, int64_t k, __m512i* low, __m512i* high) {
  const Words w = integers.template get<kG>();
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) {
    low[r] = add_products(low[r], w.low, x + r * k + 4 * kG);
    high[r] = add_products(high[r], w.high, x + r * k + 16 + 4 * kG);
  }
}

// R rows times P panels, so many panels apart, unpacking on the way.
template <class F, int R, int P>
WICK_VNNI void direct_tile(const PanelJob& job, int64_t first, int64_t apart, int64_t row) {
  const Activations& x = *job.x;
  const int64_t blocks = x.k / kQuantBlock, bytes = job.segment->panel_bytes;
  const auto* panel = reinterpret_cast<const uint8_t*>(job.panels + first * bytes);
  const Ahead<F> ahead(panel, bytes);
  Scales<F> scales[P];
  for (int p = 0; p < P; ++p) scales[p] = Scales<F>(panel + p * apart * bytes);
  const int8_t* q = x.q + row * x.k;
  const int32_t* offsets = F::offsets(x) + row * blocks * F::kParts;
  const float* x_scale = x.scale + row * blocks;
  const float* x_sum = x.scaled_sum + row * blocks;
  __m512 acc[P][R];
  for (int p = 0; p < P; ++p) {
    for (int r = 0; r < R; ++r) acc[p][r] = _mm512_setzero_ps();
  }
  for (int64_t b = 0; b < blocks; ++b) {
#pragma GCC unroll 4
    for (int p = 0; p < P; ++p) {
      const int64_t from = p * apart * bytes;
      __m512i low[R], high[R];
      for (int r = 0; r < R; ++r) {
        const int32_t* offset = offsets + (r * blocks + b) * F::kParts;
        low[r] = F::kMin ? _mm512_setzero_si512() : _mm512_set1_epi32(offset[0]);
        high[r] = F::kParts == 2 ? _mm512_set1_epi32(offset[F::kParts - 1]) : _mm512_setzero_si512();
      }
      ahead.ask(b, from);
      const Integers<F> integers(panel + from + F::integers_at(b));
      const int8_t* x_block = q + b * kQuantBlock;
      add_words<F, 0, R>(integers, x_block, x.k, low, high);
      add_words<F, 1, R>(integers, x_block, x.k, low, high);
      add_words<F, 2, R>(integers, x_block, x.k, low, high);
      add_words<F, 3, R>(integers, x_block, x.k, low, high);
      scales[p].enter(b);
      const __m512 d = scales[p].scale(b, 0);
      for (int r = 0; r < R; ++r) {
        const __m512 dx = _mm512_set1_ps(x_scale[r * blocks + b]);
        __m512& sum = acc[p][r];
        if constexpr (F::kParts == 1) {
          sum = _mm512_fmadd_ps(_mm512_cvtepi32_ps(_mm512_add_epi32(low[r], high[r])), _mm512_mul_ps(d, dx), sum);
        } else {
          sum = _mm512_fmadd_ps(_mm512_cvtepi32_ps(low[r]), _mm512_mul_ps(d, dx), sum);
          sum = _mm512_fmadd_ps(_mm512_cvtepi32_ps(high[r]), _mm512_mul_ps(scales[p].scale(b, 1), dx), sum);
        }
        if constexpr (F::kMin) sum = _mm512_fmadd_ps(scales[p].min(b), _mm512_set1_ps(x_sum[r * blocks + b]), sum);
      }
    }
  }
  for (int p = 0; p < P; ++p) {
    for (int r = 0; r < R; ++r) store(job, row + r, first + p * apart, acc[p][r]);
  }
}

// R rows times all panels.
template <class F, int R>
void direct_rows(const PanelJob& job) {
  in_turns<R == 1 && !F::kBytes ? 4 : 2>(
      job, [&](int64_t first, int64_t apart, auto panels) { direct_tile<F, R, panels.value>(job, first, apart, 0); });
}

template <class F>
void direct(const PanelJob& job) {
  if (job.x->rows == 1) return direct_rows<F, 1>(job);
  if (job.x->rows == 2) return direct_rows<F, 2>(job);
  for (int64_t p = job.panel_begin; p < job.panel_end; ++p) {
    int64_t row = 0;
    for (; row + 4 <= job.x->rows; row += 4) direct_tile<F, 4, 1>(job, p, 0, row);
    switch (job.x->rows - row) {
      case 3: direct_tile<F, 3, 1>(job, p, 0, row); break;
      case 2: direct_tile<F, 2, 1>(job, p, 0, row); break;
      case 1: direct_tile<F, 1, 1>(job, p, 0, row); break;
      default: break;
    }
  }
}

}  // namespace

void quant_panels_avx512vnni(const PanelJob& job) {
  if (job.x->tiles) return quant_tiles_avx512vnni(job);
  if (job.x->wide_tiles) return quant_tiles_amx(job);
  for_format(job.segment->type, [&](auto format) { direct<decltype(format)>(job); });
}

}  // namespace wick::cpu

#endif
