// store_panel() for 16 sums in a vector.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "wick/kernels/cpu/panel_output.h"

namespace wick::cpu {
namespace {

__attribute__((target("avx512f"), always_inline)) inline void store(const PanelJob& job, int64_t row, int64_t panel, __m512 sums) {
  const PanelRow out = output_row(job, row, panel);
  const __mmask16 mask = static_cast<__mmask16>((1u << out.columns) - 1u);
  if (out.bias) sums = _mm512_add_ps(sums, _mm512_maskz_loadu_ps(mask, out.bias));
  if (out.accumulate) sums = _mm512_add_ps(sums, _mm512_maskz_loadu_ps(mask, out.y));
  _mm512_mask_storeu_ps(out.y, mask, sums);
}

}  // namespace
}  // namespace wick::cpu
