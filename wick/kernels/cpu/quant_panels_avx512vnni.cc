// Quantised panels with VPDPBUSD: unsigned weight bytes times signed activation bytes, summed exactly in 32 bits.
//
// Two ways through the same arithmetic: few rows read the packed weights once and unpack in registers; from kGemmRows rows on, two
// panels are unpacked to bytes and f32 scales first (exactly: the format's own integers and scales) and a register-blocked product runs
// over them. Per output both do, for each block of 32 in ascending k:
//   acc = fma(float(sum), d_w * d_x, acc);   with minimums then: acc = fma(m_w, d_x * sum(q_x), acc)
// (for q6_k a sum and a product of each 16). d_w and m_w are exact: an f16, or its product with a scale of 6 or 8 bits.
#if defined(__x86_64__)

#include <immintrin.h>

#include <algorithm>
#include <cstdint>

#include "wick/kernels/cpu/panel_format.h"
#include "wick/kernels/cpu/panel_output.h"
#include "wick/kernels/cpu/panels.h"

#define WICK_VNNI __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,f16c,fma")))
#define WICK_VNNI_INLINE WICK_VNNI __attribute__((always_inline)) inline

namespace wick::cpu {
namespace {

constexpr int kGemmRows = 12;

WICK_VNNI_INLINE __m512 load_scales(const uint8_t* p) { return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))); }

WICK_VNNI_INLINE __m512i broadcast_word(const int8_t* p) {
  int32_t word;
  __builtin_memcpy(&word, p, 4);
  return _mm512_set1_epi32(word);
}

WICK_VNNI_INLINE __m512i load_words(const uint8_t* p) { return _mm512_loadu_si512(p); }

WICK_VNNI_INLINE __m512 byte_of(__m512i words, int64_t i) {
  return _mm512_cvtepi32_ps(_mm512_and_si512(_mm512_srli_epi32(words, static_cast<unsigned>(8 * i)), _mm512_set1_epi32(255)));
}

// The scales of a panel's blocks in ascending order.
template <class F>
class Scales {
 public:
  WICK_VNNI_INLINE explicit Scales(const uint8_t* scales) : scales_(scales) {}

  // To be called for every block before its scales are asked for.
  WICK_VNNI_INLINE void enter(int64_t b) {
    if constexpr (F::kFormat.scales == ScaleKind::kSuper) {
      if (b % kBlocksPerSuper != 0) return;
      const uint8_t* super = scales_ + b / kBlocksPerSuper * F::kScaleBytes;
      d_ = load_scales(super);
      m_ = _mm512_sub_ps(_mm512_setzero_ps(), load_scales(super + 32));
      const __m512i first = load_words(super + 64), second = load_words(super + 128), third = load_words(super + 192);
      const __m512i six = _mm512_set1_epi8(63), four = _mm512_set1_epi8(15), two = _mm512_set1_epi8(48);
      scale_words_[0] = _mm512_and_si512(first, six);
      min_words_[0] = _mm512_and_si512(second, six);
      scale_words_[1] = _mm512_or_si512(_mm512_and_si512(third, four), _mm512_and_si512(_mm512_srli_epi32(first, 2), two));
      min_words_[1] = _mm512_or_si512(_mm512_and_si512(_mm512_srli_epi32(third, 4), four), _mm512_and_si512(_mm512_srli_epi32(second, 2), two));
    } else if constexpr (F::kFormat.scales == ScaleKind::kSuper16) {
      if (b % kBlocksPerSuper == 0) d_ = load_scales(scales_ + b / kBlocksPerSuper * F::kScaleBytes + 256);
    }
  }

