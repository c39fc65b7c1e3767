// Quantised panels with VPDPBUSD: unsigned weight bytes times signed activation bytes, summed exactly in 32 bits.
//
// Two ways through the same arithmetic: few rows read the packed weights once and unpack in registers; from kGemmRows rows on, two
// panels are unpacked to bytes and f32 scales first (exactly: the format's own integers and scales) and a register-blocked product runs
// over them. Per output both do, for each block of 32 in ascending k:
//   acc = fma(float(sum), d_w * d_x, acc);   q4_1 then: acc = fma(m_w, d_x * sum(q_x), acc)
#if defined(__x86_64__)

#include <immintrin.h>

#include <algorithm>
#include <cstdint>

#include "wick/kernels/cpu/panel_output.h"
#include "wick/kernels/cpu/panels.h"

#define WICK_VNNI __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,f16c,fma")))
#define WICK_VNNI_INLINE WICK_VNNI __attribute__((always_inline)) inline

namespace wick::cpu {
namespace {

constexpr int kGemmRows = 12;

struct Q4_0 {
  static constexpr bool kNibbles = true, kMin = false;
  static const int32_t* offsets(const Activations& x) { return x.minus_8_sum; }
};
struct Q4_1 {
  static constexpr bool kNibbles = true, kMin = true;
  static const int32_t* offsets(const Activations& x) { return x.minus_8_sum; }  // not used
};
struct Q8_0 {
  static constexpr bool kNibbles = false, kMin = false;
  static const int32_t* offsets(const Activations& x) { return x.minus_128_sum; }
};

template <class F>
constexpr int64_t kBlockBytes = F::kNibbles ? 256 : 512;
template <class F>
constexpr int64_t kScaleBytes = F::kMin ? 64 : 32;

WICK_VNNI_INLINE __m512 load_scales(const uint8_t* p) { return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))); }

WICK_VNNI_INLINE __m512i broadcast_word(const int8_t* p) {
  int32_t word;
  __builtin_memcpy(&word, p, 4);
  return _mm512_set1_epi32(word);
}

WICK_VNNI_INLINE void store(const PanelJob& job, int64_t row, int64_t panel, __m512 sums) {
  const PanelRow out = output_row(job, row, panel);
  const __mmask16 mask = static_cast<__mmask16>((1u << out.columns) - 1u);
  if (out.bias) sums = _mm512_add_ps(sums, _mm512_maskz_loadu_ps(mask, out.bias));
  if (out.accumulate) sums = _mm512_add_ps(sums, _mm512_maskz_loadu_ps(mask, out.y));
  _mm512_mask_storeu_ps(out.y, mask, sums);
}

