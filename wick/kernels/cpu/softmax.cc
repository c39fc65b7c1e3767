#include "wick/kernels/softmax.h"

#include <cmath>

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

// Where e^(x - shift) goes: to memory, or nowhere when only the sum is wanted.
struct Kept {
  float* y;
  HWY_INLINE void put(V e, int64_t i) const { store(e, D(), y + i); }
  HWY_INLINE void put_part(V e, int64_t i, int64_t n) const { store_part(e, D(), y + i, n); }
};
struct Dropped {
  HWY_INLINE void put(V, int64_t) const {}
  HWY_INLINE void put_part(V, int64_t, int64_t) const {}
};

// Puts e^(x - shift); returns the sum.
template <class Out>
double exponentials(const float* x, float shift, const Out& out, int64_t n) {
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
        out.put(e, i + j * kLanes);
        sums[j] = hn::Add(sums[j], e);
      }
    }
    for (; i + kLanes <= end; i += kLanes) {
      const V e = exp(d, hn::Sub(load(d, x + i), minus));
      out.put(e, i);
      sums[0] = hn::Add(sums[0], e);
    }
    if (i < end) {
      const V e = exp(d, hn::Sub(load_part(d, x + i, end - i), minus));
      out.put_part(e, i, end - i);
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
    const double sum = exponentials(buffer, largest_of(buffer, n), Kept{buffer}, n);
    write_row(buffer, static_cast<float>(1.0 / sum), args.y.row<T>(row), args.y.step, n);
  }
}

// y = (x - largest) - log_sum
template <class T>
void shift_to(const float* x, float largest, float log_sum, T* y, int64_t n) {
  const D d;
  const V m = hn::Set(d, largest);
  const V log = hn::Set(d, log_sum);
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) store(hn::Sub(hn::Sub(load(d, x + i), m), log), d, y + i);
  if (i < n) store_part(hn::Sub(hn::Sub(load_part(d, x + i, n - i), m), log), d, y + i, n - i);
}

template <class T>
void log_rows(const SoftmaxArgs& args, float* buffer, int64_t begin, int64_t end) {
  const int64_t n = args.x.size;
  for (int64_t row = begin; row < end; ++row) {
    read_row(args.x.row<T>(row), args.x.step, buffer, n);
    const float largest = largest_of(buffer, n);
    const float log_sum = static_cast<float>(::log(exponentials(buffer, largest, Dropped(), n)));
    T* y = args.y.row<T>(row);
    if (args.y.step == 1) {
      shift_to(buffer, largest, log_sum, y, n);
    } else {
      shift_to(buffer, largest, log_sum, buffer, n);
      for (int64_t i = 0; i < n; ++i) y[i * args.y.step] = T(buffer[i]);
    }
  }
}

// Contiguous f32 needs no buffer: the exponentials wait in y.
void plain_rows(const SoftmaxArgs& args, int64_t begin, int64_t end) {
  const int64_t n = args.x.size;
  for (int64_t row = begin; row < end; ++row) {
    const float* x = args.x.row<float>(row);
    float* y = args.y.row<float>(row);
    const double sum = exponentials(x, largest_of(x, n), Kept{y}, n);
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

void log_softmax_rows(const SoftmaxArgs& args, float* buffer, int64_t begin, int64_t end) {
  switch (args.x.type) {
    case DType::kF16: return log_rows<F16>(args, buffer, begin, end);
    case DType::kBF16: return log_rows<BF16>(args, buffer, begin, end);
    default: return log_rows<float>(args, buffer, begin, end);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace wick::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace wick::cpu {

namespace {

void run(Context& ctx, const SoftmaxArgs& args, bool buffered, void (*rows)(const SoftmaxArgs&, float*, int64_t, int64_t)) {
  const int64_t n = args.x.size;
  const ScratchScope scope(ctx);
  float* buffers = buffered ? ctx.scratch<float>(mul_or_fail<int64_t>(n, ctx.threads(), "softmax: scratch")).data() : nullptr;
  ctx.pool().parallel_for(args.x.count, share_grain(n), [&](int64_t begin, int64_t end, int worker) {
    rows(args, buffers ? buffers + worker * n : nullptr, begin, end);
  });
}

}  // namespace

void softmax(Context& ctx, const SoftmaxArgs& args) {
  const bool plain = args.x.type == DType::kF32 && args.x.step == 1 && args.y.step == 1;
  run(ctx, args, !plain, WICK_DISPATCH(ctx.isa(), softmax_rows));
}

void log_softmax(Context& ctx, const SoftmaxArgs& args) { run(ctx, args, true, WICK_DISPATCH(ctx.isa(), log_softmax_rows)); }

}  // namespace wick::cpu
#endif
