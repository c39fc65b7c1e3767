// Quantised panels on arm64, for the two files that include it: quant_panels_neon.cc multiplies with what every arm64 processor has,
// quant_panels_neon_dot.cc with SDOT. Each defines, before it includes this,
//   WICK_NEON          the attribute of functions for its instruction set
//   dot<kWord>(s, w, x)  s[i] + Σ w[4i + j] x[4 kWord + j] over j < 4, exact for |x| <= 127: int32x4_t of (int32x4_t, int8x16_t, int8x16_t)
//
// Integers of panels are unsigned, but all except whole bytes are below 64 and so the same as signed ones; their offset is in the starting
// value of the sum. Whole bytes become signed in registers.
// Few rows read the packed weights once and unpack in registers. From kGemmRows rows on a panel is unpacked to signed bytes and f32 scales
// first, exactly, and the same tiles run over that. The f32 chain per output is the one of quant_panels_avx512vnni.cc, so are the bits.
#include <arm_neon.h>

#include <cstdint>

#include "wick/kernels/cpu/panel_format.h"
#include "wick/kernels/cpu/panel_output.h"
#include "wick/kernels/cpu/panels.h"

#define WICK_NEON_INLINE WICK_NEON __attribute__((always_inline)) inline

namespace wick::cpu {
namespace {

constexpr int kGemmRows = 12;
constexpr int kQuads = 4;  // vectors of 4 rows in a panel
constexpr int64_t kUnpackedBytes = 512;  // integers of an unpacked block

// A panel as it lies in memory. Whole bytes have no offset any more when they are signed.
template <class F>
struct Packed : F {
  static constexpr bool kUnpacked = false;
  static constexpr int kOffset = F::kBytes ? 0 : F::kFormat.offset;
};

// An unpacked panel: [k/32][8][16][4] i8, then [k/32][kParts][16] f32 scales, then with minimums [k/32][16] f32.
template <int kPartsOf, bool kMinOf>
struct Unpacked {
  static constexpr bool kUnpacked = true;
  static constexpr bool kMin = kMinOf;
  static constexpr int kParts = kPartsOf;
  static constexpr int kOffset = 0;
};

WICK_NEON_INLINE float32x4_t load_halves(const uint8_t* p) { return vcvt_f32_f16(vreinterpret_f16_u8(vld1_u8(p))); }
WICK_NEON_INLINE float32x4_t load_floats(const uint8_t* p) { return vreinterpretq_f32_u8(vld1q_u8(p)); }

template <int kLeft>
WICK_NEON_INLINE uint8x16_t shift(uint8x16_t bytes) {
  if constexpr (kLeft > 0) return vshlq_n_u8(bytes, kLeft);
  if constexpr (kLeft < 0) return vshrq_n_u8(bytes, -kLeft);
  return bytes;
}

// Elements 4g .. 4g + 3 and 16 + 4g .. of a block, of 4 rows.
struct Words {
  int8x16_t low, high;
};

// V of the four quads of a panel's rows, block by block in ascending order.
template <class F, int V>
class Quads {
 public:
  WICK_NEON_INLINE Quads(const uint8_t* panel, int64_t blocks, int first)
      : panel_(panel + first * 16),
        scales_(F::kUnpacked ? panel + blocks * kUnpackedBytes : panel),
        mins_(scales_ + blocks * F::kParts * 64),
        first_(first) {}

  // To be called for every block before anything else is.
  WICK_NEON_INLINE void enter(int64_t b) {
    b_ = b;
    if constexpr (F::kUnpacked) {
      block_ = panel_ + b * kUnpackedBytes;
    } else {
      block_ = panel_ + F::integers_at(b);
      block_scales_ = scales_ + F::scales_at(b);
      if (F::kFormat.super() && b % kBlocksPerSuper == 0) enter_super();
    }
  }