  WICK_VNNI_INLINE __m512 scale(int64_t b, int part) const {
    const int64_t i = b % kBlocksPerSuper;
    if constexpr (F::kFormat.scales == ScaleKind::kSuper) {
      return _mm512_mul_ps(d_, byte_of(scale_words_[i / 4], i % 4));
    } else if constexpr (F::kFormat.scales == ScaleKind::kSuper16) {
      const uint8_t* bytes = scales_ + b / kBlocksPerSuper * F::kScaleBytes + (2 * i + part) * kPanelRows;
      return _mm512_mul_ps(d_, _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(bytes)))));
    } else {
      return load_scales(scales_ + b * F::kScaleBytes);
    }
  }

  WICK_VNNI_INLINE __m512 min(int64_t b) const {
    if constexpr (F::kFormat.scales == ScaleKind::kSuper) {
      return _mm512_mul_ps(m_, byte_of(min_words_[b % kBlocksPerSuper / 4], b % 4));
    } else {
      return load_scales(scales_ + b * F::kScaleBytes + 32);
    }
  }

 private:
  const uint8_t* scales_;
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

WICK_VNNI_INLINE void store(const PanelJob& job, int64_t row, int64_t panel, __m512 sums) {
  const PanelRow out = output_row(job, row, panel);
  const __mmask16 mask = static_cast<__mmask16>((1u << out.columns) - 1u);
  if (out.bias) sums = _mm512_add_ps(sums, _mm512_maskz_loadu_ps(mask, out.bias));
  if (out.accumulate) sums = _mm512_add_ps(sums, _mm512_maskz_loadu_ps(mask, out.y));
  _mm512_mask_storeu_ps(out.y, mask, sums);
}

// sums += words kG of a block times R rows of x.
template <class F, int kG, int R>
WICK_VNNI_INLINE void add_words(const Integers<F>& integers, const int8_t* x, int64_t k, __m512i* low, __m512i* high) {
  const Words w = integers.template get<kG>();
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) {
    low[r] = _mm512_dpbusd_epi32(low[r], w.low, broadcast_word(x + r * k + 4 * kG));
    high[r] = _mm512_dpbusd_epi32(high[r], w.high, broadcast_word(x + r * k + 16 + 4 * kG));
  }
}

// R rows times one panel, unpacking on the way.
template <class F, int R>
WICK_VNNI void direct_tile(const PanelJob& job, const uint8_t* panel, int64_t panel_index, int64_t row) {
  const Activations& x = *job.x;
  const int64_t blocks = x.k / kQuantBlock;
  const int64_t stride = job.segment->panel_bytes / blocks;  // of a block with its scales
  const uint8_t* next_panel = panel + job.segment->panel_bytes;
  Scales<F> scales(panel + blocks * F::kBlockBytes);
  const int8_t* q = x.q + row * x.k;
  const int32_t* offsets = F::offsets(x) + row * blocks * F::kParts;
  const float* x_scale = x.scale + row * blocks;
  const float* x_sum = x.scaled_sum + row * blocks;
  __m512 acc[R];
  for (int r = 0; r < R; ++r) acc[r] = _mm512_setzero_ps();
  for (int64_t b = 0; b < blocks; ++b) {
    __m512i low[R], high[R];
    for (int r = 0; r < R; ++r) {
      const int32_t* offset = offsets + (r * blocks + b) * F::kParts;
      low[r] = F::kMin ? _mm512_setzero_si512() : _mm512_set1_epi32(offset[0]);
      high[r] = F::kParts == 2 ? _mm512_set1_epi32(offset[F::kParts - 1]) : _mm512_setzero_si512();
    }
    prefetch_panel_part<F>(next_panel + b * stride);
    const Integers<F> integers(panel + b * F::kBlockBytes);
    const int8_t* x_block = q + b * kQuantBlock;
    add_words<F, 0, R>(integers, x_block, x.k, low, high);
    add_words<F, 1, R>(integers, x_block, x.k, low, high);
    add_words<F, 2, R>(integers, x_block, x.k, low, high);
    add_words<F, 3, R>(integers, x_block, x.k, low, high);
    scales.enter(b);
    const __m512 d = scales.scale(b, 0);
    for (int r = 0; r < R; ++r) {
      const __m512 dx = _mm512_set1_ps(x_scale[r * blocks + b]);
      if constexpr (F::kParts == 1) {
        acc[r] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(_mm512_add_epi32(low[r], high[r])), _mm512_mul_ps(d, dx), acc[r]);
      } else {
        acc[r] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(low[r]), _mm512_mul_ps(d, dx), acc[r]);
        acc[r] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(high[r]), _mm512_mul_ps(scales.scale(b, 1), dx), acc[r]);
      }
      if constexpr (F::kMin) acc[r] = _mm512_fmadd_ps(scales.min(b), _mm512_set1_ps(x_sum[r * blocks + b]), acc[r]);
    }
  }
  for (int r = 0; r < R; ++r) store(job, row + r, panel_index, acc[r]);
}

