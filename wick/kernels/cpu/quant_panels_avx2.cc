// Quantised panels with AVX2: VPMADDUBSW and VPMADDWD instead of VPDPBUSD, two vectors of 8 rows per panel. Also the path of AVX-512
// machines without VNNI. Integer sums are exact and the f32 chain per output is the one of the VNNI kernel, so both give the same bits.
#if defined(__x86_64__)

#include <immintrin.h>

#include <algorithm>
#include <cstdint>

#include "wick/kernels/cpu/panel_format.h"
#include "wick/kernels/cpu/panel_output.h"
#include "wick/kernels/cpu/panels.h"

#define WICK_AVX2 __attribute__((target("avx2,f16c,fma")))
#define WICK_AVX2_INLINE WICK_AVX2 __attribute__((always_inline)) inline

namespace wick::cpu {
namespace {

WICK_AVX2_INLINE __m256 load_scales(const uint8_t* p) { return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))); }

WICK_AVX2_INLINE __m256i load(const uint8_t* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }

WICK_AVX2_INLINE __m256i broadcast_word(const int8_t* p) {
  int32_t word;
  __builtin_memcpy(&word, p, 4);
  return _mm256_set1_epi32(word);
}

// The sums of pairs of 16-bit lanes.
WICK_AVX2_INLINE __m256i widen_sums(__m256i sums) { return _mm256_madd_epi16(sums, _mm256_set1_epi16(1)); }

// sum + the dot products of 4 bytes, stored as value + 128, with 4 signed ones, per 32-bit lane. |w| <= 128 and |x| <= 127, so
// 2 * 128 * 127 fits 16 bits.
WICK_AVX2_INLINE __m256i dot_bytes(__m256i sum, __m256i weights, __m256i x) {
  const __m256i w = _mm256_xor_si256(weights, _mm256_set1_epi8(-128));
  return _mm256_add_epi32(sum, widen_sums(_mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(x, w))));
}

// The scales of 8 rows of a panel's blocks in ascending order.
template <class F>
class Scales {
 public:
  Scales() = default;
  WICK_AVX2_INLINE Scales(const uint8_t* panel, int64_t half) : panel_(panel), half_(half) {}

  // To be called for every block before its scales are asked for.
  WICK_AVX2_INLINE void enter(int64_t b) {
    if constexpr (F::kFormat.scales == ScaleKind::kSuper) {
      if (b % kBlocksPerSuper != 0) return;
      const uint8_t* super = panel_ + F::scales_at(b);
      d_ = load_scales(super + half_ * 16);
      m_ = _mm256_sub_ps(_mm256_setzero_ps(), load_scales(super + 32 + half_ * 16));
      const uint8_t* words = super + 64 + half_ * 32;
      const __m256i first = load(words), second = load(words + 64), third = load(words + 128);
      const __m256i six = _mm256_set1_epi8(63), four = _mm256_set1_epi8(15), two = _mm256_set1_epi8(48);
      scale_words_[0] = _mm256_and_si256(first, six);
      min_words_[0] = _mm256_and_si256(second, six);
      scale_words_[1] = _mm256_or_si256(_mm256_and_si256(third, four), _mm256_and_si256(_mm256_srli_epi32(first, 2), two));
      min_words_[1] =
          _mm256_or_si256(_mm256_and_si256(_mm256_srli_epi32(third, 4), four), _mm256_and_si256(_mm256_srli_epi32(second, 2), two));
    } else if constexpr (F::kFormat.scales == ScaleKind::kSuper16) {
      if (b % kBlocksPerSuper == 0) d_ = load_scales(panel_ + F::scales_at(b) + 256 + half_ * 16);
    }
  }

  WICK_AVX2_INLINE __m256 scale(int64_t b, int part) const {
    const int64_t i = b % kBlocksPerSuper;
    if constexpr (F::kFormat.scales == ScaleKind::kSuper) {
      return _mm256_mul_ps(d_, byte_of(scale_words_[i / 4], i % 4));
    } else if constexpr (F::kFormat.scales == ScaleKind::kSuper16) {
      const uint8_t* bytes = panel_ + F::scales_at(b) + (2 * i + part) * kPanelRows + half_ * 8;
      return _mm256_mul_ps(d_, _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(bytes)))));
    } else {
      return load_scales(panel_ + F::scales_at(b) + half_ * 16);
    }
  }

  WICK_AVX2_INLINE __m256 min(int64_t b) const {
    if constexpr (F::kFormat.scales == ScaleKind::kSuper) {
      return _mm256_mul_ps(m_, byte_of(min_words_[b % kBlocksPerSuper / 4], b % 4));
    } else {
      return load_scales(panel_ + F::scales_at(b) + 32 + half_ * 16);
    }
  }

 private:
  WICK_AVX2_INLINE static __m256 byte_of(__m256i words, int64_t i) {
    return _mm256_cvtepi32_ps(_mm256_and_si256(_mm256_srli_epi32(words, static_cast<int>(8 * i)), _mm256_set1_epi32(255)));
  }

  const uint8_t* panel_;
  int64_t half_;
  __m256 d_ = {}, m_ = {};
  __m256i scale_words_[2] = {}, min_words_[2] = {};
};