  template <int kG>
  WICK_NEON_INLINE Words words(int v) const {
    const uint8_t* at = block_ + v * 16;
    const uint8x16_t first = vld1q_u8(at + kG * 64);
    if constexpr (F::kUnpacked) {
      return {vreinterpretq_s8_u8(first), vreinterpretq_s8_u8(vld1q_u8(at + 256 + kG * 64))};
    } else if constexpr (F::kBytes) {
      const uint8x16_t sign = vdupq_n_u8(128);
      return {vreinterpretq_s8_u8(veorq_u8(first, sign)), vreinterpretq_s8_u8(veorq_u8(vld1q_u8(at + 256 + kG * 64), sign))};
    } else {
      uint8x16_t low = vandq_u8(first, vdupq_n_u8(15)), high = vshrq_n_u8(first, 4);
      if constexpr (F::kHighBits == 1) {
        const uint8x16_t bits = vld1q_u8(at + 256), fifth = vdupq_n_u8(16);
        low = vbslq_u8(fifth, shift<4 - kG>(bits), low);
        high = vbslq_u8(fifth, shift<-kG>(bits), high);
      } else if constexpr (F::kHighBits == 2) {
        const uint8x16_t two = vdupq_n_u8(48);
        low = vbslq_u8(two, shift<4 - 2 * kG>(vld1q_u8(at + 256)), low);
        high = vbslq_u8(two, shift<4 - 2 * kG>(vld1q_u8(at + 320)), high);
      }
      return {vreinterpretq_s8_u8(low), vreinterpretq_s8_u8(high)};
    }
  }

  WICK_NEON_INLINE float32x4_t scale(int part, int v) const {
    const int row = (first_ + v) * 4;
    if constexpr (F::kUnpacked) {
      return load_floats(scales_ + ((b_ * F::kParts + part) * kPanelRows + row) * 4);
    } else if constexpr (F::kFormat.scales == ScaleKind::kSuper) {
      return vmulq_f32(d_[v], byte_of(scale_words_[b_ % kBlocksPerSuper / 4][v]));
    } else if constexpr (F::kFormat.scales == ScaleKind::kSuper16) {
      int32_t four;
      __builtin_memcpy(&four, block_scales_ + (b_ % kBlocksPerSuper * 2 + part) * kPanelRows + row, 4);
      return vmulq_f32(d_[v], vcvtq_f32_s32(vmovl_s16(vget_low_s16(vmovl_s8(vcreate_s8(static_cast<uint32_t>(four)))))));
    } else {
      return load_halves(block_scales_ + row * 2);
    }
  }

  WICK_NEON_INLINE float32x4_t min(int v) const {
    const int row = (first_ + v) * 4;
    if constexpr (F::kUnpacked) {
      return load_floats(mins_ + (b_ * kPanelRows + row) * 4);
    } else if constexpr (F::kFormat.scales == ScaleKind::kSuper) {
      return vmulq_f32(m_[v], byte_of(min_words_[b_ % kBlocksPerSuper / 4][v]));
    } else {
      return load_halves(block_scales_ + 32 + row * 2);
    }
  }

 private:
  WICK_NEON_INLINE void enter_super() {
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) {
      const int row = (first_ + v) * 4;
      if constexpr (F::kFormat.scales == ScaleKind::kSuper16) {
        d_[v] = load_halves(block_scales_ + 256 + row * 2);
      } else {
        const uint8_t* at = block_scales_;
        d_[v] = load_halves(at + row * 2);
        m_[v] = vsubq_f32(vdupq_n_f32(0), load_halves(at + 32 + row * 2));
        const uint8x16_t first = vld1q_u8(at + 64 + row * 4), second = vld1q_u8(at + 128 + row * 4), third = vld1q_u8(at + 192 + row * 4);
        scale_words_[0][v] = vandq_u8(first, vdupq_n_u8(63));
        min_words_[0][v] = vandq_u8(second, vdupq_n_u8(63));
        scale_words_[1][v] = vsliq_n_u8(third, vshrq_n_u8(first, 6), 4);
        min_words_[1][v] = vsliq_n_u8(vshrq_n_u8(third, 4), vshrq_n_u8(second, 6), 4);
      }
    }
  }