template <class F>
void direct(const PanelJob& job) {
  for (int64_t p = job.panel_begin; p < job.panel_end; ++p) {
    const auto* panel = reinterpret_cast<const uint8_t*>(job.panels + p * job.segment->panel_bytes);
    int64_t row = 0;
    for (; row + 4 <= job.x->rows; row += 4) direct_tile<F, 4>(job, panel, p, row);
    switch (job.x->rows - row) {
      case 3: direct_tile<F, 3>(job, panel, p, row); break;
      case 2: direct_tile<F, 2>(job, panel, p, row); break;
      case 1: direct_tile<F, 1>(job, panel, p, row); break;
      default: break;
    }
  }
}

// A panel as bytes and f32 scales: [k/32][8][16][4] u8, then [k/32][kParts][16] f32 d, then with minimums [k/32][16] f32 m.
struct Unpacked {
  const uint8_t* q;
  const float* d;
  const float* m;
};

template <class F, int kG>
WICK_VNNI_INLINE void unpack_words(const Integers<F>& integers, uint8_t* q) {
  const Words w = integers.template get<kG>();
  _mm512_store_si512(q + kG * 64, w.low);
  _mm512_store_si512(q + 256 + kG * 64, w.high);
}

template <class F>
WICK_VNNI Unpacked unpack(const uint8_t* panel, int64_t blocks, std::byte* scratch) {
  auto* q = reinterpret_cast<uint8_t*>(scratch);
  auto* d = reinterpret_cast<float*>(scratch + blocks * 512);
  float* m = d + blocks * kPanelRows * F::kParts;
  Scales<F> scales(panel + blocks * F::kBlockBytes);
  for (int64_t b = 0; b < blocks; ++b) {
    scales.enter(b);
    for (int part = 0; part < F::kParts; ++part) _mm512_store_ps(d + (b * F::kParts + part) * kPanelRows, scales.scale(b, part));
    if constexpr (F::kMin) _mm512_store_ps(m + b * kPanelRows, scales.min(b));
    if constexpr (!F::kBytes) {
      const Integers<F> integers(panel + b * F::kBlockBytes);
      unpack_words<F, 0>(integers, q + b * 512);
      unpack_words<F, 1>(integers, q + b * 512);
      unpack_words<F, 2>(integers, q + b * 512);
      unpack_words<F, 3>(integers, q + b * 512);
    }
  }
  return {F::kBytes ? panel : q, d, m};
}

