// store_panel() for 16 sums in a vector.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "wick/kernels/cpu/panel_output.h"

namespace wick::cpu {
namespace {

#define WICK_STORE __attribute__((target("avx512f"), always_inline)) inline

// As f32_to_bf16(), which keeps subnormal numbers; the processor's own conversion makes them zero.
WICK_STORE __m256i to_bf16(__m512 values) {
  const __m512i bits = _mm512_castps_si512(values);
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
  __m512i rounded = _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff)), odd);
  rounded = _mm512_mask_or_epi32(rounded, _mm512_cmp_ps_mask(values, values, _CMP_UNORD_Q), bits, _mm512_set1_epi32(0x00400000));
  return _mm512_cvtepi32_epi16(_mm512_srli_epi32(rounded, 16));
}

WICK_STORE void store(const PanelJob& job, int64_t row, int64_t panel, __m512 sums) {
  const PanelRow out = output_row(job, row, panel);
  const __mmask16 mask = static_cast<__mmask16>((1u << out.columns) - 1u);
  if (out.bias) sums = _mm512_add_ps(sums, _mm512_maskz_loadu_ps(mask, out.bias));
  if (out.y_bf16) {
    alignas(32) uint16_t values[kPanelRows];
    const bool whole = out.columns == kPanelRows;
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(whole ? out.y_bf16 : values), to_bf16(sums));
    if (!whole) __builtin_memcpy(out.y_bf16, values, static_cast<size_t>(out.columns) * sizeof(uint16_t));
    return;
  }
  if (out.accumulate) sums = _mm512_add_ps(sums, _mm512_maskz_loadu_ps(mask, out.y));
  _mm512_mask_storeu_ps(out.y, mask, sums);
}

#undef WICK_STORE

}  // namespace
}  // namespace wick::cpu