  // Byte b_ % 4 of each 32 bits.
  WICK_NEON_INLINE float32x4_t byte_of(uint8x16_t words) const {
    const int32x4_t right = vdupq_n_s32(static_cast<int32_t>(b_ % 4 * -8));
    return vcvtq_f32_u32(vandq_u32(vshlq_u32(vreinterpretq_u32_u8(words), right), vdupq_n_u32(255)));
  }

  const uint8_t* panel_;
  const uint8_t* scales_;
  const uint8_t* mins_;
  int first_;
  const uint8_t* block_ = nullptr;
  const uint8_t* block_scales_ = nullptr;
  int64_t b_ = 0;
  float32x4_t d_[V] = {}, m_[V] = {};
  uint8x16_t scale_words_[2][V] = {}, min_words_[2][V] = {};
};

// sums += words kG of a block times R rows of x, which are in halves of a block.
template <int kG, class F, int V, int R>
WICK_NEON_INLINE void add_words(const Quads<F, V>& quads, const int8x16_t (&x)[R][2], int32x4_t (&sums)[F::kParts][R][V]) {
#pragma GCC unroll 4
  for (int v = 0; v < V; ++v) {
    const Words w = quads.template words<kG>(v);
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) {
      sums[0][r][v] = dot<kG>(sums[0][r][v], w.low, x[r][0]);
      sums[F::kParts - 1][r][v] = dot<kG>(sums[F::kParts - 1][r][v], w.high, x[r][1]);
    }
  }
}

// Activations from a row on.
struct Rows {
  int64_t blocks;  // of a row
  const int8_t* q;
  const int32_t* offsets;
  const float* scale;
  const float* scaled_sum;
};

template <class F>
Rows rows_from(const Activations& x, int64_t row) {
  const int64_t blocks = x.k / kQuantBlock, at = row * blocks;
  Rows rows = {blocks, x.q + at * kQuantBlock, nullptr, x.scale + at, x.scaled_sum + at};
  if constexpr (F::kOffset != 0) rows.offsets = F::offsets(x) + at * F::kParts;
  return rows;
}

// acc += block b of R rows times V quads.
template <class F, int V, int R>
WICK_NEON_INLINE void add_block(const Rows& x, int64_t b, Quads<F, V>& quads, float32x4_t (&acc)[R][V]) {
  int8x16_t q[R][2];
  int32x4_t sums[F::kParts][R][V];
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) {
    const int64_t at = r * x.blocks + b;
    q[r][0] = vld1q_s8(x.q + at * kQuantBlock);
    q[r][1] = vld1q_s8(x.q + at * kQuantBlock + 16);
#pragma GCC unroll 2
    for (int part = 0; part < F::kParts; ++part) {
      int32x4_t start = vdupq_n_s32(0);
      if constexpr (F::kOffset != 0) start = vdupq_n_s32(x.offsets[at * F::kParts + part]);
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) sums[part][r][v] = start;
    }
  }
  quads.enter(b);
  add_words<0>(quads, q, sums);
  add_words<1>(quads, q, sums);
  add_words<2>(quads, q, sums);
  add_words<3>(quads, q, sums);
#pragma GCC unroll 4
  for (int v = 0; v < V; ++v) {
#pragma GCC unroll 2
    for (int part = 0; part < F::kParts; ++part) {
      const float32x4_t d = quads.scale(part, v);
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r) {
        acc[r][v] = vfmaq_f32(acc[r][v], vcvtq_f32_s32(sums[part][r][v]), vmulq_n_f32(d, x.scale[r * x.blocks + b]));
      }
    }
    if constexpr (F::kMin) {
      const float32x4_t m = quads.min(v);
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r) acc[r][v] = vfmaq_n_f32(acc[r][v], m, x.scaled_sum[r * x.blocks + b]);
    }
  }
}

