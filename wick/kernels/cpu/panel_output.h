// The end of a panel kernel: 16 sums become outputs, with bias and accumulation, the last panel cut to its real rows.
#pragma once

#include <algorithm>
#include <cstdint>

#include "wick/kernels/cpu/panels.h"

namespace wick::cpu {

// Stores sums[0..16) as row `row` of the outputs of panel `panel`.
inline void store_panel(const PanelJob& job, int64_t row, int64_t panel, const float* sums) {
  const int64_t column = panel * kPanelRows;
  const int64_t columns = std::min(kPanelRows, job.segment->rows - column);
  float* y = job.out.y + row * job.out.ldy + column;
  const float* bias = job.out.bias ? job.out.bias + column : nullptr;
  for (int64_t i = 0; i < columns; ++i) {
    float value = sums[i];
    if (bias) value += bias[i];
    if (job.out.accumulate) value += y[i];
    y[i] = value;
  }
}

}  // namespace wick::cpu
