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

HWY_INLINE V silu_of(V x) {
  const D d;
  const V one = hn::Set(d, 1.0f);
  const V e = exp(d, hn::Neg(hn::Abs(x)));
  const V numerator = hn::IfThenElse(hn::Lt(x, hn::Zero(d)), e, one);
  return hn::Mul(x, hn::Div(numerator, hn::Add(one, e)));
}

template <class T>
struct Silu {
  static void run(const T* gate, const T*, T* y, int64_t n) {
    const D d;
    int64_t i = 0;
    for (; i + kLanes <= n; i += kLanes) store(silu_of(load(d, gate + i)), d, y + i);
    if (i < n) store_part(silu_of(load_part(d, gate + i, n - i)), d, y + i, n - i);
  }
};

template <class T>
struct Swiglu {
  static void run(const T* gate, const T* up, T* y, int64_t n) {
    const D d;
    int64_t i = 0;
    for (; i + kLanes <= n; i += kLanes) store(hn::Mul(silu_of(load(d, gate + i)), load(d, up + i)), d, y + i);
    if (i < n) store_part(hn::Mul(silu_of(load_part(d, gate + i, n - i)), load_part(d, up + i, n - i)), d, y + i, n - i);
  }
};

template <template <class> class Function, class T>
void pieces(const ActivationArgs& args, int64_t begin, int64_t end) {
  const int64_t per_row = args.pieces_per_row();
  for (int64_t item = begin; item < end; ++item) {
    const int64_t row = item / per_row;
    const int64_t first = item % per_row * ActivationArgs::kPiece;
    const int64_t left = args.gate.size - first;
    const T* up = args.up.data ? args.up.row<T>(row) + first : nullptr;
    Function<T>::run(args.gate.row<T>(row) + first, up, args.y.row<T>(row) + first,
                     left < ActivationArgs::kPiece ? left : ActivationArgs::kPiece);
  }
}

template <template <class> class Function>
void pieces_of_type(const ActivationArgs& args, int64_t begin, int64_t end) {
  switch (args.gate.type) {
    case DType::kF16: return pieces<Function, F16>(args, begin, end);
    case DType::kBF16: return pieces<Function, BF16>(args, begin, end);
    default: return pieces<Function, float>(args, begin, end);
  }
}

}  // namespace

void silu_pieces(const ActivationArgs& args, int64_t begin, int64_t end) { pieces_of_type<Silu>(args, begin, end); }
void swiglu_pieces(const ActivationArgs& args, int64_t begin, int64_t end) { pieces_of_type<Swiglu>(args, begin, end); }

}  // namespace HWY_NAMESPACE
}  // namespace wick::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace wick::cpu {
namespace {

void run(Context& ctx, const ActivationArgs& args, void (*function)(const ActivationArgs&, int64_t, int64_t)) {
  const int64_t pieces = args.gate.count * args.pieces_per_row();
  ctx.pool().parallel_for(pieces, share_grain(std::min<int64_t>(args.gate.size, ActivationArgs::kPiece)),
                          [&](int64_t begin, int64_t end, int) { function(args, begin, end); });
}

}  // namespace

void silu(Context& ctx, const ActivationArgs& args) { run(ctx, args, WICK_DISPATCH(ctx.isa(), silu_pieces)); }
void swiglu(Context& ctx, const ActivationArgs& args) { run(ctx, args, WICK_DISPATCH(ctx.isa(), swiglu_pieces)); }

}  // namespace wick::cpu
#endif
