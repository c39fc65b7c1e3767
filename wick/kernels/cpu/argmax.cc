#include "wick/kernels/argmax.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "wick/kernels/cpu/argmax.cc"
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

// The largest element, or NaN when there is one.
template <class T>
float largest_of(const T* x, int64_t n) {
  const D d;
  const V lowest = hn::Set(d, -__builtin_inff());
  V largest[2] = {lowest, lowest};
  auto nan = hn::IsNaN(lowest);
  int64_t i = 0;
  for (; i + 2 * kLanes <= n; i += 2 * kLanes) {
    for (int j = 0; j < 2; ++j) {
      const V v = load(d, x + i + j * kLanes);
      nan = hn::Or(nan, hn::IsNaN(v));
      largest[j] = hn::Max(largest[j], v);
    }
  }
  for (; i < n; i += kLanes) {
    const int64_t left = n - i < kLanes ? n - i : kLanes;
    const V v = hn::IfThenElse(hn::FirstN(d, static_cast<size_t>(left)), load_part(d, x + i, left), lowest);
    nan = hn::Or(nan, hn::IsNaN(v));
    largest[0] = hn::Max(largest[0], v);
  }
  if (!hn::AllFalse(d, nan)) return __builtin_nanf("");
  return hn::GetLane(hn::MaxOfLanes(d, hn::Max(largest[0], largest[1])));
}

// The first position of `value`, which is there.
template <class T>
int64_t position_of(float value, const T* x, int64_t n) {
  const D d;
  const V wanted = hn::Set(d, value);
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    const auto found = hn::Eq(load(d, x + i), wanted);
    if (!hn::AllFalse(d, found)) return i + hn::FindFirstTrue(d, found);
  }
  while (i < n && static_cast<float>(x[i]) != value) ++i;
  return i;
}

template <class T>
void rows(const ArgmaxArgs& args, int64_t begin, int64_t end) {
  for (int64_t row = begin; row < end; ++row) {
    const T* x = args.x.row<T>(row);
    const float largest = largest_of(x, args.x.size);
    args.y[row] = largest != largest ? -1 : static_cast<int32_t>(position_of(largest, x, args.x.size));
  }
}

}  // namespace

void argmax_rows(const ArgmaxArgs& args, int64_t begin, int64_t end) {
  switch (args.x.type) {
    case DType::kF16: return rows<F16>(args, begin, end);
    case DType::kBF16: return rows<BF16>(args, begin, end);
    default: return rows<float>(args, begin, end);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace wick::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace wick::cpu {

void argmax(Context& ctx, const ArgmaxArgs& args) {
  const auto rows = WICK_DISPATCH(ctx.isa(), argmax_rows);
  ctx.pool().parallel_for(args.x.count, share_grain(args.x.size), [&](int64_t begin, int64_t end, int) { rows(args, begin, end); });
}

}  // namespace wick::cpu
#endif
