// f32, f16 and bf16 panels: one fma chain per output in ascending k.
#include <cstdint>

#include "wick/kernels/cpu/panel_output.h"
#include "wick/kernels/cpu/panels.h"
#include "wick/tensor/half.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "wick/kernels/cpu/float_panels.cc"
#include "wick/kernels/cpu/foreach_isa.h"

HWY_BEFORE_NAMESPACE();
namespace wick::cpu {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using D = hn::CappedTag<float, kPanelRows>;
using V = hn::Vec<D>;
// Vectors per panel. All targets compiled here have a fixed vector size.
constexpr int kVectors = static_cast<int>(kPanelRows / hn::MaxLanes(D()));

struct F32 {
  static constexpr int kStep = 1;  // k per iteration
  static constexpr int64_t kBytes = 64;  // of a panel for each k
  static float x(const Activations& a, int64_t row, int64_t k) { return a.f32[row * a.ld_f32 + k]; }
  static HWY_INLINE V load(const std::byte* panel, int64_t k, int, int vector) {
    return hn::LoadU(D(), reinterpret_cast<const float*>(panel) + k * kPanelRows + vector * static_cast<int>(hn::MaxLanes(D())));
  }
};

struct F16 {
  static constexpr int kStep = 1;
  static constexpr int64_t kBytes = 32;
  static float x(const Activations& a, int64_t row, int64_t k) { return F32::x(a, row, k); }
  static HWY_INLINE V load(const std::byte* panel, int64_t k, int, int vector) {
    const hn::Rebind<hwy::float16_t, D> half;
    return hn::PromoteTo(D(), hn::LoadU(half, reinterpret_cast<const hwy::float16_t*>(panel) + k * kPanelRows + vector * static_cast<int>(hn::MaxLanes(D()))));
  }
};

struct Bf16 {
  static constexpr int kStep = 2;
  static constexpr int64_t kBytes = 32;
  static float x(const Activations& a, int64_t row, int64_t k) { return a.f32_of_bf16.data[row * a.f32_of_bf16.ld + k]; }
  static HWY_INLINE V load(const std::byte* panel, int64_t k, int step, int vector) {
    const hn::Rebind<uint32_t, D> bits;
    const auto pairs = hn::LoadU(bits, reinterpret_cast<const uint32_t*>(panel) + k / 2 * kPanelRows + vector * static_cast<int>(hn::MaxLanes(D())));
    return hn::BitCast(D(), step == 0 ? hn::ShiftLeft<16>(pairs) : hn::And(pairs, hn::Set(bits, 0xffff0000u)));
  }
};

void put(const PanelJob& job, int64_t row, int64_t panel, const V (&sums)[kVectors]) {
  constexpr int kLanes = static_cast<int>(hn::MaxLanes(D()));
  const PanelRow out = output_row(job, row, panel);
  const bool plain = out.columns == kPanelRows && out.y && !out.bias && !out.accumulate;
  float spilled[kPanelRows];
  float* const to = plain ? out.y : spilled;
  for (int v = 0; v < kVectors; ++v) hn::StoreU(sums[v], D(), to + v * kLanes);
  if (!plain) store_panel(job, row, panel, spilled);
}

// R rows times P panels, `apart` from each other. Few rows ask for what they read 3 KiB later, as in panel_format.h.
template <class Format, int R, int P>
void tile(const PanelJob& job, int64_t panel, int64_t apart, int64_t row) {
  constexpr int64_t kAhead = 3072, kLine = 64;
  const std::byte* weights = job.panels + panel * job.segment->panel_bytes;
  const int64_t step_bytes = apart * job.segment->panel_bytes;
  V acc[R][P][kVectors];
  for (int r = 0; r < R; ++r) {
    for (int p = 0; p < P; ++p) {
      for (int v = 0; v < kVectors; ++v) acc[r][p][v] = hn::Zero(D());
    }
  }
  for (int64_t k = 0; k < job.x->k; k += Format::kStep) {
    if constexpr (R <= 2) {
      const int64_t at = k * Format::kBytes;
      if (at % kLine == 0) {
        for (int p = 0; p < P; ++p) __builtin_prefetch(weights + p * step_bytes + at + kAhead);
      }
    }
    for (int step = 0; step < Format::kStep; ++step) {
      if constexpr (kVectors == 1) {  // weights in registers, a row's input at a time
        V w[P];
        for (int p = 0; p < P; ++p) w[p] = Format::load(weights + p * step_bytes, k, step, 0);
        for (int r = 0; r < R; ++r) {
          const V a = hn::Set(D(), Format::x(*job.x, row + r, k + step));
          for (int p = 0; p < P; ++p) acc[r][p][0] = hn::MulAdd(w[p], a, acc[r][p][0]);
        }
      } else {
        V a[R];
        for (int r = 0; r < R; ++r) a[r] = hn::Set(D(), Format::x(*job.x, row + r, k + step));
        for (int p = 0; p < P; ++p) {
          for (int v = 0; v < kVectors; ++v) {
            const V w = Format::load(weights + p * step_bytes, k, step, v);
            for (int r = 0; r < R; ++r) acc[r][p][v] = hn::MulAdd(w, a[r], acc[r][p][v]);
          }
        }
      }
    }
  }
  for (int p = 0; p < P; ++p) {
    for (int r = 0; r < R; ++r) put(job, row + r, panel + p * apart, acc[r][p]);
  }
}

template <class Format, int P>
void all_rows(const PanelJob& job, int64_t panel, int64_t apart = 1) {
  // AVX-512 and NEON: 24 sums of 32 registers.
  constexpr int kRows = kVectors == 1 ? 24 / (P < 2 ? 2 : P) : (kVectors == 4 && P == 1 ? 6 : 3);
  int64_t row = 0;
  for (; row + kRows <= job.x->rows; row += kRows) tile<Format, kRows, P>(job, panel, apart, row);
  if constexpr (kRows > 8) {
    for (; row + 8 <= job.x->rows; row += 8) tile<Format, 8, P>(job, panel, apart, row);
  }
  if constexpr (kRows > 4) {
    for (; row + 4 <= job.x->rows; row += 4) tile<Format, 4, P>(job, panel, apart, row);
  }
  for (; row < job.x->rows; ++row) tile<Format, 1, P>(job, panel, apart, row);
}

template <class Format>
void run(const PanelJob& job) {
  // Panels at a time where one row has too few chains to hide the latency of an fma.
  constexpr int kWide = kVectors <= 2 ? 4 : (kVectors == 4 ? 2 : 1);
  int64_t panel = job.panel_begin;
  if (job.x->rows < 3) {
    // On Intel far apart, as in_turns() in panel_format.h; two threads of Emerald Rapids, bf16: 1B 10.4 to 12.1 tok/s together with asking.
    const int64_t groups = (job.panel_end - panel) / kWide, apart = cpu_is_intel() ? groups : 1, next = cpu_is_intel() ? 1 : kWide;
    for (int64_t i = 0; i < groups; ++i) all_rows<Format, kWide>(job, panel + i * next, apart);
    panel += groups * kWide;
  }
  constexpr int kPair = kVectors <= 2 ? 2 : 1;
  for (; panel + kPair <= job.panel_end; panel += kPair) all_rows<Format, kPair>(job, panel);
  for (; panel < job.panel_end; ++panel) all_rows<Format, 1>(job, panel);
}

void run_f32(const PanelJob& job) { run<F32>(job); }
void run_f16(const PanelJob& job) { run<F16>(job); }
void run_bf16(const PanelJob& job) { run<Bf16>(job); }

}  // namespace HWY_NAMESPACE
}  // namespace wick::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace wick::cpu {

void float_panels(const PanelJob& job, Isa isa) {
  switch (job.segment->type) {
    case DType::kF16: return WICK_DISPATCH(isa, run_f16)(job);
    case DType::kBF16: return WICK_DISPATCH(isa, run_bf16)(job);
    default: return WICK_DISPATCH(isa, run_f32)(job);
  }
}

}  // namespace wick::cpu
#endif
