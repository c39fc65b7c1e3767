#include "wick/kernels/softmax.h"

#include "wick/base/checked.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "wick/kernels/cpu/softmax.cc"
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
constexpr int64_t kSumBlock = 1024;  // elements per f32 chain: bounds its rounding error whatever the row's size and the lanes

// NaN elements may or may not count: they reach the result through their exponentials.
float largest_of(const float* x, int64_t n) {
  const D d;
  V largest = hn::Set(d, -__builtin_inff());
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) largest = hn::Max(largest, load(d, x + i));
  if (i < n) largest = hn::Max(largest, hn::IfThenElse(hn::FirstN(d, static_cast<size_t>(n - i)), load_part(d, x + i, n - i), largest));
  return hn::GetLane(hn::MaxOfLanes(d, largest));
}

// y = e^(x - shift); returns the sum.
double exponentials(const float* x, float shift, float* y, int64_t n) {
  const D d;
  const V minus = hn::Set(d, shift);
  double total = 0;
  for (int64_t begin = 0; begin < n; begin += kSumBlock) {
    const int64_t end = n - begin < kSumBlock ? n : begin + kSumBlock;
    V sums[4] = {hn::Zero(d), hn::Zero(d), hn::Zero(d), hn::Zero(d)};
    int64_t i = begin;
    for (; i + 4 * kLanes <= end; i += 4 * kLanes) {
      for (int j = 0; j < 4; ++j) {
        const V e = exp(d, hn::Sub(load(d, x + i + j * kLanes), minus));
        store(e, d, y + i + j * kLanes);
        sums[j] = hn::Add(sums[j], e);
      }
    }
    for (; i + kLanes <= end; i += kLanes) {
      const V e = exp(d, hn::Sub(load(d, x + i), minus));
      store(e, d, y + i);
      sums[0] = hn::Add(sums[0], e);
    }
    if (i < end) {
      const V e = exp(d, hn::Sub(load_part(d, x + i, end - i), minus));
      store_part(e, d, y + i, end - i);
      sums[1] = hn::Add(sums[1], hn::IfThenElseZero(hn::FirstN(d, static_cast<size_t>(end - i)), e));
    }
    total += hn::GetLane(hn::SumOfLanes(d, hn::Add(hn::Add(sums[0], sums[1]), hn::Add(sums[2], sums[3]))));
  }
  return total;
}

template <class T>
void scale_to(const float* e, float factor, T* y, int64_t n) {
  const D d;
  const V scale = hn::Set(d, factor);
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) store(hn::Mul(load(d, e + i), scale), d, y + i);
  if (i < n) store_part(hn::Mul(load_part(d, e + i, n - i), scale), d, y + i, n - i);
}

template <class T>
void read_row(const T* x, int64_t step, float* out, int64_t n) {
  const D d;
  int64_t i = 0;
  if (step == 1) {
    for (; i + kLanes <= n; i += kLanes) store(load(d, x + i), d, out + i);
  }
  for (; i < n; ++i) out[i] = static_cast<float>(x[i * step]);
}

template <class T>
void write_row(float* e, float factor, T* y, int64_t step, int64_t n) {
  if (step == 1) return scale_to(e, factor, y, n);
  scale_to(e, factor, e, n);
  for (int64_t i = 0; i < n; ++i) y[i * step] = T(e[i]);
}

template <class T>
void rows(const SoftmaxArgs& args, float* buffer, int64_t begin, int64_t end) {
  const int64_t n = args.x.size;
  for (int64_t row = begin; row < end; ++row) {
    read_row(args.x.row<T>(row), args.x.step, buffer, n);
    const double sum = exponentials(buffer, largest_of(buffer, n), buffer, n);
    write_row(buffer, static_cast<float>(1.0 / sum), args.y.row<T>(row), args.y.step, n);
  }
}

// Contiguous f32 needs no buffer: the exponentials wait in y.
void plain_rows(const SoftmaxArgs& args, int64_t begin, int64_t end) {
  const int64_t n = args.x.size;
  for (int64_t row = begin; row < end; ++row) {
    const float* x = args.x.row<float>(row);
    float* y = args.y.row<float>(row);
    const double sum = exponentials(x, largest_of(x, n), y, n);
    scale_to(y, static_cast<float>(1.0 / sum), y, n);
  }
}

}  // namespace

void softmax_rows(const SoftmaxArgs& args, float* buffer, int64_t begin, int64_t end) {
  if (!buffer) return plain_rows(args, begin, end);
  switch (args.x.type) {
    case DType::kF16: return rows<F16>(args, buffer, begin, end);
    case DType::kBF16: return rows<BF16>(args, buffer, begin, end);
    default: return rows<float>(args, buffer, begin, end);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace wick::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace wick::cpu {

void softmax(Context& ctx, const SoftmaxArgs& args) {
  const auto rows = WICK_DISPATCH(ctx.isa(), softmax_rows);
  const int64_t n = args.x.size;
  const bool plain = args.x.type == DType::kF32 && args.x.step == 1 && args.y.step == 1;
  const ScratchScope scope(ctx);
  float* buffers = plain ? nullptr : ctx.scratch<float>(mul_or_fail<int64_t>(n, ctx.threads(), "softmax: scratch")).data();
  ctx.pool().parallel_for(args.x.count, share_grain(n), [&](int64_t begin, int64_t end, int worker) {
    rows(args, buffers ? buffers + worker * n : nullptr, begin, end);
  });
}

}  // namespace wick::cpu
#endif
