// Compiles the including file once per instruction set through Highway, without Highway's run-time part (which Debian has only as a
// shared library): WICK_DISPATCH chooses by Context::isa().
//
//   #undef HWY_TARGET_INCLUDE
//   #define HWY_TARGET_INCLUDE "wick/kernels/cpu/norm.cc"
//   #include "wick/kernels/cpu/foreach_isa.h"
//   HWY_BEFORE_NAMESPACE();
//   namespace wick::cpu::HWY_NAMESPACE { void rms_norm_rows(…) {…} }
//   HWY_AFTER_NAMESPACE();
//   #if HWY_ONCE
//   namespace wick::cpu { void rms_norm(Context& ctx, …) { WICK_DISPATCH(ctx.isa(), rms_norm_rows)(…); } }
//   #endif
//
// No include guard: included once per pass on purpose. Standard headers must be included before it, so that none of their inline
// functions is compiled for a wider instruction set than the program's. The per-ISA part must not instantiate standard templates.

#ifndef HWY_DISABLED_TARGETS
#define HWY_BROKEN_EMU128 1  // g++ 12 miscompiles it; one baseline, HWY_SCALAR, for every compiler
#if defined(__x86_64__)
#define HWY_DISABLED_TARGETS (~(HWY_SCALAR | HWY_AVX2 | HWY_AVX3))
#else
#define HWY_DISABLED_TARGETS (HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128)
#endif
#endif

#include <hwy/foreach_target.h>  // IWYU pragma: keep
#include <hwy/highway.h>

#ifndef WICK_DISPATCH
#if defined(__x86_64__)
#define WICK_DISPATCH(isa, function)                   \
  ((isa) >= ::wick::Isa::kAvx512  ? &N_AVX3::function  \
   : (isa) == ::wick::Isa::kAvx2 ? &N_AVX2::function \
                                  : &N_SCALAR::function)
#else
#define WICK_DISPATCH(isa, function) ((void)(isa), &HWY_STATIC_NAMESPACE::function)
#define HWY_STATIC_NAMESPACE HWY_NAMESPACE
#endif
#endif
