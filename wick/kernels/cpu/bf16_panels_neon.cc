// bf16 panels with BFMLALB and BFMLALT (FEAT_BF16), which widen the even or odd elements and add their product in one rounding, as FMLA
// does: the chain of float_panels.cc and its bits, without widening first. BFDOT rounds twice, to odd, and is another chain.
#if defined(__aarch64__)

#include <arm_neon.h>

#include <cstdint>

#include "wick/kernels/cpu/panel_output.h"
#include "wick/kernels/cpu/panels.h"

#if defined(__ARM_FEATURE_BF16_VECTOR_ARITHMETIC)
#define WICK_BF16
#elif defined(__clang__)
#define WICK_BF16 __attribute__((target("bf16")))
#else
#define WICK_BF16 __attribute__((target("arch=armv8.2-a+bf16")))
#endif
#define WICK_BF16_INLINE WICK_BF16 __attribute__((always_inline)) inline

namespace wick::cpu {
namespace {

constexpr int kQuads = 4;  // vectors of 4 rows in a panel

// sum[i] + w[2i] * x[0], then + w[2i + 1] * x[1]. As the instructions are called: clang 14 has the intrinsics only where the whole file is
// compiled for them.
WICK_BF16_INLINE float32x4_t add_pairs(float32x4_t sum, uint16x8_t w, uint16x8_t x) {
  asm("bfmlalb %0.4s, %1.8h, %2.h[0]\n\tbfmlalt %0.4s, %1.8h, %2.h[1]" : "+w"(sum) : "w"(w), "x"(x));
  return sum;
}

WICK_BF16_INLINE uint16x8_t load_pair(const uint16_t* p) {
  uint32_t pair;
  __builtin_memcpy(&pair, p, 4);
  return vreinterpretq_u16_u32(vdupq_n_u32(pair));
}

// R rows times P panels.
template <int R, int P>
WICK_BF16 void tile(const PanelJob& job, int64_t panel, int64_t row) {
  const Activations& x = *job.x;
  const auto* weights = reinterpret_cast<const uint8_t*>(job.panels + panel * job.segment->panel_bytes);
  const uint16_t* rows = x.bf16.row(row);
  float32x4_t acc[R][P][kQuads];
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (int p = 0; p < P; ++p) {
#pragma GCC unroll 4
      for (int v = 0; v < kQuads; ++v) acc[r][p][v] = vdupq_n_f32(0);
    }
  }
  for (int64_t i = 0; i < (x.k + 1) / 2; ++i) {
    uint16x8_t a[R];
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) a[r] = load_pair(rows + r * x.bf16.ld + 2 * i);
#pragma GCC unroll 4
    for (int p = 0; p < P; ++p) {
#pragma GCC unroll 4
      for (int v = 0; v < kQuads; ++v) {
        const uint16x8_t w = vreinterpretq_u16_u8(vld1q_u8(weights + p * job.segment->panel_bytes + i * 64 + v * 16));
#pragma GCC unroll 4
        for (int r = 0; r < R; ++r) acc[r][p][v] = add_pairs(acc[r][p][v], w, a[r]);
      }
    }
  }
  for (int r = 0; r < R; ++r) {
    for (int p = 0; p < P; ++p) {
      float sums[kPanelRows];
      for (int v = 0; v < kQuads; ++v) vst1q_f32(sums + v * 4, acc[r][p][v]);
      store_panel(job, row + r, panel + p, sums);
    }
  }
}

}  // namespace

void bf16_panels_neon(const PanelJob& job) {
  int64_t panel = job.panel_begin;
  if (job.x->rows < 4) {  // few chains per panel: more panels at a time hide the latency
    for (; panel + 4 <= job.panel_end; panel += 4) {
      for (int64_t row = 0; row < job.x->rows; ++row) tile<1, 4>(job, panel, row);
    }
  }
  for (; panel < job.panel_end; ++panel) {
    int64_t row = 0;
    for (; row + 4 <= job.x->rows; row += 4) tile<4, 1>(job, panel, row);
    for (; row < job.x->rows; ++row) tile<1, 1>(job, panel, row);
  }
}

}  // namespace wick::cpu

#endif
