// e^x and 2^x of f32 lanes for the arguments that inference has: differences to a maximum and negated magnitudes.
//
//   exp(d, x)    x <= 88;   relative error < 1.5e-7;  below -87.33, where the result would be subnormal, 0 or that subnormal; e^-inf is 0;  NaN stays NaN
//   exp2(d, x)   x <= 127;  the same below -126
//   exp_of_minus(d, x)   e^-x for any x, +inf where it overflows;  of NaN not NaN
//
// Above those bounds and for +inf the result of the first two is unspecified (no trap). Compiled per instruction set: include after foreach_isa.h.
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

// p * 2^n, n = shifted - kRoundingMagic. In range -126 <= n <= 128, where 128 gives infinity for p >= 0.5; AVX-512 takes any n.
template <class D, class V = hwy::HWY_NAMESPACE::Vec<D>>
HWY_INLINE V scale_by_power(D d, V p, V shifted, V n) {
  namespace hn = hwy::HWY_NAMESPACE;
#if HWY_TARGET == HWY_AVX3
  if constexpr (hn::MaxLanes(D()) == 16) return V{_mm512_scalef_ps(p.raw, n.raw)};
#endif
  (void)n;
  const hn::RebindToUnsigned<D> du;
  return hn::Mul(p, hn::BitCast(d, hn::Add(hn::ShiftLeft<23>(hn::BitCast(du, shifted)), hn::Set(du, 0x3f800000u))));
}

// Below `least` the power of two would leave its range: such x are raised to it first, or the result is made zero at the end.
template <class D, class V = hwy::HWY_NAMESPACE::Vec<D>>
HWY_INLINE V raise(D d, V x, float least) {
  namespace hn = hwy::HWY_NAMESPACE;
#if HWY_TARGET == HWY_AVX3
  if constexpr (hn::MaxLanes(D()) == 16) return hn::Max(hn::Set(d, least * 2), x);  // in this order NaN stays; far enough for the result to be 0
#endif
  (void)d;
  (void)least;
  return x;
}

template <class D, class V = hwy::HWY_NAMESPACE::Vec<D>>
HWY_INLINE V zero_below(D d, V x, float least, V y) {
  namespace hn = hwy::HWY_NAMESPACE;
#if HWY_TARGET == HWY_AVX3
  if constexpr (hn::MaxLanes(D()) == 16) return y;
#endif
  return hn::IfThenZeroElse(hn::Lt(x, hn::Set(d, least)), y);
}

// e^r, |r| <= ln 2 / 2: least relative error with the value at 0 exact, 2e-9.
template <class D, class V = hwy::HWY_NAMESPACE::Vec<D>>
HWY_INLINE V exp_polynomial(D d, V r) {
  namespace hn = hwy::HWY_NAMESPACE;
  V p = hn::Set(d, 0x1.6ae720p-10f);
  p = hn::MulAdd(p, r, hn::Set(d, 0x1.126792p-7f));
  p = hn::MulAdd(p, r, hn::Set(d, 0x1.555822p-5f));
  p = hn::MulAdd(p, r, hn::Set(d, 0x1.55541ap-3f));
  p = hn::MulAdd(p, r, hn::Set(d, 0x1.fffffcp-2f));
  p = hn::MulAdd(p, r, hn::Set(d, 1.0f));
  return hn::MulAdd(p, r, hn::Set(d, 1.0f));
}

// ln 2 in two parts, the first short enough for an exact product with n.
inline constexpr float kLn2High = 0.693359375f;
inline constexpr float kLn2Low = -2.12194440e-4f;
inline constexpr float kLog2E = 1.442695041f;

template <class D, class V = hwy::HWY_NAMESPACE::Vec<D>>
HWY_INLINE V exp2(D d, V x) {
  namespace hn = hwy::HWY_NAMESPACE;
  constexpr float kLeast = -126.0f;
  const V magic = hn::Set(d, kRoundingMagic);
  const V raised = raise(d, x, kLeast);
  const V shifted = hn::Add(raised, magic);
  const V n = hn::Sub(shifted, magic);
  const V f = hn::Sub(raised, n);
  // Least relative error of 2^f over [-1/2, 1/2] with the value at 0 exact: 2e-9.
  V p = hn::Set(d, 0x1.41fbbcp-13f);
  p = hn::MulAdd(p, f, hn::Set(d, 0x1.5f3e54p-10f));
  p = hn::MulAdd(p, f, hn::Set(d, 0x1.3b2d4cp-7f));
  p = hn::MulAdd(p, f, hn::Set(d, 0x1.c6aee8p-5f));
  p = hn::MulAdd(p, f, hn::Set(d, 0x1.ebfbdcp-3f));
  p = hn::MulAdd(p, f, hn::Set(d, 0x1.62e430p-1f));
  p = hn::MulAdd(p, f, hn::Set(d, 1.0f));
  return zero_below(d, x, kLeast, scale_by_power(d, p, shifted, n));
}

template <class D, class V = hwy::HWY_NAMESPACE::Vec<D>>
HWY_INLINE V exp(D d, V x) {
  namespace hn = hwy::HWY_NAMESPACE;
  constexpr float kLeast = -87.336540f;
  const V magic = hn::Set(d, kRoundingMagic);
  const V raised = raise(d, x, kLeast);
  const V shifted = hn::MulAdd(raised, hn::Set(d, kLog2E), magic);
  const V n = hn::Sub(shifted, magic);
  V r = hn::NegMulAdd(n, hn::Set(d, kLn2High), raised);
  r = hn::NegMulAdd(n, hn::Set(d, kLn2Low), r);
  return zero_below(d, x, kLeast, scale_by_power(d, exp_polynomial(d, r), shifted, n));
}

template <class D, class V = hwy::HWY_NAMESPACE::Vec<D>>
HWY_INLINE V exp_of_minus(D d, V x) {
  namespace hn = hwy::HWY_NAMESPACE;
  const V t = hn::Min(hn::Max(x, hn::Set(d, -88.73f)), hn::Set(d, 87.3f));  // up to e^88.73, which is infinity
  const V magic = hn::Set(d, kRoundingMagic);
  const V shifted = hn::MulAdd(t, hn::Set(d, -kLog2E), magic);
  const V n = hn::Sub(shifted, magic);
  V r = hn::NegMulSub(n, hn::Set(d, kLn2High), t);  // -n ln 2 - t
  r = hn::NegMulAdd(n, hn::Set(d, kLn2Low), r);
  return scale_by_power(d, exp_polynomial(d, r), shifted, n);
}

}  // namespace HWY_NAMESPACE
}  // namespace wick::cpu
HWY_AFTER_NAMESPACE();

#endif
