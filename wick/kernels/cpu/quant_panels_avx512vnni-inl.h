// What the kernels of quantised panels with VPDPBUSD share: unsigned bytes times signed bytes, summed exactly in 32 bits.
//
// Per output all of them do, for each block of 32 in ascending k:
//   acc = fma(float(sum), d_w * d_x, acc);   with minimums then: acc = fma(m_w, d_x * sum(q_x), acc)
// (for q6_k a sum and a product of each 16). d_w and m_w are exact: an f16, or its product with a scale of 6 or 8 bits.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "wick/kernels/cpu/panel_format.h"
#include "wick/kernels/cpu/panel_output_avx512-inl.h"
#include "wick/kernels/cpu/panels.h"

#define WICK_VNNI __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,f16c,fma")))
#define WICK_VNNI_INLINE WICK_VNNI __attribute__((always_inline)) inline

namespace wick::cpu {
namespace {

WICK_VNNI_INLINE __m512 load_scales(const uint8_t* p) { return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))); }

WICK_VNNI_INLINE __m512i broadcast_word(const int8_t* p) {
  int32_t word;
  __builtin_memcpy(&word, p, 4);
  return _mm512_set1_epi32(word);
}

// sums += words times the four bytes at p, which the instruction itself repeats: g++ 12 makes two of it.
WICK_VNNI_INLINE __m512i add_products(__m512i sums, __m512i words, const int8_t* p) {
  using Word = int32_t __attribute__((may_alias, aligned(1)));
  asm("vpdpbusd %2%{1to16%}, %1, %0" : "+v"(sums) : "v"(words), "m"(*reinterpret_cast<const Word*>(p)));
  return sums;
}

WICK_VNNI_INLINE __m512i load_words(const uint8_t* p) { return _mm512_loadu_si512(p); }

WICK_VNNI_INLINE __m512 byte_of(__m512i words, int64_t i) {
  return _mm512_cvtepi32_ps(_mm512_and_si512(_mm512_srli_epi32(words, static_cast<unsigned>(8 * i)), _mm512_set1_epi32(255)));
}

// The scales of a panel's blocks in ascending order.
template <class F>
class Scales {
 public:
  Scales() = default;
  WICK_VNNI_INLINE explicit Scales(const uint8_t* panel) : panel_(panel) {}

  // To be called for every block before its scales are asked for.
  WICK_VNNI_INLINE void enter(int64_t b) {
    if constexpr (F::kFormat.scales == ScaleKind::kSuper) {
      if (b % kBlocksPerSuper != 0) return;
      const uint8_t* super = panel_ + F::scales_at(b);
      d_ = load_scales(super);
      m_ = _mm512_sub_ps(_mm512_setzero_ps(), load_scales(super + 32));
      const __m512i first = load_words(super + 64), second = load_words(super + 128), third = load_words(super + 192);
      const __m512i six = _mm512_set1_epi8(63), four = _mm512_set1_epi8(15), two = _mm512_set1_epi8(48);
      scale_words_[0] = _mm512_and_si512(first, six);
      min_words_[0] = _mm512_and_si512(second, six);
      scale_words_[1] = _mm512_or_si512(_mm512_and_si512(third, four), _mm512_and_si512(_mm512_srli_epi32(first, 2), two));
      min_words_[1] =
          _mm512_or_si512(_mm512_and_si512(_mm512_srli_epi32(third, 4), four), _mm512_and_si512(_mm512_srli_epi32(second, 2), two));
    } else if constexpr (F::kFormat.scales == ScaleKind::kSuper16) {
      if (b % kBlocksPerSuper == 0) d_ = load_scales(panel_ + F::scales_at(b) + 256);
    }
  }

  WICK_VNNI_INLINE __m512 scale(int64_t b, int part) const {
    const int64_t i = b % kBlocksPerSuper;
    if constexpr (F::kFormat.scales == ScaleKind::kSuper) {
      return _mm512_mul_ps(d_, byte_of(scale_words_[i / 4], i % 4));
    } else if constexpr (F::kFormat.scales == ScaleKind::kSuper16) {
      const uint8_t* bytes = panel_ + F::scales_at(b) + (2 * i + part) * kPanelRows;
      return _mm512_mul_ps(d_, _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(bytes)))));
    } else {
      return load_scales(panel_ + F::scales_at(b));
    }
  }

  WICK_VNNI_INLINE __m512 min(int64_t b) const {
    if constexpr (F::kFormat.scales == ScaleKind::kSuper) {
      return _mm512_mul_ps(m_, byte_of(min_words_[b % kBlocksPerSuper / 4], b % 4));
    } else {
      return load_scales(panel_ + F::scales_at(b) + 32);
    }
  }

 private:
  const uint8_t* panel_;
  __m512 d_ = {}, m_ = {};
  __m512i scale_words_[2] = {}, min_words_[2] = {};
};

// The integers of elements 4g .. 4g + 3 and 16 + 4g .. of a block.
struct Words {
  __m512i low, high;
};

template <class F>
class Integers {
 public:
  WICK_VNNI_INLINE explicit Integers(const uint8_t* block) : block_(block) {
    if constexpr (F::kHighBits > 0) low_bits_ = load_words(block + 256);
    if constexpr (F::kHighBits > 1) high_bits_ = load_words(block + 320);
  }

  template <int kG>
  WICK_VNNI_INLINE Words get() const {
    const __m512i first = load_words(block_ + kG * 64);
    if constexpr (F::kBytes) return {first, load_words(block_ + 256 + kG * 64)};
    const __m512i nibble = _mm512_set1_epi8(15);
    Words words = {_mm512_and_si512(first, nibble), _mm512_and_si512(_mm512_srli_epi16(first, 4), nibble)};
    // What a shift brings over from the byte beside lies outside of the masks.
    if constexpr (F::kHighBits == 1) {
      const __m512i fifth = _mm512_set1_epi8(16);
      words.low = _mm512_or_si512(words.low, _mm512_and_si512(_mm512_slli_epi32(low_bits_, 4 - kG), fifth));
      words.high = _mm512_or_si512(words.high, _mm512_and_si512(_mm512_srli_epi32(low_bits_, kG), fifth));
    } else if constexpr (F::kHighBits == 2) {
      words.low = _mm512_or_si512(words.low, upper_two<kG>(low_bits_));
      words.high = _mm512_or_si512(words.high, upper_two<kG>(high_bits_));
    }
    return words;
  }

 private:
  template <int kG>
  WICK_VNNI_INLINE static __m512i upper_two(__m512i bits) {
    const __m512i moved = kG < 2 ? _mm512_slli_epi32(bits, kG < 2 ? 4 - 2 * kG : 0) : _mm512_srli_epi32(bits, kG < 2 ? 0 : 2 * kG - 4);
    return _mm512_and_si512(moved, _mm512_set1_epi8(48));
  }

  const uint8_t* block_;
  __m512i low_bits_ = {}, high_bits_ = {};
};

}  // namespace
}  // namespace wick::cpu