// R rows times one panel, as many quads at a time as leave their sums in registers.
template <class F, int R>
WICK_NEON void tile(const PanelJob& job, const uint8_t* panel, int64_t panel_index, int64_t row) {
  constexpr int V = (R <= 2 ? 4 : 2) / F::kParts;
  const Rows x = rows_from<F>(*job.x, row);
  float out[R][kPanelRows];
  for (int first = 0; first < kQuads; first += V) {
    Quads<F, V> quads(panel, x.blocks, first);
    float32x4_t acc[R][V];
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) acc[r][v] = vdupq_n_f32(0);
    }
    for (int64_t b = 0; b < x.blocks; ++b) add_block(x, b, quads, acc);
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) vst1q_f32(out[r] + (first + v) * 4, acc[r][v]);
    }
  }
  for (int r = 0; r < R; ++r) store_panel(job, row + r, panel_index, out[r]);
}

template <class F>
void all_rows(const PanelJob& job, const uint8_t* panel, int64_t panel_index) {
  int64_t row = 0;
  for (; row + 4 <= job.x->rows; row += 4) tile<F, 4>(job, panel, panel_index, row);
  switch (job.x->rows - row) {
    case 3: return tile<F, 3>(job, panel, panel_index, row);
    case 2: return tile<F, 2>(job, panel, panel_index, row);
    case 1: return tile<F, 1>(job, panel, panel_index, row);
    default: return;
  }
}

template <int kG, class F>
WICK_NEON_INLINE void unpack_words(const Quads<F, kQuads>& quads, int8_t* out) {
  const int8x16_t offset = vdupq_n_s8(F::kOffset);
#pragma GCC unroll 4
  for (int v = 0; v < kQuads; ++v) {
    const Words w = quads.template words<kG>(v);
    vst1q_s8(out + kG * 64 + v * 16, vsubq_s8(w.low, offset));
    vst1q_s8(out + 256 + kG * 64 + v * 16, vsubq_s8(w.high, offset));
  }
}

// Writes a panel as Unpacked<F::kParts, F::kMin>.
template <class F>
WICK_NEON void unpack(const uint8_t* panel, int64_t blocks, std::byte* out) {
  auto* q = reinterpret_cast<int8_t*>(out);
  auto* d = reinterpret_cast<float*>(out + blocks * kUnpackedBytes);
  float* m = d + blocks * F::kParts * kPanelRows;
  Quads<F, kQuads> quads(panel, blocks, 0);
  for (int64_t b = 0; b < blocks; ++b) {
    quads.enter(b);
    unpack_words<0>(quads, q + b * kUnpackedBytes);
    unpack_words<1>(quads, q + b * kUnpackedBytes);
    unpack_words<2>(quads, q + b * kUnpackedBytes);
    unpack_words<3>(quads, q + b * kUnpackedBytes);
    for (int v = 0; v < kQuads; ++v) {
      for (int part = 0; part < F::kParts; ++part) vst1q_f32(d + (b * F::kParts + part) * kPanelRows + v * 4, quads.scale(part, v));
      if constexpr (F::kMin) vst1q_f32(m + b * kPanelRows + v * 4, quads.min(v));
    }
  }
}

template <class F>
void run(const PanelJob& job) {
  for (int64_t p = job.panel_begin; p < job.panel_end; ++p) {
    const auto* panel = reinterpret_cast<const uint8_t*>(job.panels + p * job.segment->panel_bytes);
    if (job.x->rows < kGemmRows) {
      all_rows<F>(job, panel, p);
    } else {
      unpack<F>(panel, job.x->k / kQuantBlock, job.scratch);
      all_rows<Unpacked<F::kParts, F::kMin>>(job, reinterpret_cast<const uint8_t*>(job.scratch), p);
    }
  }
}

void run_format(const PanelJob& job) {
  for_format(job.segment->type, [&](auto format) { run<Packed<decltype(format)>>(job); });
}

}  // namespace
}  // namespace wick::cpu
