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

[[maybe_unused]] HWY_INLINE void rotate_pair(V cos, V sin, V x0, V x1, V& y0, V& y1) {
  y0 = hn::Sub(hn::Mul(x0, cos), hn::Mul(x1, sin));
  y1 = hn::Add(hn::Mul(x0, sin), hn::Mul(x1, cos));
}

// Pairs as they lie in memory, 2 kLanes elements from p, and the first and second of each.
template <class T>
HWY_INLINE void load_pairs(const T* p, V& first, V& second) {
  const D d;
  if constexpr (kOrderOf<T> == Order::kSplit || sizeof(T) == sizeof(float)) {
    load_two<Order::kSplit>(d, p, first, second);
  } else {
    const hn::Rebind<uint16_t, D> d16;
    hn::Vec<decltype(d16)> bits0, bits1;
    hn::LoadInterleaved2(d16, &p->bits, bits0, bits1);
    first = widen(d, bits0, p);
    second = widen(d, bits1, p);
  }
}

template <class T>
HWY_INLINE void store_pairs(V first, V second, T* p, bool stream) {
  const D d;
  if constexpr (sizeof(T) == sizeof(float)) {
    if (stream) {
      alignas(64) float pairs[2 * kLanes];
      hn::StoreInterleaved2(first, second, d, pairs);
      store_two<Order::kPlain>(hn::Load(d, pairs), hn::Load(d, pairs + kLanes), d, p, true);
    } else {
      hn::StoreInterleaved2(first, second, d, p);
    }
  } else if constexpr (kOrderOf<T> == Order::kSplit) {
    store_two<Order::kSplit>(first, second, d, p, stream);
  } else {
    const hn::Rebind<uint16_t, D> d16;
    hn::StoreInterleaved2(narrow(d, first, p), narrow(d, second, p), d16, &p->bits);
  }
}

// The pairs of one head, (i, i + half) or (2i, 2i + 1), in vectors; returns the first i not done.
template <class T, class C>
int64_t rotate_halves(const T* x, const C* cos, const C* sin, T* y, int64_t half, bool stream) {
  const D d;
  constexpr Order kOrder = kOrderOf<T>;
  int64_t i = 0;
  for (; i + 2 * kLanes <= half; i += 2 * kLanes) {
    V cos_a, cos_b, sin_a, sin_b;
    load_two<kOrder>(d, cos + i, cos_a, cos_b);
    load_two<kOrder>(d, sin + i, sin_a, sin_b);
    V x0a, x0b, x1a, x1b;
    load_two<kOrder>(d, x + i, x0a, x0b);
    load_two<kOrder>(d, x + i + half, x1a, x1b);
    V y0a, y0b, y1a, y1b;
    rotate_pair(cos_a, sin_a, x0a, x1a, y0a, y1a);
    rotate_pair(cos_b, sin_b, x0b, x1b, y0b, y1b);
    store_two<kOrder>(y0a, y0b, d, y + i, stream);
    store_two<kOrder>(y1a, y1b, d, y + i + half, stream);
  }
  for (; i + kLanes <= half; i += kLanes) {
    V y0, y1;
    rotate_pair(load(d, cos + i), load(d, sin + i), load(d, x + i), load(d, x + i + half), y0, y1);
    store(y0, d, y + i);
    store(y1, d, y + i + half);
  }
  return i;
}

template <class T, class C>
int64_t rotate_pairs(const T* x, const C* cos, const C* sin, T* y, int64_t half, bool stream) {
  const D d;
  int64_t i = 0;
  for (; i + kLanes <= half; i += kLanes) {
    V x0, x1, y0, y1;
    load_pairs(x + 2 * i, x0, x1);
    rotate_pair(load(d, cos + i), load(d, sin + i), x0, x1, y0, y1);
    store_pairs(y0, y1, y + 2 * i, stream);
  }
  return i;
}

// Vectors and the scalars behind them round alike.
template <bool kInterleaved, class T, class C>
void rotate(const T* x, const C* cos, const C* sin, T* y, int64_t half, bool stream) {
  int64_t i = 0;
  if constexpr (kLanes > 1) i = kInterleaved ? rotate_pairs(x, cos, sin, y, half, stream) : rotate_halves(x, cos, sin, y, half, stream);
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

// The heads of one (a, b): items [begin, end) of the innermost dimension.
template <bool kInterleaved, class T, class C>
void heads_in_a_row(const RopeArgs& args, int64_t a, int64_t b, int64_t begin, int64_t end, bool large) {
  constexpr int64_t kAhead = 4096 / static_cast<int64_t>(sizeof(T));  // elements
  constexpr int64_t kLine = 64 / static_cast<int64_t>(sizeof(T));
  const T* x = element<T>(args.x, a, b, begin);
  T* y = element<T>(args.y, a, b, begin);
  const C* cos = element<C>(args.cos, a, b, begin);
  const C* sin = element<C>(args.sin, a, b, begin);
  for (int64_t c = begin; c < end; ++c) {
    for (int64_t i = 0; i < args.head_dim; i += kLine) hwy::Prefetch(x + kAhead + i);
    rotate<kInterleaved>(x, cos, sin, y, args.half, can_stream(y, large));
    if (x != y) {
      for (int64_t i = 2 * args.half; i < args.head_dim; ++i) y[i] = x[i];
    }
    x += args.x.strides[2];
    y += args.y.strides[2];
    cos += args.cos.strides[2];
    sin += args.sin.strides[2];
  }
}

template <class T, class C>
void heads(const RopeArgs& args, int64_t begin, int64_t end) {
  const int64_t bytes = args.sizes[0] * args.sizes[1] * args.sizes[2] * args.head_dim * static_cast<int64_t>(sizeof(T));
  const bool large = worth_streaming(bytes) && args.half % (2 * kLanes) == 0;
  const auto run = args.interleaved ? heads_in_a_row<true, T, C> : heads_in_a_row<false, T, C>;
  while (begin < end) {
    const int64_t outer = begin / args.sizes[2];
    const int64_t first = begin - outer * args.sizes[2];
    const int64_t last = end - begin < args.sizes[2] - first ? first + end - begin : args.sizes[2];
    run(args, outer / args.sizes[1], outer % args.sizes[1], first, last, large);
    begin += last - first;
  }
  if (large) hwy::FlushStream();
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
