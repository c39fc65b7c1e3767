// Quantised panels with SDOT (FEAT_DotProd). USDOT would save no more than the change of sign of whole bytes.
#if defined(__aarch64__)

#include <arm_neon.h>

#if defined(__ARM_FEATURE_DOTPROD)
#define WICK_NEON
#elif defined(__clang__)
#define WICK_NEON __attribute__((target("dotprod")))
#else
#define WICK_NEON __attribute__((target("arch=armv8.2-a+dotprod")))
#endif

namespace wick::cpu {
namespace {

// clang 14 has vdotq_laneq_s32 only where the whole file is compiled for it.
template <int kWord>
WICK_NEON __attribute__((always_inline)) inline int32x4_t dot(int32x4_t sum, int8x16_t w, int8x16_t x) {
  asm("sdot %0.4s, %1.16b, %2.4b[%3]" : "+w"(sum) : "w"(w), "w"(x), "i"(kWord));
  return sum;
}

}  // namespace
}  // namespace wick::cpu

#include "wick/kernels/cpu/quant_panels_neon-inl.h"

namespace wick::cpu {
void quant_panels_neon_dot(const PanelJob& job) { run_format(job); }
}  // namespace wick::cpu

#endif
