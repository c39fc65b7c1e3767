// e^x and 2^x of f32 lanes for the arguments that inference has: differences to a maximum and negated magnitudes.
//
//   exp(d, x)    x <= 88;   relative error < 1.5e-7;  0 below -87.33 (where the result would be subnormal), so e^-inf is 0;  NaN stays NaN
//   exp2(d, x)   x <= 127;  the same, 0 below -126
//
// Above those bounds and for +inf the result is unspecified (no trap). Compiled per instruction set: include after foreach_isa.h.
#if defined(WICK_KERNELS_CPU_EXP_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef WICK_KERNELS_CPU_EXP_INL_H_
#undef WICK_KERNELS_CPU_EXP_INL_H_
#else
#define WICK_KERNELS_CPU_EXP_INL_H_
#endif

#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace wick::cpu {
namespace HWY_NAMESPACE {

// Adding 1.5 * 2^23 rounds to an integer, which then is the low bits of the sum: as n for the reduction, as exponent for the scale.
inline constexpr float kRoundingMagic = 12582912.0f;

template <class D, class V = hwy::HWY_NAMESPACE::Vec<D>>
HWY_INLINE V power_of_two(D d, V shifted) {
  namespace hn = hwy::HWY_NAMESPACE;
  const hn::RebindToUnsigned<D> du;
  return hn::BitCast(d, hn::Add(hn::ShiftLeft<23>(hn::BitCast(du, shifted)), hn::Set(du, 0x3f800000u)));
}

template <class D, class V = hwy::HWY_NAMESPACE::Vec<D>>
HWY_INLINE V exp2(D d, V x) {
  namespace hn = hwy::HWY_NAMESPACE;
  const V magic = hn::Set(d, kRoundingMagic);
  const V shifted = hn::Add(x, magic);
  const V f = hn::Sub(x, hn::Sub(shifted, magic));
  // Least relative error of 2^f over [-1/2, 1/2] with the value at 0 exact: 2e-9.
  V p = hn::Set(d, 0x1.41fbbcp-13f);
  p = hn::MulAdd(p, f, hn::Set(d, 0x1.5f3e54p-10f));
  p = hn::MulAdd(p, f, hn::Set(d, 0x1.3b2d4cp-7f));
  p = hn::MulAdd(p, f, hn::Set(d, 0x1.c6aee8p-5f));
  p = hn::MulAdd(p, f, hn::Set(d, 0x1.ebfbdcp-3f));
  p = hn::MulAdd(p, f, hn::Set(d, 0x1.62e430p-1f));
  p = hn::MulAdd(p, f, hn::Set(d, 1.0f));
  return hn::IfThenZeroElse(hn::Lt(x, hn::Set(d, -126.0f)), hn::Mul(p, power_of_two(d, shifted)));
}

template <class D, class V = hwy::HWY_NAMESPACE::Vec<D>>
HWY_INLINE V exp(D d, V x) {
  namespace hn = hwy::HWY_NAMESPACE;
  const V magic = hn::Set(d, kRoundingMagic);
  const V shifted = hn::MulAdd(x, hn::Set(d, 1.442695041f), magic);
  const V n = hn::Sub(shifted, magic);
  // ln 2 in two parts, the first short enough for an exact product with n.
  V r = hn::MulAdd(n, hn::Set(d, -0.693359375f), x);
  r = hn::MulAdd(n, hn::Set(d, 2.12194440e-4f), r);
  // Least relative error of e^r over [-ln 2 / 2, ln 2 / 2] with the value at 0 exact: 2e-9.
  V p = hn::Set(d, 0x1.6ae720p-10f);
  p = hn::MulAdd(p, r, hn::Set(d, 0x1.126792p-7f));
  p = hn::MulAdd(p, r, hn::Set(d, 0x1.555822p-5f));
  p = hn::MulAdd(p, r, hn::Set(d, 0x1.55541ap-3f));
  p = hn::MulAdd(p, r, hn::Set(d, 0x1.fffffcp-2f));
  p = hn::MulAdd(p, r, hn::Set(d, 1.0f));
  p = hn::MulAdd(p, r, hn::Set(d, 1.0f));
  return hn::IfThenZeroElse(hn::Lt(x, hn::Set(d, -87.336540f)), hn::Mul(p, power_of_two(d, shifted)));
}

}  // namespace HWY_NAMESPACE
}  // namespace wick::cpu
HWY_AFTER_NAMESPACE();

#endif
