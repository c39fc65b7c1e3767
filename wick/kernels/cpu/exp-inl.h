// e^x and 2^x of f32 lanes for the arguments that inference has: differences to a maximum and negated magnitudes.
//
//   exp(d, x)    x <= 88;   relative error < 1.5e-7;  below -87.33, where the result would be subnormal, 0 or that subnormal; e^-inf is 0;  NaN stays NaN
//   exp2(d, x)   x <= 127;  the same below -126
//   exp_of_minus(d, x)   e^-x for any x, +inf where it overflows;  of NaN not NaN
//   quotient(d, a, b)    a / b, b >= 1
//
// exp, exp_of_minus and quotient come in the precision of what the result is rounded to: relative errors below 7e-5 for f16 and 2e-4 for bf16,
// a fraction of their last place. On AVX-512 such exponentials have no lower bound.
//
// Above those bounds and for +inf the result of the first two is unspecified (no trap). Compiled per instruction set: include after foreach_isa.h.
#if defined(WICK_KERNELS_CPU_EXP_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef WICK_KERNELS_CPU_EXP_INL_H_
#undef WICK_KERNELS_CPU_EXP_INL_H_
#else
#define WICK_KERNELS_CPU_EXP_INL_H_
#endif

#include <hwy/highway.h>

#include "wick/kernels/cpu/two-inl.h"
#include "wick/tensor/half.h"

