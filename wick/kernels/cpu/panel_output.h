// The end of a panel kernel: 16 sums become outputs, with bias and accumulation, the last panel cut to its real rows.
#pragma once

#include <algorithm>
#include <cstdint>

#include "wick/kernels/cpu/panels.h"
#include "wick/tensor/half.h"

namespace wick::cpu {

// Row `row` of the outputs of `panel`: 16 sums are added to what is there, to a bias, or put down, in one type or the other.
struct PanelRow {
  float* y;
  uint16_t* y_bf16;
  int64_t columns;  // of the 16 that exist
  const float* bias;
  bool accumulate;
};

inline PanelRow output_row(const PanelJob& job, int64_t row, int64_t panel) {
  const int64_t column = panel * kPanelRows;
  const int64_t columns = std::min(kPanelRows, job.segment->rows - column);
  const bool remainder = row >= job.out.rows;
  const int64_t at = (remainder ? row - job.out.rows : row) * job.out.ldy + column;
  float* const y = job.out.y ? job.out.y + at : nullptr;
  uint16_t* const y_bf16 = job.out.y_bf16 ? job.out.y_bf16 + at : nullptr;
  return {y, y_bf16, columns, job.out.bias && !remainder ? job.out.bias + column : nullptr, job.out.accumulate || remainder};
}

inline void store_panel(const PanelJob& job, int64_t row, int64_t panel, const float* sums) {
  const PanelRow out = output_row(job, row, panel);
  if (out.y_bf16) {
    for (int64_t i = 0; i < out.columns; ++i) out.y_bf16[i] = f32_to_bf16(out.bias ? sums[i] + out.bias[i] : sums[i]);
    return;
  }
  for (int64_t i = 0; i < out.columns; ++i) {
    float value = sums[i];
    if (out.bias) value += out.bias[i];
    if (out.accumulate) value += out.y[i];
    out.y[i] = value;
  }
}

}  // namespace wick::cpu
