// Quantised panels in plain loops over the 16 lanes, which compilers turn into whatever vectors the baseline has.
#include "wick/kernels/cpu/panel_format.h"
#include "wick/kernels/cpu/panel_output.h"
#include "wick/kernels/cpu/panels.h"

namespace wick::cpu {
namespace {

// A block of a panel, ready for any number of rows.
struct Block {
  uint8_t q[512];
  float low[kPanelRows], high[kPanelRows], min[kPanelRows];
};

void read_block(const BlockFormat& format, const std::byte* panel, int64_t b, Block& out) {
  unpack_block(format, panel, b, out.q);
  for (int64_t r = 0; r < kPanelRows; ++r) {
    const BlockScales scales = panel_scales(format, panel, b, r);
    out.low[r] = scales.low;
    out.high[r] = scales.high;
    out.min[r] = scales.min;
  }
}

// sums[r] += Σ q[r][i] x[i] over 16 elements.
void dot(const uint8_t* q, const int8_t* x, int32_t* sums) {
  for (int64_t w = 0; w < 4; ++w) {
    for (int64_t r = 0; r < kPanelRows; ++r) {
      int32_t sum = 0;
      for (int64_t i = 0; i < 4; ++i) sum += q[(w * kPanelRows + r) * 4 + i] * x[4 * w + i];
      sums[r] += sum;
    }
  }
}

// One chain per output: the product, in two parts where there are two scales, then the minimum's term, per block in ascending k.
void add_block(const BlockFormat& format, const Block& block, const Activations& x, int64_t row, int64_t b, float* acc) {
  const int64_t at = row * (x.k / kQuantBlock) + b;
  const int8_t* q = x.q + at * kQuantBlock;
  const bool halves = format.scales == ScaleKind::kSuper16;
  const int32_t* offsets = offset_sums(format, x) + (halves ? 2 : 1) * at;
  const int32_t first = format.has_min() ? 0 : offsets[0], second = halves ? offsets[1] : 0;
  int32_t low[kPanelRows], high[kPanelRows];
  for (int64_t r = 0; r < kPanelRows; ++r) {
    low[r] = first;
    high[r] = second;
  }
  dot(block.q, q, low);
  dot(block.q + 256, q + 16, halves ? high : low);
  for (int64_t r = 0; r < kPanelRows; ++r) {
    acc[r] += static_cast<float>(low[r]) * (block.low[r] * x.scale[at]);
    if (halves) acc[r] += static_cast<float>(high[r]) * (block.high[r] * x.scale[at]);
    if (format.has_min()) acc[r] += block.min[r] * x.scaled_sum[at];
  }
}

}  // namespace

void quant_panels_generic(const PanelJob& job) {
  constexpr int64_t kRows = 32;  // that share an unpacked block
  const BlockFormat& format = *block_format(job.segment->type);
  const int64_t blocks = job.x->k / kQuantBlock;
  Block block;
  for (int64_t panel = job.panel_begin; panel < job.panel_end; ++panel) {
    const std::byte* weights = job.panels + panel * job.segment->panel_bytes;
    for (int64_t first = 0; first < job.x->rows; first += kRows) {
      const int64_t rows = std::min(kRows, job.x->rows - first);
      float acc[kRows][kPanelRows] = {};
      for (int64_t b = 0; b < blocks; ++b) {
        read_block(format, weights, b, block);
        for (int64_t r = 0; r < rows; ++r) add_block(format, block, *job.x, first + r, b, acc[r]);
      }
      for (int64_t r = 0; r < rows; ++r) store_panel(job, first + r, panel, acc[r]);
    }
  }
}

}  // namespace wick::cpu