// R rows times P panels of unpacked weights.
template <class F, int R, int P>
WICK_VNNI void gemm_tile(const PanelJob& job, const Unpacked* panels, int64_t panel_index, int64_t row) {
  const Activations& x = *job.x;
  const int64_t blocks = x.k / kQuantBlock;
  const int8_t* q = x.q + row * x.k;
  const int32_t* offsets = F::offsets(x) + row * blocks * F::kParts;
  const float* x_scale = x.scale + row * blocks;
  const float* x_sum = x.scaled_sum + row * blocks;
  __m512 acc[R][P];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 2
    for (int p = 0; p < P; ++p) acc[r][p] = _mm512_setzero_ps();
  }
  for (int64_t b = 0; b < blocks; ++b) {
    __m512i sum[R][P];
#pragma GCC unroll 2
    for (int part = 0; part < F::kParts; ++part) {
      constexpr int kWords = 8 / F::kParts;
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) {
#pragma GCC unroll 2
        for (int p = 0; p < P; ++p) {
          sum[r][p] = F::kMin ? _mm512_setzero_si512() : _mm512_set1_epi32(offsets[(r * blocks + b) * F::kParts + part]);
        }
      }
#pragma GCC unroll 8
      for (int g = part * kWords; g < (part + 1) * kWords; ++g) {
        __m512i w[P];
#pragma GCC unroll 2
        for (int p = 0; p < P; ++p) w[p] = _mm512_loadu_si512(panels[p].q + b * 512 + g * 64);
#pragma GCC unroll 8
        for (int r = 0; r < R; ++r) {
          const __m512i a = broadcast_word(q + r * x.k + b * kQuantBlock + 4 * g);
#pragma GCC unroll 2
          for (int p = 0; p < P; ++p) sum[r][p] = _mm512_dpbusd_epi32(sum[r][p], w[p], a);
        }
      }
#pragma GCC unroll 2
      for (int p = 0; p < P; ++p) {
        const __m512 d = _mm512_loadu_ps(panels[p].d + (b * F::kParts + part) * kPanelRows);
#pragma GCC unroll 8
        for (int r = 0; r < R; ++r) {
          const __m512 scale = _mm512_mul_ps(d, _mm512_set1_ps(x_scale[r * blocks + b]));
          acc[r][p] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum[r][p]), scale, acc[r][p]);
        }
      }
    }
#pragma GCC unroll 2
    for (int p = 0; p < P; ++p) {
      if constexpr (F::kMin) {
        const __m512 m = _mm512_loadu_ps(panels[p].m + b * kPanelRows);
#pragma GCC unroll 8
        for (int r = 0; r < R; ++r) acc[r][p] = _mm512_fmadd_ps(m, _mm512_set1_ps(x_sum[r * blocks + b]), acc[r][p]);
      }
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 2
    for (int p = 0; p < P; ++p) store(job, row + r, panel_index + p, acc[r][p]);
  }
}

template <class F, int P>
void gemm_panels(const PanelJob& job, int64_t panel_index) {
  constexpr int kRows = 6;
  const int64_t blocks = job.x->k / kQuantBlock;
  Unpacked panels[P];
  for (int p = 0; p < P; ++p) {
    const auto* packed = reinterpret_cast<const uint8_t*>(job.panels + (panel_index + p) * job.segment->panel_bytes);
    panels[p] = unpack<F>(packed, blocks, job.scratch + p * (panel_scratch_bytes(job.x->k) / 2));
  }
  int64_t row = 0;
  for (; row + kRows <= job.x->rows; row += kRows) gemm_tile<F, kRows, P>(job, panels, panel_index, row);
  switch (job.x->rows - row) {
    case 5: gemm_tile<F, 5, P>(job, panels, panel_index, row); break;
    case 4: gemm_tile<F, 4, P>(job, panels, panel_index, row); break;
    case 3: gemm_tile<F, 3, P>(job, panels, panel_index, row); break;
    case 2: gemm_tile<F, 2, P>(job, panels, panel_index, row); break;
    case 1: gemm_tile<F, 1, P>(job, panels, panel_index, row); break;
    default: break;
  }
}

template <class F>
void run(const PanelJob& job) {
  if (job.x->rows < kGemmRows) return direct<F>(job);
  int64_t panel = job.panel_begin;
  for (; panel + 2 <= job.panel_end; panel += 2) gemm_panels<F, 2>(job, panel);
  if (panel < job.panel_end) gemm_panels<F, 1>(job, panel);
}

}  // namespace

void quant_panels_avx512vnni(const PanelJob& job) {
  for_format(job.segment->type, [&](auto format) { run<decltype(format)>(job); });
}

}  // namespace wick::cpu

#endif
