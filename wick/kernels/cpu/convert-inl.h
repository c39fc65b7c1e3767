// f32, f16 and bf16 in memory as f32 lanes. Exact on the way in, nearest even on the way out; bit for bit as wick/tensor/half.h.
//
//   load(d, p)            one vector of Lanes(d) elements from p: float, F16 or BF16, any alignment
//   store(v, d, p)        the reverse
//   load_part(d, p, n)    the first n < Lanes(d) elements, zeros behind them; reads nothing past p[n - 1]
//   store_part(v, d, p, n)
//
// Two vectors at once, which is cheaper for bf16. Order says how the 2 Lanes(d) elements lie in them: kOrderOf<T>, the cheap one of T, for
// all that is combined with elements of T.
//   load_two<Order>(d, p, a, b)
//   store_two<Order>(a, b, d, p, stream)   stream: past the caches, p aligned to 64 bytes; FlushStream() before others read
//
// Compiled per instruction set: include after foreach_isa.h.
#if defined(WICK_KERNELS_CPU_CONVERT_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef WICK_KERNELS_CPU_CONVERT_INL_H_
#undef WICK_KERNELS_CPU_CONVERT_INL_H_
#else
#define WICK_KERNELS_CPU_CONVERT_INL_H_
#endif

#include <hwy/cache_control.h>
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

// bf16 bits in the upper half of each lane, and anything in the lower. Adding half of the last place kept rounds; NaN stays NaN.
template <class D>
HWY_INLINE hwy::HWY_NAMESPACE::Vec<hwy::HWY_NAMESPACE::RebindToUnsigned<D>> rounded_bf16(D, hwy::HWY_NAMESPACE::Vec<D> value) {
  namespace hn = hwy::HWY_NAMESPACE;
  const hn::RebindToUnsigned<D> du;
  const auto bits = hn::BitCast(du, value);
  const auto odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(du, 1u));
  const auto rounded = hn::Add(hn::Add(bits, hn::Set(du, 0x7fffu)), odd);
  return hn::IfThenElse(hn::RebindMask(du, hn::IsNaN(value)), hn::Or(bits, hn::Set(du, 0x00400000u)), rounded);
}