// R rows times one panel, unpacking on the way.
template <class F, int R>
WICK_VNNI void direct_tile(const PanelJob& job, const uint8_t* panel, int64_t panel_index, int64_t row) {
  const Activations& x = *job.x;
  const int64_t blocks = x.k / kQuantBlock;
  const uint8_t* scales = panel + blocks * kBlockBytes<F>;
  const int8_t* q = x.q + row * x.k;
  const int32_t* offsets = F::offsets(x) + row * blocks;
  const float* x_scale = x.scale + row * blocks;
  const float* x_sum = x.scaled_sum + row * blocks;
  const __m512i low_bits = _mm512_set1_epi8(15);
  __m512 acc[R];
  for (int r = 0; r < R; ++r) acc[r] = _mm512_setzero_ps();
  for (int64_t b = 0; b < blocks; ++b) {
    __m512i even[R], odd[R];
    for (int r = 0; r < R; ++r) {
      even[r] = F::kMin ? _mm512_setzero_si512() : _mm512_set1_epi32(offsets[r * blocks + b]);
      odd[r] = _mm512_setzero_si512();
    }
    const uint8_t* weights = panel + b * kBlockBytes<F>;
#pragma GCC unroll 4
    for (int g = 0; g < 4; ++g) {
      const __m512i first = _mm512_loadu_si512(weights + g * 64);
      __m512i low, high;
      if constexpr (F::kNibbles) {
        low = _mm512_and_si512(first, low_bits);
        high = _mm512_and_si512(_mm512_srli_epi16(first, 4), low_bits);
      } else {
        low = first;
        high = _mm512_loadu_si512(weights + 256 + g * 64);
      }
      for (int r = 0; r < R; ++r) {
        const int8_t* block = q + r * x.k + b * kQuantBlock + 4 * g;
        even[r] = _mm512_dpbusd_epi32(even[r], low, broadcast_word(block));
        odd[r] = _mm512_dpbusd_epi32(odd[r], high, broadcast_word(block + 16));
      }
    }
    const __m512 d = load_scales(scales + b * kScaleBytes<F>);
    for (int r = 0; r < R; ++r) {
      const __m512 sum = _mm512_cvtepi32_ps(_mm512_add_epi32(even[r], odd[r]));
      acc[r] = _mm512_fmadd_ps(sum, _mm512_mul_ps(d, _mm512_set1_ps(x_scale[r * blocks + b])), acc[r]);
      if constexpr (F::kMin) {
        acc[r] = _mm512_fmadd_ps(load_scales(scales + b * 64 + 32), _mm512_set1_ps(x_sum[r * blocks + b]), acc[r]);
      }
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

// A panel as bytes and f32 scales: [k/32][8][16][4] u8, then [k/32][16] f32 d, then for q4_1 [k/32][16] f32 m.
struct Unpacked {
  const uint8_t* q;
  const float* d;
  const float* m;
};

template <class F>
WICK_VNNI Unpacked unpack(const uint8_t* panel, int64_t blocks, std::byte* scratch) {
  auto* q = reinterpret_cast<uint8_t*>(scratch);
  auto* d = reinterpret_cast<float*>(scratch + blocks * 512);
  float* m = d + blocks * kPanelRows;
  const uint8_t* scales = panel + blocks * kBlockBytes<F>;
  const __m512i low_bits = _mm512_set1_epi8(15);
  for (int64_t b = 0; b < blocks; ++b) {
    _mm512_store_ps(d + b * kPanelRows, load_scales(scales + b * kScaleBytes<F>));
    if constexpr (F::kMin) _mm512_store_ps(m + b * kPanelRows, load_scales(scales + b * 64 + 32));
    if constexpr (F::kNibbles) {
      for (int g = 0; g < 4; ++g) {
        const __m512i packed = _mm512_loadu_si512(panel + b * 256 + g * 64);
        _mm512_store_si512(q + b * 512 + g * 64, _mm512_and_si512(packed, low_bits));
        _mm512_store_si512(q + b * 512 + 256 + g * 64, _mm512_and_si512(_mm512_srli_epi16(packed, 4), low_bits));
      }
    }
  }
  return {F::kNibbles ? q : panel, d, m};
}

// R rows times P panels of unpacked weights.
template <class F, int R, int P>
WICK_VNNI void gemm_tile(const PanelJob& job, const Unpacked* panels, int64_t panel_index, int64_t row) {
  const Activations& x = *job.x;
  const int64_t blocks = x.k / kQuantBlock;
  const int8_t* q = x.q + row * x.k;
  const int32_t* offsets = F::offsets(x) + row * blocks;
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
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 2
      for (int p = 0; p < P; ++p) sum[r][p] = F::kMin ? _mm512_setzero_si512() : _mm512_set1_epi32(offsets[r * blocks + b]);
    }
#pragma GCC unroll 8
    for (int g = 0; g < 8; ++g) {
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
      const __m512 d = _mm512_loadu_ps(panels[p].d + b * kPanelRows);
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) {
        const __m512 scale = _mm512_mul_ps(d, _mm512_set1_ps(x_scale[r * blocks + b]));
        acc[r][p] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum[r][p]), scale, acc[r][p]);
      }
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
  switch (job.segment->type) {
    case DType::kQ4_0: return run<Q4_0>(job);
    case DType::kQ4_1: return run<Q4_1>(job);
    default: return run<Q8_0>(job);
  }
}

}  // namespace wick::cpu

#endif
