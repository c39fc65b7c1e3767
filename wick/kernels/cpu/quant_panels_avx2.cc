// Quantised panels with AVX2: VPMADDUBSW and VPMADDWD instead of VPDPBUSD, two vectors of 8 rows per panel. Also the path of AVX-512
// machines without VNNI. Integer sums are exact and the f32 chain per output is the one of the VNNI kernel, so both give the same bits.
#if defined(__x86_64__)

#include <immintrin.h>

#include <algorithm>
#include <cstdint>

#include "wick/kernels/cpu/panel_output.h"
#include "wick/kernels/cpu/panels.h"

#define WICK_AVX2 __attribute__((target("avx2,f16c,fma")))
#define WICK_AVX2_INLINE WICK_AVX2 __attribute__((always_inline)) inline

namespace wick::cpu {
namespace {

enum class Format { kQ4_0, kQ4_1, kQ8_0 };

template <Format F>
constexpr int64_t kBlockBytes = F == Format::kQ8_0 ? 512 : 256;
template <Format F>
constexpr int64_t kScaleBytes = F == Format::kQ4_1 ? 64 : 32;

WICK_AVX2_INLINE __m256 load_scales(const uint8_t* p) { return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))); }

WICK_AVX2_INLINE __m256i load(const uint8_t* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }

WICK_AVX2_INLINE __m256i broadcast_word(const int8_t* p) {
  int32_t word;
  __builtin_memcpy(&word, p, 4);
  return _mm256_set1_epi32(word);
}

// sum + the dot products of 4 unsigned bytes (at most 15) with 4 signed ones, per 32-bit lane. 2 * 15 * 127 fits 16 bits.
WICK_AVX2_INLINE __m256i dot_nibbles(__m256i sum, __m256i weights, __m256i x) {
  return _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_maddubs_epi16(weights, x), _mm256_set1_epi16(1)));
}

// The same for signed weights stored as value + 128. |w| <= 128 and |x| <= 127, so 2 * 128 * 127 fits 16 bits.
WICK_AVX2_INLINE __m256i dot_bytes(__m256i sum, __m256i weights, __m256i x) {
  const __m256i w = _mm256_xor_si256(weights, _mm256_set1_epi8(-128));
  return _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(x, w)), _mm256_set1_epi16(1)));
}

// The integer sums of one block for one half (8 rows) of a panel and R rows of x.
template <Format F, int R>
WICK_AVX2_INLINE void block_sums(const uint8_t* weights, const int8_t* x, int64_t k, __m256i* sums) {
#pragma GCC unroll 4
  for (int g = 0; g < 4; ++g) {
    if constexpr (F == Format::kQ8_0) {
      const __m256i low = load(weights + g * 64);
      const __m256i high = load(weights + 256 + g * 64);
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r) {
        sums[r] = dot_bytes(sums[r], low, broadcast_word(x + r * k + 4 * g));
        sums[r] = dot_bytes(sums[r], high, broadcast_word(x + r * k + 16 + 4 * g));
      }
    } else {
      const __m256i packed = load(weights + g * 64);
      const __m256i mask = _mm256_set1_epi8(15);
      const __m256i low = _mm256_and_si256(packed, mask);
      const __m256i high = _mm256_and_si256(_mm256_srli_epi16(packed, 4), mask);
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r) {
        sums[r] = dot_nibbles(sums[r], low, broadcast_word(x + r * k + 4 * g));
        sums[r] = dot_nibbles(sums[r], high, broadcast_word(x + r * k + 16 + 4 * g));
      }
    }
  }
}

// R rows times one panel.
template <Format F, int R>
WICK_AVX2 void tile(const PanelJob& job, const uint8_t* panel, int64_t panel_index, int64_t row) {
  const Activations& x = *job.x;
  const int64_t blocks = x.k / kQuantBlock;
  const uint8_t* scales = panel + blocks * kBlockBytes<F>;
  float out[R][kPanelRows];
  for (int half = 0; half < 2; ++half) {
    __m256 acc[R];
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) acc[r] = _mm256_setzero_ps();
    for (int64_t b = 0; b < blocks; ++b) {
      __m256i sums[R];
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r) sums[r] = _mm256_set1_epi32(F == Format::kQ4_0 ? x.minus_8_sum[(row + r) * blocks + b] : 0);
      block_sums<F, R>(panel + b * kBlockBytes<F> + half * 32, x.q + row * x.k + b * kQuantBlock, x.k, sums);
      const __m256 d = load_scales(scales + b * kScaleBytes<F> + half * 16);
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r) {
        const __m256 scale = _mm256_mul_ps(d, _mm256_set1_ps(x.scale[(row + r) * blocks + b]));
        acc[r] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(sums[r]), scale, acc[r]);
        if constexpr (F == Format::kQ4_1) {
          const __m256 m = load_scales(scales + b * 64 + 32 + half * 16);
          acc[r] = _mm256_fmadd_ps(m, _mm256_set1_ps(x.scaled_sum[(row + r) * blocks + b]), acc[r]);
        }
      }
    }
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) _mm256_storeu_ps(out[r] + half * 8, acc[r]);
  }
  for (int r = 0; r < R; ++r) store_panel(job, row + r, panel_index, out[r]);
}

template <Format F>
void run(const PanelJob& job) {
  for (int64_t p = job.panel_begin; p < job.panel_end; ++p) {
    const auto* panel = reinterpret_cast<const uint8_t*>(job.panels + p * job.segment->panel_bytes);
    int64_t row = 0;
    for (; row + 4 <= job.x->rows; row += 4) tile<F, 4>(job, panel, p, row);
    for (; row < job.x->rows; ++row) tile<F, 1>(job, panel, p, row);
  }
}

}  // namespace

void quant_panels_avx2(const PanelJob& job) {
  switch (job.segment->type) {
    case DType::kQ4_0: return run<Format::kQ4_0>(job);
    case DType::kQ4_1: return run<Format::kQ4_1>(job);
    default: return run<Format::kQ8_0>(job);
  }
}

}  // namespace wick::cpu

#endif
