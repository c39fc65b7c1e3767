#include "wick/kernels/activation.h"

#include <algorithm>

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
HWY_INLINE V times_sigmoid(V x, V t) {
  const D d;
  return hn::Div(x, hn::Add(hn::Set(d, 1.0f), exp_of_minus(d, t)));
}

struct Silu {
  static HWY_INLINE V of(V x) { return times_sigmoid(x, x); }
};

struct Sigmoid {
  static HWY_INLINE V of(V x) {
    const D d;
    return hn::IfThenElse(hn::IsNaN(x), x, times_sigmoid(hn::Set(d, 1.0f), x));
  }
};

struct GeluTanh {
  static HWY_INLINE V of(V x) {
    const D d;
    const V cubic = hn::MulAdd(hn::Mul(x, x), hn::Set(d, 0.0713548162726f), hn::Set(d, 1.59576912161f));  // 2 sqrt(2 / pi) (0.044715 x^2 + 1)
    return times_sigmoid(x, hn::Mul(x, cubic));
  }
};

struct Gelu {
  // erfc(z) = t e^(p(t) - z^2), t = 1 / (1 + z / 2), z >= 0: relative error 1.2e-7 (Chebyshev fit, Press et al., Numerical Recipes, 6.2).
  static HWY_INLINE V erfc(V z) {
    const D d;
    const V t = hn::Div(hn::Set(d, 1.0f), hn::MulAdd(z, hn::Set(d, 0.5f), hn::Set(d, 1.0f)));
    V p = hn::Set(d, 0.17087277f);
    p = hn::MulAdd(p, t, hn::Set(d, -0.82215223f));
    p = hn::MulAdd(p, t, hn::Set(d, 1.48851587f));
    p = hn::MulAdd(p, t, hn::Set(d, -1.13520398f));
    p = hn::MulAdd(p, t, hn::Set(d, 0.27886807f));
    p = hn::MulAdd(p, t, hn::Set(d, -0.18628806f));
    p = hn::MulAdd(p, t, hn::Set(d, 0.09678418f));
    p = hn::MulAdd(p, t, hn::Set(d, 0.37409196f));
    p = hn::MulAdd(p, t, hn::Set(d, 1.00002368f));
    p = hn::MulAdd(p, t, hn::Set(d, -1.26551223f));
    return hn::Mul(t, exp(d, hn::NegMulAdd(z, z, p)));
  }

  // Of -inf the product of infinity and zero: NaN, as the other two.
  static HWY_INLINE V of(V x) {
    const D d;
    const V tail = hn::Mul(hn::Set(d, 0.5f), erfc(hn::Mul(hn::Abs(x), hn::Set(d, 0.707106781187f))));
    return hn::Mul(x, hn::IfThenElse(hn::Lt(x, hn::Zero(d)), tail, hn::Sub(hn::Set(d, 1.0f), tail)));
  }
};

template <class Function, class T>
void plain(const T* x, T* y, int64_t n, bool stream) {
  const D d;
  constexpr Order kOrder = kOrderOf<T>;
  int64_t i = 0;
  for (; i + 2 * kLanes <= n; i += 2 * kLanes) {
    V a, b;
    load_two<kOrder>(d, x + i, a, b);
    store_two<kOrder>(Function::of(a), Function::of(b), d, y + i, stream);
  }
  for (; i + kLanes <= n; i += kLanes) store(Function::of(load(d, x + i)), d, y + i);
  if (i < n) store_part(Function::of(load_part(d, x + i, n - i)), d, y + i, n - i);
}

template <class Function, class T>
void gated(const T* gate, const T* up, T* y, int64_t n, bool stream) {
  const D d;
  constexpr Order kOrder = kOrderOf<T>;
  int64_t i = 0;
  for (; i + 2 * kLanes <= n; i += 2 * kLanes) {
    V gate0, gate1, up0, up1;
    load_two<kOrder>(d, gate + i, gate0, gate1);
    load_two<kOrder>(d, up + i, up0, up1);
    store_two<kOrder>(hn::Mul(Function::of(gate0), up0), hn::Mul(Function::of(gate1), up1), d, y + i, stream);
  }
  for (; i + kLanes <= n; i += kLanes) store(hn::Mul(Function::of(load(d, gate + i)), load(d, up + i)), d, y + i);
  if (i < n) store_part(hn::Mul(Function::of(load_part(d, gate + i, n - i)), load_part(d, up + i, n - i)), d, y + i, n - i);
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
