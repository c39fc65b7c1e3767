#include "wick/kernels/rope.h"

#include "wick/kernels/rows.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "wick/kernels/cpu/rope.cc"
#include "wick/kernels/cpu/foreach_isa.h"
// After it: compiled per instruction set.
#include "wick/kernels/cpu/convert-inl.h"

HWY_BEFORE_NAMESPACE();
namespace wick::cpu {
namespace HWY_NAMESPACE {
namespace {
namespace hn = hwy::HWY_NAMESPACE;

using D = hn::CappedTag<float, 16>;
using V = hn::Vec<D>;
constexpr int64_t kLanes = static_cast<int64_t>(hn::MaxLanes(D()));

HWY_INLINE void load_pairs(const float* p, V& first, V& second) { hn::LoadInterleaved2(D(), p, first, second); }
HWY_INLINE void store_pairs(V first, V second, float* p) { hn::StoreInterleaved2(first, second, D(), p); }

template <class Half>
HWY_INLINE void load_pairs(const Half* p, V& first, V& second) {
  const hn::Rebind<uint16_t, D> d16;
  hn::Vec<decltype(d16)> bits0, bits1;
  hn::LoadInterleaved2(d16, &p->bits, bits0, bits1);
  first = widen(D(), bits0, p);
  second = widen(D(), bits1, p);
}

template <class Half>
HWY_INLINE void store_pairs(V first, V second, Half* p) {
  const hn::Rebind<uint16_t, D> d16;
  hn::StoreInterleaved2(narrow(D(), first, p), narrow(D(), second, p), d16, &p->bits);
}

// The pairs of one head: (i, i + half) or (2i, 2i + 1). Vectors and the scalars behind them round alike.
template <bool kInterleaved, class T, class C>
void rotate(const T* x, const C* cos, const C* sin, T* y, int64_t half) {
  const D d;
  int64_t i = 0;
  for (; kLanes > 1 && i + kLanes <= half; i += kLanes) {
    V x0, x1;
    if constexpr (kInterleaved) {
      load_pairs(x + 2 * i, x0, x1);
    } else {
      x0 = load(d, x + i);
      x1 = load(d, x + i + half);
    }
    const V c = load(d, cos + i);
    const V s = load(d, sin + i);
    const V y0 = hn::Sub(hn::Mul(x0, c), hn::Mul(x1, s));
    const V y1 = hn::Add(hn::Mul(x0, s), hn::Mul(x1, c));
    if constexpr (kInterleaved) {
      store_pairs(y0, y1, y + 2 * i);
    } else {
      store(y0, d, y + i);
      store(y1, d, y + i + half);
    }
  }
  for (; i < half; ++i) {
    const int64_t first = kInterleaved ? 2 * i : i;
    const int64_t second = kInterleaved ? 2 * i + 1 : i + half;
    const float x0 = static_cast<float>(x[first]);
    const float x1 = static_cast<float>(x[second]);
    const float c = static_cast<float>(cos[i]);
    const float s = static_cast<float>(sin[i]);
    y[first] = T(x0 * c - x1 * s);
    y[second] = T(x0 * s + x1 * c);
  }
}

template <class T>
HWY_INLINE T* element(const RopeOperand& operand, int64_t a, int64_t b, int64_t c) {
  return reinterpret_cast<T*>(operand.data) + a * operand.strides[0] + b * operand.strides[1] + c * operand.strides[2];
}

template <class T, class C>
void heads(const RopeArgs& args, int64_t begin, int64_t end) {
  for (int64_t item = begin; item < end; ++item) {
    const int64_t c = item % args.sizes[2];
    const int64_t b = item / args.sizes[2] % args.sizes[1];
    const int64_t a = item / args.sizes[2] / args.sizes[1];
    const T* x = element<T>(args.x, a, b, c);
    T* y = element<T>(args.y, a, b, c);
    const C* cos = element<C>(args.cos, a, b, c);
    const C* sin = element<C>(args.sin, a, b, c);
    if (args.interleaved) {
      rotate<true>(x, cos, sin, y, args.half);
    } else {
      rotate<false>(x, cos, sin, y, args.half);
    }
    if (x == y) continue;
    for (int64_t i = 2 * args.half; i < args.head_dim; ++i) y[i] = x[i];
  }
}

}  // namespace

void rope_heads(const RopeArgs& args, int64_t begin, int64_t end) {
  const bool f32_table = args.table_type == DType::kF32;
  switch (args.type) {
    case DType::kF16: return f32_table ? heads<F16, float>(args, begin, end) : heads<F16, F16>(args, begin, end);
    case DType::kBF16: return f32_table ? heads<BF16, float>(args, begin, end) : heads<BF16, BF16>(args, begin, end);
    default: return heads<float, float>(args, begin, end);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace wick::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace wick::cpu {

void rope(Context& ctx, const RopeArgs& args) {
  const auto heads = WICK_DISPATCH(ctx.isa(), rope_heads);
  const int64_t items = args.sizes[0] * args.sizes[1] * args.sizes[2];
  ctx.pool().parallel_for(items, share_grain(args.head_dim), [&](int64_t begin, int64_t end, int) { heads(args, begin, end); });
}

}  // namespace wick::cpu
#endif
