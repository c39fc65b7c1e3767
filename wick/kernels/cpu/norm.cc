#include "wick/kernels/norm.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "wick/kernels/cpu/norm.cc"
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
constexpr int64_t kSumBlock = 1024;  // elements per f32 chain: bounds its rounding error whatever the row's size and the lanes

// Where the values to normalise come from: a row as it is, or r + x, stored to r.
template <class T>
struct Plain {
  const T* x;
  HWY_INLINE V take(int64_t i) const { return load(D(), x + i); }
  HWY_INLINE V take_part(int64_t i, int64_t n) const { return load_part(D(), x + i, n); }
};

template <class T>
struct Sum {
  const T* x;
  T* r;
  HWY_INLINE V take(int64_t i) const {
    const D d;
    store(hn::Add(load(d, r + i), load(d, x + i)), d, r + i);
    return load(d, r + i);
  }
  HWY_INLINE V take_part(int64_t i, int64_t n) const {
    const D d;
    store_part(hn::Add(load_part(d, r + i, n), load_part(d, x + i, n)), d, r + i, n);
    return load_part(d, r + i, n);
  }
};

template <class Source>
double sum_of_squares(const Source& source, int64_t n) {
  const D d;
  double total = 0;
  for (int64_t begin = 0; begin < n; begin += kSumBlock) {
    const int64_t end = n - begin < kSumBlock ? n : begin + kSumBlock;
    V sums[4] = {hn::Zero(d), hn::Zero(d), hn::Zero(d), hn::Zero(d)};
    int64_t i = begin;
    for (; i + 4 * kLanes <= end; i += 4 * kLanes) {
      for (int j = 0; j < 4; ++j) {
        const V x = source.take(i + j * kLanes);
        sums[j] = hn::MulAdd(x, x, sums[j]);
      }
    }
    for (; i + kLanes <= end; i += kLanes) {
      const V x = source.take(i);
      sums[0] = hn::MulAdd(x, x, sums[0]);
    }
    if (i < end) {
      const V x = source.take_part(i, end - i);
      sums[1] = hn::MulAdd(x, x, sums[1]);
    }
    total += hn::GetLane(hn::SumOfLanes(d, hn::Add(hn::Add(sums[0], sums[1]), hn::Add(sums[2], sums[3]))));
  }
  return total;
}

template <class T, class W>
void scale_row(const T* x, const W* weight, float scale, T* y, int64_t n) {
  const D d;
  const V factor = hn::Set(d, scale);
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) store(hn::Mul(hn::Mul(load(d, x + i), factor), load(d, weight + i)), d, y + i);
  if (i < n) store_part(hn::Mul(hn::Mul(load_part(d, x + i, n - i), factor), load_part(d, weight + i, n - i)), d, y + i, n - i);
}

template <class T, class W>
void rows(const RmsNormArgs& args, int64_t begin, int64_t end) {
  const int64_t n = args.x.size;
  for (int64_t row = begin; row < end; ++row) {
    const T* x = args.x.row<T>(row);
    T* r = args.residual.data ? args.residual.row<T>(row) : nullptr;
    const double sum = r ? sum_of_squares(Sum<T>{x, r}, n) : sum_of_squares(Plain<T>{x}, n);
    const float scale = static_cast<float>(1.0 / __builtin_sqrt(sum / static_cast<double>(n) + args.eps));
    scale_row(r ? r : x, reinterpret_cast<const W*>(args.weight), scale, args.y.row<T>(row), n);
  }
}

}  // namespace

void rms_norm_rows(const RmsNormArgs& args, int64_t begin, int64_t end) {
  const bool f32_weight = args.weight_type == DType::kF32;
  switch (args.x.type) {
    case DType::kF16: return f32_weight ? rows<F16, float>(args, begin, end) : rows<F16, F16>(args, begin, end);
    case DType::kBF16: return f32_weight ? rows<BF16, float>(args, begin, end) : rows<BF16, BF16>(args, begin, end);
    default: return rows<float, float>(args, begin, end);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace wick::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace wick::cpu {

void rms_norm(Context& ctx, const RmsNormArgs& args) {
  const auto rows = WICK_DISPATCH(ctx.isa(), rms_norm_rows);
  ctx.pool().parallel_for(args.x.count, share_grain(args.x.size), [&](int64_t begin, int64_t end, int) { rows(args, begin, end); });
}

}  // namespace wick::cpu
#endif