HWY_BEFORE_NAMESPACE();
namespace wick::cpu {
namespace HWY_NAMESPACE {

enum class Precision { kF32, kF16, kBF16 };

template <class T>
inline constexpr Precision kPrecisionOf = Precision::kF32;
template <>
inline constexpr Precision kPrecisionOf<F16> = Precision::kF16;
template <>
inline constexpr Precision kPrecisionOf<BF16> = Precision::kBF16;

template <Precision kPrecision>
inline constexpr bool kShort = kPrecision != Precision::kF32;

// Adding 1.5 * 2^23 rounds to an integer, which then is the low bits of the sum: as n for the reduction, as exponent for the scale.
inline constexpr float kRoundingMagic = 12582912.0f;

// p * 2^n, n = shifted - kRoundingMagic. In range -126 <= n <= 128, where 128 gives infinity for p >= 0.5; AVX-512 takes any n.
template <class D, class V>
HWY_INLINE V scale_by_power(D d, V p, V shifted, V n) {
  namespace hn = hwy::HWY_NAMESPACE;
  return in_step(
      [d](auto each, auto each_shifted, auto each_n) {
#if HWY_TARGET == HWY_AVX3
        if constexpr (hn::MaxLanes(D()) == 16) return hn::Vec<D>{_mm512_scalef_ps(each.raw, each_n.raw)};
#endif
        (void)each_n;
        const hn::RebindToUnsigned<D> du;
        return hn::Mul(each, hn::BitCast(d, hn::Add(hn::ShiftLeft<23>(hn::BitCast(du, each_shifted)), hn::Set(du, 0x3f800000u))));
      },
      p, shifted, n);
}

// The same, and 0 for x < least, where the power of two would leave its range. Not by an underflow of scalef: Intel's processors take some
// hundred cycles for each.
template <class D, class V>
HWY_INLINE V scale_or_zero(D d, V p, V shifted, V n, V x, float least) {
  namespace hn = hwy::HWY_NAMESPACE;
#if HWY_TARGET == HWY_AVX3
  if constexpr (hn::MaxLanes(D()) == 16) {
    return in_step(
        [least](hn::Vec<D> each, hn::Vec<D> power, hn::Vec<D> from) {
          return hn::Vec<D>{_mm512_maskz_scalef_ps(_mm512_cmp_ps_mask(from.raw, _mm512_set1_ps(least), _CMP_NLT_UQ), each.raw, power.raw)};
        },
        p, n, x);
  }
#endif
  return zero_where(less(x, hn::Set(d, least)), scale_by_power(d, p, shifted, n));
}

// first x^n + second x^(n - 1) + …, n the number of `rest` and one more. A tree instead of a chain was no faster, and less exact.
template <class D, class V, class... Coefficients>
HWY_INLINE V polynomial(D d, V x, float first, float second, Coefficients... rest) {
  namespace hn = hwy::HWY_NAMESPACE;
  V p = mul_add(x, hn::Set(d, first), hn::Set(d, second));
  ((p = mul_add(p, x, hn::Set(d, rest))), ...);
  return p;
}

// e^r, |r| <= ln 2 / 2: least relative error with the value at 0 exact, 2e-9.
template <class D, class V>
HWY_INLINE V exp_polynomial(D d, V r) {
  return polynomial(d, r, 0x1.6ae720p-10f, 0x1.126792p-7f, 0x1.555822p-5f, 0x1.55541ap-3f, 0x1.fffffcp-2f, 1.0f, 1.0f);
}

// 2^(factor x), factor being log2 e or its negative: the error of the product and that of the polynomial, which is the least of such
// polynomials, 2.6e-6 and 7.5e-5. AVX-512 has instructions for a fraction counted from below, and for the power.
template <Precision kPrecision, class D, class V>
HWY_INLINE V short_exp2(D d, V x, float factor) {
  namespace hn = hwy::HWY_NAMESPACE;
  constexpr bool kShorter = kPrecision == Precision::kBF16;
  const auto scale = hn::Set(d, factor);
#if HWY_TARGET == HWY_AVX3
  const V y = mul(x, scale);
  const V f = in_step([](hn::Vec<D> each) { return hn::Vec<D>{_mm512_reduce_ps(each.raw, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC)}; }, y);  // y - floor(y)
  const V p = kShorter ? polynomial(d, f, 0x1.3f96a4p-4f, 0x1.cefc4cp-3f, 0x1.64444cp-1f, 0x1.fff632p-1f)
                       : polynomial(d, f, 0x1.bb7cd4p-7f, 0x1.aa13f0p-5f, 0x1.ee798ap-3f, 0x1.62d166p-1f, 0x1.00002cp0f);
  return scale_or_zero(d, p, y, y, y, -126.0f);  // by 2^floor(y)
#else
  const auto magic = hn::Set(d, kRoundingMagic);
  const V shifted = mul_add(x, scale, magic);
  const V n = sub(shifted, magic);
  const V f = mul_sub(x, scale, n);
  const V p = kShorter ? polynomial(d, f, 0x1.c3f71ap-5f, 0x1.f0de98p-3f, 0x1.62f31ep-1f, 0x1.fff690p-1f)
                       : polynomial(d, f, 0x1.3997acp-7f, 0x1.ca1498p-5f, 0x1.ec06dcp-3f, 0x1.62e0dcp-1f, 0x1.ffffe8p-1f);
  return scale_by_power(d, p, shifted, n);
#endif
}

template <Precision kPrecision = Precision::kF32, class D, class A, class B>
HWY_INLINE B quotient(D d, A a, B b) {
  namespace hn = hwy::HWY_NAMESPACE;
#if HWY_TARGET == HWY_AVX3
  if constexpr (kShort<kPrecision>) return mul(a, in_step([](hn::Vec<D> each) { return hn::Vec<D>{_mm512_rcp14_ps(each.raw)}; }, b));
#endif
  (void)d;
  return divide(a, b);
}

// ln 2 in two parts, the first short enough for an exact product with n.
inline constexpr float kLn2High = 0.693359375f;
inline constexpr float kLn2Low = -2.12194440e-4f;
inline constexpr float kLog2E = 1.442695041f;

template <class D, class V>
HWY_INLINE V exp2(D d, V x) {
  namespace hn = hwy::HWY_NAMESPACE;
  constexpr float kLeast = -126.0f;
  const auto magic = hn::Set(d, kRoundingMagic);
  const V shifted = add(x, magic);
  const V n = sub(shifted, magic);
  const V f = sub(x, n);
  // Least relative error of 2^f over [-1/2, 1/2] with the value at 0 exact: 2e-9.
  const V p = polynomial(d, f, 0x1.41fbbcp-13f, 0x1.5f3e54p-10f, 0x1.3b2d4cp-7f, 0x1.c6aee8p-5f, 0x1.ebfbdcp-3f, 0x1.62e430p-1f, 1.0f);
  return scale_or_zero(d, p, shifted, n, x, kLeast);
}

template <Precision kPrecision = Precision::kF32, class D, class V>
HWY_INLINE V exp(D d, V x) {
  namespace hn = hwy::HWY_NAMESPACE;
  constexpr float kLeast = -87.336540f;
  if constexpr (kShort<kPrecision>) {
#if HWY_TARGET == HWY_AVX3
    return short_exp2<kPrecision>(d, x, kLog2E);
#else
    return zero_where(less(x, hn::Set(d, kLeast)), short_exp2<kPrecision>(d, x, kLog2E));
#endif
  }
  const auto magic = hn::Set(d, kRoundingMagic);
  const V shifted = mul_add(x, hn::Set(d, kLog2E), magic);
  const V n = sub(shifted, magic);
  V r = neg_mul_add(n, hn::Set(d, kLn2High), x);
  r = neg_mul_add(n, hn::Set(d, kLn2Low), r);
  return scale_or_zero(d, exp_polynomial(d, r), shifted, n, x, kLeast);
}

template <Precision kPrecision = Precision::kF32, class D, class V>
HWY_INLINE V exp_of_minus(D d, V x) {
  namespace hn = hwy::HWY_NAMESPACE;
#if HWY_TARGET == HWY_AVX3
  if constexpr (kShort<kPrecision>) return short_exp2<kPrecision>(d, x, -kLog2E);
#endif
  const V t = smaller(larger(x, hn::Set(d, -88.73f)), hn::Set(d, 87.3f));  // up to e^88.73, which is infinity
  if constexpr (kShort<kPrecision>) return short_exp2<kPrecision>(d, t, -kLog2E);
  const auto magic = hn::Set(d, kRoundingMagic);
  const V shifted = mul_add(t, hn::Set(d, -kLog2E), magic);
  const V n = sub(shifted, magic);
  V r = neg_mul_sub(n, hn::Set(d, kLn2High), t);  // -n ln 2 - t
  r = neg_mul_add(n, hn::Set(d, kLn2Low), r);
  return scale_by_power(d, exp_polynomial(d, r), shifted, n);
}

}  // namespace HWY_NAMESPACE
}  // namespace wick::cpu
HWY_AFTER_NAMESPACE();

#endif
