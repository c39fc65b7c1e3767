#include "wick/kernels/activation.h"

#include <algorithm>
#include <type_traits>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "wick/kernels/cpu/activation.cc"
#include "wick/kernels/cpu/foreach_isa.h"
// After it: compiled per instruction set.
#include "wick/kernels/cpu/convert-inl.h"
#include "wick/kernels/cpu/exp-inl.h"

HWY_BEFORE_NAMESPACE();
namespace wick::cpu {
namespace HWY_NAMESPACE {
namespace {
namespace hn = hwy::HWY_NAMESPACE;

using D = hn::CappedTag<float, 16>;
using V = hn::Vec<D>;
constexpr int64_t kLanes = static_cast<int64_t>(hn::MaxLanes(D()));

// x / (1 + e^-t)
template <Precision kPrecision, class X, class V>
HWY_INLINE V times_sigmoid(X x, V t) {
  const D d;
  return quotient<kPrecision>(d, x, add(hn::Set(d, 1.0f), exp_of_minus<kPrecision>(d, t)));
}

struct Silu {
  template <Precision kPrecision, class V>
  static HWY_INLINE V of(V x) {
    return times_sigmoid<kPrecision>(x, x);
  }
};

struct Sigmoid {
  template <Precision kPrecision, class V>
  static HWY_INLINE V of(V x) {
    const D d;
    return select(is_nan(x), x, times_sigmoid<kPrecision>(hn::Set(d, 1.0f), x));
  }
};

struct GeluTanh {
  template <Precision kPrecision, class V>
  static HWY_INLINE V of(V x) {
    const D d;
    const V cubic = mul_add(mul(x, x), hn::Set(d, 0.0713548162726f), hn::Set(d, 1.59576912161f));  // 2 sqrt(2 / pi) (0.044715 x^2 + 1)
    return times_sigmoid<kPrecision>(x, mul(x, cubic));
  }
};

struct Gelu {
  // erfc(a / sqrt(2)) e^(a^2 / 2) / 2 = p / q for 0 <= a <= 15: least relative error of rational functions of these degrees.
  template <class V>
  struct Fraction {
    V p, q;
  };
  template <Precision kPrecision, class V>
  static HWY_INLINE Fraction<V> tail_factor(V a) {
    const D d;
    const V a2 = mul(a, a);
    const auto one = hn::Set(d, 1.0f);
    if constexpr (kPrecision == Precision::kF16) {  // 2.6e-5
      const V p = mul_add(a2, hn::Set(d, 0x1.029130p-4f), mul_add(a, hn::Set(d, 0x1.1e66b0p-2f), hn::Set(d, 0x1.0001b0p-1f)));
      const V q = mul_add(a2, mul_add(a, hn::Set(d, 0x1.43bbbcp-3f), hn::Set(d, 0x1.696e22p-1f)), mul_add(a, hn::Set(d, 0x1.5ba97cp0f), one));
      return {p, q};
    } else {  // 2.6e-8
      const V p01 = mul_add(a, hn::Set(d, 0x1.c1d330p-2f), hn::Set(d, 0.5f));
      const V p23 = mul_add(a, hn::Set(d, 0x1.4ee534p-5f), hn::Set(d, 0x1.78c44cp-3f));
      const V q01 = mul_add(a, hn::Set(d, 0x1.ad2bcap0f), one);
      const V q23 = mul_add(a, hn::Set(d, 0x1.e2b846p-2f), hn::Set(d, 0x1.349e8ep0f));
      const V q45 = mul_add(a, hn::Set(d, 0x1.552052p-7f), hn::Set(d, 0x1.a3c10cp-4f));
      return {mul_add(mul_add(a2, hn::Set(d, 0x1.102eaap-8f), p23), a2, p01), mul_add(mul_add(q45, a2, q23), a2, q01)};
    }
  }

  // The logarithm of the odds of the normal distribution at x, x q(x^2): error 1.7e-3 for |x| <= 5.5, half of bf16's last place at most. Beyond
  // it the line that continues it: what the function is there is below 1.1e-7.
  template <class V>
  static HWY_INLINE V log_odds(V x) {
    const D d;
    const V x2 = smaller(mul(x, x), hn::Set(d, 30.25f));
    return mul(x, polynomial(d, x2, 8.67898014e-6f, -9.70165757e-4f, 7.56042766e-2f, 1.59341444f));
  }

