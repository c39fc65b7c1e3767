// Quantised panels with the multiplications that every arm64 processor has.
#if defined(__aarch64__)

#include <arm_neon.h>

#define WICK_NEON

namespace wick::cpu {
namespace {

// Two products of 8 bits fit 16: 2 * 128 * 127 < 2^15.
template <int kWord>
inline int32x4_t dot(int32x4_t sum, int8x16_t w, int8x16_t x) {
  const int8x16_t word = vreinterpretq_s8_s32(vdupq_laneq_s32(vreinterpretq_s32_s8(x), kWord));
  return vpadalq_s16(sum, vpaddq_s16(vmull_s8(vget_low_s8(w), vget_low_s8(word)), vmull_high_s8(w, word)));
}

}  // namespace
}  // namespace wick::cpu

#include "wick/kernels/cpu/quant_panels_neon-inl.h"

namespace wick::cpu {
void quant_panels_neon(const PanelJob& job) { run_format(job); }
}  // namespace wick::cpu

#endif