// Integer sums of a block, of 8 rows of a panel and R of x: of all elements in low, with a scale for each half of them in low and high.
template <int R>
struct BlockSums {
  __m256i low[R], high[R];
};

template <int R>
WICK_AVX2_INLINE BlockSums<R> sum_bytes(const uint8_t* weights, const int8_t* x, int64_t k) {
  BlockSums<R> sums;
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) sums.low[r] = _mm256_setzero_si256();
#pragma GCC unroll 8
  for (int g = 0; g < 8; ++g) {
    const __m256i words = load(weights + g * 64);
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) sums.low[r] = dot_bytes(sums.low[r], words, broadcast_word(x + r * k + 4 * g));
  }
  return sums;
}

// Elements 4g .. 4g + 3 and 16 + 4g .. of 8 rows.
struct Words {
  __m256i first, second;
};

template <class F, int kG>
WICK_AVX2_INLINE Words words_of(const uint8_t* weights) {
  const __m256i packed = load(weights + kG * 64);
  const __m256i nibble = _mm256_set1_epi8(15);
  Words words = {_mm256_and_si256(packed, nibble), _mm256_and_si256(_mm256_srli_epi16(packed, 4), nibble)};
  // What a shift brings over from the byte beside lies outside of the masks.
  if constexpr (F::kHighBits == 1) {
    const __m256i bits = load(weights + 256), fifth = _mm256_set1_epi8(16);
    words.first = _mm256_or_si256(words.first, _mm256_and_si256(_mm256_slli_epi32(bits, 4 - kG), fifth));
    words.second = _mm256_or_si256(words.second, _mm256_and_si256(_mm256_srli_epi32(bits, kG), fifth));
  } else if constexpr (F::kHighBits == 2) {
    constexpr int kLeft = kG < 2 ? 4 - 2 * kG : 0, kRight = kG < 2 ? 0 : 2 * kG - 4;
    const __m256i two = _mm256_set1_epi8(48);
    words.first =
        _mm256_or_si256(words.first, _mm256_and_si256(_mm256_srli_epi32(_mm256_slli_epi32(load(weights + 256), kLeft), kRight), two));
    words.second =
        _mm256_or_si256(words.second, _mm256_and_si256(_mm256_srli_epi32(_mm256_slli_epi32(load(weights + 320), kLeft), kRight), two));
  }
  return words;
}

// Adds words kG to 16-bit sums, or starts them.
template <class F, int kG, bool kStart, int R>
WICK_AVX2_INLINE void add_words(const uint8_t* weights, const int8_t* x, int64_t k, __m256i* low, __m256i* high) {
  const Words w = words_of<F, kG>(weights);
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) {
    const __m256i first = _mm256_maddubs_epi16(w.first, broadcast_word(x + r * k + 4 * kG));
    const __m256i second = _mm256_maddubs_epi16(w.second, broadcast_word(x + r * k + 16 + 4 * kG));
    low[r] = kStart ? first : _mm256_add_epi16(low[r], first);
    if constexpr (F::kParts == 2) {
      high[r] = kStart ? second : _mm256_add_epi16(high[r], second);
    } else {
      low[r] = _mm256_add_epi16(low[r], second);
    }
  }
}

// A pair of products is at most 2 * 127 times the largest weight, so 16 bits hold the sum of a whole block of four bits (8 pairs), of
// half of one of five (4), and of a quarter of one of six (2).
template <class F, int R>
WICK_AVX2_INLINE BlockSums<R> sum_words(const uint8_t* weights, const int8_t* x, int64_t k) {
  constexpr bool kHalves = F::kHighBits > 0;
  static_assert(((16 << F::kHighBits) - 1) * 2 * 127 * (kHalves ? 4 / F::kParts : 8) <= 32767);
  BlockSums<R> sums;
  __m256i low[R], high[R];
  add_words<F, 0, true, R>(weights, x, k, low, high);
  add_words<F, 1, false, R>(weights, x, k, low, high);
  if constexpr (kHalves) {
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) {
      sums.low[r] = widen_sums(low[r]);
      if constexpr (F::kParts == 2) sums.high[r] = widen_sums(high[r]);
    }
  }
  add_words<F, 2, kHalves, R>(weights, x, k, low, high);
  add_words<F, 3, false, R>(weights, x, k, low, high);
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) {
    sums.low[r] = kHalves ? _mm256_add_epi32(sums.low[r], widen_sums(low[r])) : widen_sums(low[r]);
    if constexpr (F::kParts == 2) sums.high[r] = _mm256_add_epi32(sums.high[r], widen_sums(high[r]));
  }
  return sums;
}

