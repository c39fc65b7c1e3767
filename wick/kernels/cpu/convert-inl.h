// f32, f16 and bf16 in memory as f32 lanes. Exact on the way in, nearest even on the way out; bit for bit as wick/tensor/half.h.
//
//   load(d, p)            one vector of Lanes(d) elements from p: float, F16 or BF16, any alignment
//   store(v, d, p)        the reverse
//   load_part(d, p, n)    the first n < Lanes(d) elements, zeros behind them; reads nothing past p[n - 1]
//   store_part(v, d, p, n)
//
// Compiled per instruction set: include after foreach_isa.h.
#if defined(WICK_KERNELS_CPU_CONVERT_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef WICK_KERNELS_CPU_CONVERT_INL_H_
#undef WICK_KERNELS_CPU_CONVERT_INL_H_
#else
#define WICK_KERNELS_CPU_CONVERT_INL_H_
#endif

#include <hwy/highway.h>

#include "wick/tensor/half.h"

HWY_BEFORE_NAMESPACE();
namespace wick::cpu {
namespace HWY_NAMESPACE {

// From and to the 16-bit lanes of the storage types.
template <class D, class V16>
HWY_INLINE hwy::HWY_NAMESPACE::Vec<D> widen(D d, V16 bits, const BF16*) {
  namespace hn = hwy::HWY_NAMESPACE;
  return hn::BitCast(d, hn::ShiftLeft<16>(hn::PromoteTo(hn::RebindToUnsigned<D>(), bits)));
}

template <class D, class V16>
HWY_INLINE hwy::HWY_NAMESPACE::Vec<D> widen(D d, V16 bits, const F16*) {
  namespace hn = hwy::HWY_NAMESPACE;
#if HWY_TARGET == HWY_SCALAR
  return hn::Set(d, f16_to_f32(hn::GetLane(bits)));
#else
  return hn::PromoteTo(d, hn::BitCast(hn::Rebind<hwy::float16_t, D>(), bits));
#endif
}

template <class D>
using Lanes16 = hwy::HWY_NAMESPACE::Vec<hwy::HWY_NAMESPACE::Rebind<uint16_t, D>>;

template <class D>
HWY_INLINE Lanes16<D> narrow(D, hwy::HWY_NAMESPACE::Vec<D> value, const BF16*) {
  namespace hn = hwy::HWY_NAMESPACE;
  const hn::RebindToUnsigned<D> du;
  const auto bits = hn::BitCast(du, value);
  const auto odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(du, 1u));
  const auto rounded = hn::ShiftRight<16>(hn::Add(bits, hn::Add(odd, hn::Set(du, 0x7fffu))));
  const auto quiet = hn::Or(hn::ShiftRight<16>(bits), hn::Set(du, 0x0040u));
  const auto result = hn::IfThenElse(hn::RebindMask(du, hn::IsNaN(value)), quiet, rounded);
  return hn::DemoteTo(hn::Rebind<uint16_t, D>(), hn::BitCast(hn::RebindToSigned<D>(), result));
}

template <class D>
HWY_INLINE Lanes16<D> narrow(D, hwy::HWY_NAMESPACE::Vec<D> value, const F16*) {
  namespace hn = hwy::HWY_NAMESPACE;
  const hn::Rebind<uint16_t, D> d16;
#if HWY_TARGET == HWY_SCALAR
  return hn::Set(d16, f32_to_f16(hn::GetLane(value)));
#else
  return hn::BitCast(d16, hn::DemoteTo(hn::Rebind<hwy::float16_t, D>(), value));
#endif
}

template <class D>
HWY_INLINE hwy::HWY_NAMESPACE::Vec<D> load(D d, const float* p) {
  return hwy::HWY_NAMESPACE::LoadU(d, p);
}

template <class D, class Half>
HWY_INLINE hwy::HWY_NAMESPACE::Vec<D> load(D d, const Half* p) {
  const hwy::HWY_NAMESPACE::Rebind<uint16_t, D> d16;
  return widen(d, hwy::HWY_NAMESPACE::LoadU(d16, &p->bits), p);
}

template <class D>
HWY_INLINE void store(hwy::HWY_NAMESPACE::Vec<D> value, D d, float* p) {
  hwy::HWY_NAMESPACE::StoreU(value, d, p);
}

template <class D, class Half>
HWY_INLINE void store(hwy::HWY_NAMESPACE::Vec<D> value, D d, Half* p) {
  const hwy::HWY_NAMESPACE::Rebind<uint16_t, D> d16;
  hwy::HWY_NAMESPACE::StoreU(narrow(d, value, p), d16, &p->bits);
}

template <class D, class T>
HWY_INLINE hwy::HWY_NAMESPACE::Vec<D> load_part(D d, const T* p, int64_t n) {
  T lanes[hwy::HWY_NAMESPACE::MaxLanes(d)] = {};
  for (int64_t i = 0; i < n; ++i) lanes[i] = p[i];
  return load(d, lanes);
}

template <class D, class T>
HWY_INLINE void store_part(hwy::HWY_NAMESPACE::Vec<D> value, D d, T* p, int64_t n) {
  T lanes[hwy::HWY_NAMESPACE::MaxLanes(d)];
  store(value, d, lanes);
  for (int64_t i = 0; i < n; ++i) p[i] = lanes[i];
}

}  // namespace HWY_NAMESPACE
}  // namespace wick::cpu
HWY_AFTER_NAMESPACE();

#endif
