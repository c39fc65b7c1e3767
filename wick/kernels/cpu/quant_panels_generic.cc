// Quantised panels in plain loops over the 16 lanes, which compilers turn into whatever vectors the baseline has.
#include <cstring>

#include "wick/kernels/cpu/panel_output.h"
#include "wick/kernels/cpu/panels.h"
#include "wick/tensor/half.h"

namespace wick::cpu {
namespace {

struct BlockLayout {
  bool q8;
  bool has_min;
  int64_t words;
};

// Integer sums of one block: lane r gets sum over 32 k of q_w[r][k] * q_x[k], q_w as stored (unsigned).
void block_dot(const BlockLayout& layout, const uint8_t* weights, const int8_t* x, int32_t* sums) {
  for (int64_t w = 0; w < layout.words; ++w) {
    const int8_t* low = x + 4 * w;
    const int8_t* high = x + 16 + 4 * w;
    for (int64_t r = 0; r < kPanelRows; ++r) {
      int32_t sum = 0;
      for (int64_t i = 0; i < 4; ++i) {
        const int32_t q = weights[(w * kPanelRows + r) * 4 + i];
        sum += layout.q8 ? q * low[i] : (q & 15) * low[i] + (q >> 4) * high[i];
      }
      sums[r] += sum;
    }
  }
}

// One chain per output: the product, then the minimum's term, per block in ascending k.
void row_times_panel(const PanelJob& job, const BlockLayout& layout, const uint8_t* panel, int64_t row, float* acc) {
  const Activations& x = *job.x;
  const int64_t blocks = x.k / kQuantBlock;
  const int64_t scale_count = layout.has_min ? 2 : 1;
  const uint8_t* scales = panel + blocks * layout.words * kPanelRows * 4;
  const int32_t* offsets = (layout.q8 ? x.minus_128_sum : x.minus_8_sum) + row * blocks;
  for (int64_t b = 0; b < blocks; ++b) {
    int32_t sums[kPanelRows];
    for (int32_t& sum : sums) sum = layout.has_min ? 0 : offsets[b];
    block_dot(layout, panel + b * layout.words * kPanelRows * 4, x.q + row * x.k + b * kQuantBlock, sums);
    uint16_t halves[2 * kPanelRows];
    std::memcpy(halves, scales + b * scale_count * kPanelRows * 2, static_cast<size_t>(scale_count * kPanelRows) * 2);
    const float x_scale = x.scale[row * blocks + b];
    const float x_sum = x.scaled_sum[row * blocks + b];
    for (int64_t r = 0; r < kPanelRows; ++r) {
      acc[r] += static_cast<float>(sums[r]) * (f16_to_f32(halves[r]) * x_scale);
      if (layout.has_min) acc[r] += f16_to_f32(halves[kPanelRows + r]) * x_sum;
    }
  }
}

}  // namespace

void quant_panels_generic(const PanelJob& job) {
  const DType type = job.segment->type;
  const BlockLayout layout{type == DType::kQ8_0, type == DType::kQ4_1, type == DType::kQ8_0 ? 8 : 4};
  for (int64_t panel = job.panel_begin; panel < job.panel_end; ++panel) {
    const auto* weights = reinterpret_cast<const uint8_t*>(job.panels + panel * job.segment->panel_bytes);
    for (int64_t row = 0; row < job.x->rows; ++row) {
      float acc[kPanelRows] = {};
      row_times_panel(job, layout, weights, row, acc);
      store_panel(job, row, panel, acc);
    }
  }
}

}  // namespace wick::cpu