// R rows times P panels, so many panels apart.
template <class F, int R, int P>
WICK_AVX2 void tile(const PanelJob& job, int64_t first, int64_t apart, int64_t row) {
  const Activations& x = *job.x;
  const int64_t blocks = x.k / kQuantBlock, step = apart * job.segment->panel_bytes;
  const auto* panel = reinterpret_cast<const uint8_t*>(job.panels + first * job.segment->panel_bytes);
  const Ahead<F> ahead(panel, job.segment->panel_bytes);
  float out[P][R][kPanelRows];
  for (int half = 0; half < 2; ++half) {
    Scales<F> scales[P];
    __m256 acc[P][R];
#pragma GCC unroll 2
    for (int p = 0; p < P; ++p) {
      scales[p] = Scales<F>(panel + p * step, half);
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r) acc[p][r] = _mm256_setzero_ps();
    }
    for (int64_t b = 0; b < blocks; ++b) {
#pragma GCC unroll 2
      for (int p = 0; p < P; ++p) {
        if (R <= 2 && half == 0) ahead.ask(b, p * step);  // with more rows it costs registers that they need
        const uint8_t* weights = panel + p * step + F::integers_at(b) + half * 32;
        const int8_t* q = x.q + row * x.k + b * kQuantBlock;
        BlockSums<R> sums;
        if constexpr (F::kBytes) {
          sums = sum_bytes<R>(weights, q, x.k);
        } else {
          sums = sum_words<F, R>(weights, q, x.k);
        }
        if constexpr (!F::kMin && !F::kBytes) {
#pragma GCC unroll 4
          for (int r = 0; r < R; ++r) {
            const int32_t* offset = F::offsets(x) + ((row + r) * blocks + b) * F::kParts;
            sums.low[r] = _mm256_add_epi32(sums.low[r], _mm256_set1_epi32(offset[0]));
            if constexpr (F::kParts == 2) sums.high[r] = _mm256_add_epi32(sums.high[r], _mm256_set1_epi32(offset[1]));
          }
        }
        scales[p].enter(b);
        const __m256 d = scales[p].scale(b, 0);
#pragma GCC unroll 4
        for (int r = 0; r < R; ++r) {
          const __m256 dx = _mm256_set1_ps(x.scale[(row + r) * blocks + b]);
          __m256& sum = acc[p][r];
          sum = _mm256_fmadd_ps(_mm256_cvtepi32_ps(sums.low[r]), _mm256_mul_ps(d, dx), sum);
          if constexpr (F::kParts == 2)
            sum = _mm256_fmadd_ps(_mm256_cvtepi32_ps(sums.high[r]), _mm256_mul_ps(scales[p].scale(b, 1), dx), sum);
          if constexpr (F::kMin) sum = _mm256_fmadd_ps(scales[p].min(b), _mm256_set1_ps(x.scaled_sum[(row + r) * blocks + b]), sum);
        }
      }
    }
#pragma GCC unroll 2
    for (int p = 0; p < P; ++p) {
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r) _mm256_storeu_ps(out[p][r] + half * 8, acc[p][r]);
    }
  }
  for (int p = 0; p < P; ++p) {
    for (int r = 0; r < R; ++r) store_panel(job, row + r, first + p * apart, out[p][r]);
  }
}

// R rows times all panels.
template <class F, int R>
void few_rows(const PanelJob& job) {
  in_turns<2>(job, [&](int64_t first, int64_t apart, auto panels) { tile<F, R, panels.value>(job, first, apart, 0); });
}

template <class F>
void run(const PanelJob& job) {
  if (job.x->rows == 1) return few_rows<F, 1>(job);
  if (job.x->rows == 2) return few_rows<F, 2>(job);
  for (int64_t p = job.panel_begin; p < job.panel_end; ++p) {
    int64_t row = 0;
    for (; row + 4 <= job.x->rows; row += 4) tile<F, 4, 1>(job, p, 0, row);
    switch (job.x->rows - row) {
      case 3: tile<F, 3, 1>(job, p, 0, row); break;
      case 2: tile<F, 2, 1>(job, p, 0, row); break;
      case 1: tile<F, 1, 1>(job, p, 0, row); break;
      default: break;
    }
  }
}

}  // namespace

void quant_panels_avx2(const PanelJob& job) {
  for_format(job.segment->type, [&](auto format) { run<decltype(format)>(job); });
}

}  // namespace wick::cpu

#endif