  // x times the normal distribution's share below it: for negative x the tail itself, which is exact where 1 + erf cancels.
  // Beyond 15 the tail is zero; -inf times it is NaN, as in the other two.
  template <Precision kPrecision, class V>
  static HWY_INLINE V of(V x) {
    const D d;
    if constexpr (kPrecision == Precision::kBF16) return times_sigmoid<kPrecision>(x, log_odds(x));
    const V a = smaller(absolute(x), hn::Set(d, 15.0f));
    const Fraction<V> factor = tail_factor<kPrecision>(a);
    const V power = exp<kPrecision>(d, mul(mul(a, a), hn::Set(d, -0.5f)));
    const V tail = quotient<kPrecision>(d, mul(power, factor.p), factor.q);
    return mul(x, select(less(x, hn::Zero(d)), tail, sub(hn::Set(d, 1.0f), tail)));
  }
};

// How many vectors go in step: those of bf16 have so few constants that four fit the registers of AVX-512 beside them. With four, f32 and gelu in
// f16 were slower by a fifth.
template <class T>
using Step = std::conditional_t<kPrecisionOf<T> == Precision::kBF16 && kLanes == 16, Four<V>, Two<V>>;
template <class T>
constexpr int64_t kStep = static_cast<int64_t>(sizeof(Step<T>) / sizeof(V)) * kLanes;

// Asked for ahead, because the processor's own prefetchers begin anew with each piece: of a gate and what it multiplies 37 to 50 GB/s without.
template <class T>
HWY_INLINE void load_step(const T* p, Two<V>& two) {
  constexpr int64_t kAhead = 2048, kBytes = 2 * kLanes * static_cast<int64_t>(sizeof(T));
  ask_for<kBytes>(reinterpret_cast<const std::byte*>(p) + kAhead);
  load_two<kOrderOf<T>>(D(), p, two.a, two.b);
}
template <class T>
HWY_INLINE void load_step(const T* p, Four<V>& four) {
  load_step(p, four.a);
  load_step(p + 2 * kLanes, four.b);
}
template <class T>
HWY_INLINE void store_step(Two<V> two, T* p, bool stream) {
  store_two<kOrderOf<T>>(two.a, two.b, D(), p, stream);
}
template <class T>
HWY_INLINE void store_step(Four<V> four, T* p, bool stream) {
  store_step(four.a, p, stream);
  store_step(four.b, p + 2 * kLanes, stream);
}

template <class Function, class T>
void plain(const T* x, T* y, int64_t n, bool stream) {
  const D d;
  const auto function = [](auto value) { return Function::template of<kPrecisionOf<T>>(value); };
  int64_t i = 0;
  for (; i + kStep<T> <= n; i += kStep<T>) {
    Step<T> values;
    load_step(x + i, values);
    store_step(function(values), y + i, stream);
  }
  for (; i + kLanes <= n; i += kLanes) store(function(load(d, x + i)), d, y + i);
  if (i < n) store_part(function(load_part(d, x + i, n - i)), d, y + i, n - i);
}

template <class Function, class T>
void gated(const T* gate, const T* up, T* y, int64_t n, bool stream) {
  const D d;
  const auto function = [](auto value, auto factor) { return mul(Function::template of<kPrecisionOf<T>>(value), factor); };
  int64_t i = 0;
  for (; i + kStep<T> <= n; i += kStep<T>) {
    Step<T> values, factors;
    load_step(gate + i, values);
    load_step(up + i, factors);
    store_step(function(values, factors), y + i, stream);
  }
  for (; i + kLanes <= n; i += kLanes) store(function(load(d, gate + i), load(d, up + i)), d, y + i);
  if (i < n) store_part(function(load_part(d, gate + i, n - i), load_part(d, up + i, n - i)), d, y + i, n - i);
}

template <class Function, class T>
void pieces(const ActivationArgs& args, int64_t begin, int64_t end) {
  const int64_t per_row = args.pieces_per_row();
  const bool large = worth_streaming(args.y);
  for (int64_t item = begin; item < end; ++item) {
    const int64_t row = item / per_row;
    const int64_t first = item % per_row * ActivationArgs::kPiece;
    const int64_t left = args.gate.size - first;
    const int64_t n = left < ActivationArgs::kPiece ? left : ActivationArgs::kPiece;
    const T* gate = args.gate.row<T>(row) + first;
    T* y = args.y.row<T>(row) + first;
    if (args.up.data) {
      gated<Function>(gate, args.up.row<T>(row) + first, y, n, can_stream(y, large));
    } else {
      plain<Function>(gate, y, n, can_stream(y, large));
    }
  }
  if (large) hwy::FlushStream();
}

template <class Function>
void pieces_of_type(const ActivationArgs& args, int64_t begin, int64_t end) {
  switch (args.gate.type) {
    case DType::kF16: return pieces<Function, F16>(args, begin, end);
    case DType::kBF16: return pieces<Function, BF16>(args, begin, end);
    default: return pieces<Function, float>(args, begin, end);
  }
}

}  // namespace

void activation_pieces(const ActivationArgs& args, int64_t begin, int64_t end) {
  switch (args.function) {
    case Activation::kGelu: return pieces_of_type<Gelu>(args, begin, end);
    case Activation::kGeluTanh: return pieces_of_type<GeluTanh>(args, begin, end);
    case Activation::kSigmoid: return pieces_of_type<Sigmoid>(args, begin, end);
    default: return pieces_of_type<Silu>(args, begin, end);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace wick::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace wick::cpu {

void activation(Context& ctx, const ActivationArgs& args) {
  const auto work = WICK_DISPATCH(ctx.isa(), activation_pieces);
  const int64_t pieces = args.gate.count * args.pieces_per_row();
  ctx.pool().parallel_for(pieces, share_grain(std::min<int64_t>(args.gate.size, ActivationArgs::kPiece)),
                          [&](int64_t begin, int64_t end, int) { work(args, begin, end); });
}

}  // namespace wick::cpu
#endif