template <class D>
HWY_INLINE Lanes16<D> narrow(D d, hwy::HWY_NAMESPACE::Vec<D> value, const BF16*) {
  namespace hn = hwy::HWY_NAMESPACE;
  const auto bits = hn::ShiftRight<16>(rounded_bf16(d, value));
  return hn::DemoteTo(hn::Rebind<uint16_t, D>(), hn::BitCast(hn::RebindToSigned<D>(), bits));
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

// kSplit: the even elements in the first vector, the odd ones in the second. Both halves of a 32-bit lane are then in place as f32.
enum class Order { kPlain, kSplit };

template <class T>
inline constexpr Order kOrderOf = Order::kPlain;
#if HWY_TARGET != HWY_SCALAR
template <>
inline constexpr Order kOrderOf<BF16> = Order::kSplit;
#endif

template <Order kOrder, class D, class T, class V = hwy::HWY_NAMESPACE::Vec<D>>
HWY_INLINE void load_two(D d, const T* p, V& a, V& b) {
  namespace hn = hwy::HWY_NAMESPACE;
  if constexpr (kOrder == Order::kPlain) {
    a = load(d, p);
    b = load(d, p + hn::MaxLanes(d));
  } else if constexpr (sizeof(T) == sizeof(float)) {
    hn::LoadInterleaved2(d, p, a, b);
  } else {
    const hn::RebindToUnsigned<D> du;
    const auto bits = hn::BitCast(du, hn::LoadU(hn::Repartition<uint16_t, D>(), &p->bits));
    a = hn::BitCast(d, hn::ShiftLeft<16>(bits));
    b = hn::BitCast(d, hn::And(bits, hn::Set(du, 0xffff0000u)));
  }
}

template <class D, class V, class T>
HWY_INLINE void store_bits(D d, V v, T* p, bool stream) {
  namespace hn = hwy::HWY_NAMESPACE;
  if (stream) {
    hn::Stream(v, d, p);
  } else {
    hn::StoreU(v, d, p);
  }
}

// Even lanes from a, odd ones from b. Rounded in lanes of 16 bits, half the work of lanes of 32: up when what is cut off is more than half
// of the last place, or just half and the last place odd. A carry out of NaN would leave it: those, hardly ever there, take the other way,
// unless kNumbers says that there are none.
template <bool kNumbers = false, class D, class V = hwy::HWY_NAMESPACE::Vec<D>>
HWY_INLINE hwy::HWY_NAMESPACE::Vec<hwy::HWY_NAMESPACE::Repartition<uint16_t, D>> rounded_bf16_pair(D d, V a, V b) {
  namespace hn = hwy::HWY_NAMESPACE;
  const hn::RebindToUnsigned<D> du;
  const hn::Repartition<uint16_t, D> d16;
  const hn::Repartition<int16_t, D> di16;
  if (!kNumbers && HWY_UNLIKELY(!hn::AllFalse(d, hn::Or(hn::IsNaN(a), hn::IsNaN(b))))) {
    return hn::OddEven(hn::BitCast(d16, rounded_bf16(d, b)), hn::BitCast(d16, hn::ShiftRight<16>(rounded_bf16(d, a))));
  }
  const auto kept = hn::OddEven(hn::BitCast(d16, b), hn::BitCast(d16, hn::ShiftRight<16>(hn::BitCast(du, a))));
  const auto cut = hn::OddEven(hn::BitCast(d16, hn::ShiftLeft<16>(hn::BitCast(du, b))), hn::BitCast(d16, a));
  const auto sticky = hn::OrAnd(cut, kept, hn::Set(d16, uint16_t{1}));
  const auto above_half = hn::BitCast(di16, hn::Xor(sticky, hn::Set(d16, uint16_t{0x8000})));
  return hn::Sub(kept, hn::BitCast(d16, hn::VecFromMask(di16, hn::Gt(above_half, hn::Zero(di16)))));
}

template <Order kOrder, bool kNumbers = false, class D, class T, class V = hwy::HWY_NAMESPACE::Vec<D>>
HWY_INLINE void store_two(V a, V b, D d, T* p, bool stream) {
  namespace hn = hwy::HWY_NAMESPACE;
  if constexpr (kOrder == Order::kSplit) {
    static_assert(sizeof(T) == sizeof(uint16_t));
    const hn::Repartition<uint16_t, D> d16;
    store_bits(d16, rounded_bf16_pair<kNumbers>(d, a, b), &p->bits, stream);
  } else if constexpr (sizeof(T) == sizeof(float)) {
    store_bits(d, a, p, stream);
    store_bits(d, b, p + hn::MaxLanes(d), stream);
  } else {
#if HWY_TARGET == HWY_SCALAR
    store(a, d, p);
    store(b, d, p + hn::MaxLanes(d));
#else
    const hn::Repartition<uint16_t, D> d16;
    store_bits(d16, hn::Combine(d16, narrow(d, b, p), narrow(d, a, p)), &p->bits, stream);
#endif
  }
}

// Asks for the lines of kBytes from p on.
template <int64_t kBytes>
HWY_INLINE void ask_for(const void* p) {
  constexpr int64_t kLine = 64;
  for (int64_t at = 0; at < kBytes; at += kLine) hwy::Prefetch(static_cast<const std::byte*>(p) + at);
}

// Whether the row at p can be streamed.
template <class T>
HWY_INLINE bool can_stream(const T* p, bool wanted) {
  return wanted && reinterpret_cast<uintptr_t>(p) % 64 == 0;
}

}  // namespace HWY_NAMESPACE
}  // namespace wick::cpu
HWY_AFTER_NAMESPACE();

#endif
