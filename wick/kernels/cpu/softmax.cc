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

// The largest of x, which is copied to `out` as f32 on the way unless that is null. NaN elements may or may not count: they reach the result
// through their exponentials.
template <Order kOrder, class T>
float read_row(const T* x, float* out, int64_t n) {
  const D d;
  V largest0 = hn::Set(d, -__builtin_inff());
  V largest1 = largest0;
  int64_t i = 0;
  for (; i + 2 * kLanes <= n; i += 2 * kLanes) {
    V a, b;
    load_two<kOrder>(d, x + i, a, b);
    largest0 = hn::Max(largest0, a);
    largest1 = hn::Max(largest1, b);
    if (out) store_two<Order::kPlain>(a, b, d, out + i, false);
  }
  for (; i + kLanes <= n; i += kLanes) {
    const V a = load(d, x + i);
    largest0 = hn::Max(largest0, a);
    if (out) store(a, d, out + i);
  }
  if (i < n) {
    const V a = load_part(d, x + i, n - i);
    largest1 = hn::Max(largest1, hn::IfThenElse(hn::FirstN(d, static_cast<size_t>(n - i)), a, largest1));
    if (out) store_part(a, d, out + i, n - i);
  }
  return hn::GetLane(hn::MaxOfLanes(d, hn::Max(largest0, largest1)));
}

// y = map(values), which stand as read_row of the same order left them.
template <Order kOrder, class T, class Map>
void write_row(const float* values, const Map& map, T* y, int64_t n, bool stream) {
  const D d;
  int64_t i = 0;
  for (; i + 2 * kLanes <= n; i += 2 * kLanes) {
    V a, b;
    load_two<Order::kPlain>(d, values + i, a, b);
    store_two<kOrder>(map(a), map(b), d, y + i, stream);
  }
  for (; i + kLanes <= n; i += kLanes) store(map(load(d, values + i)), d, y + i);
  if (i < n) store_part(map(load_part(d, values + i, n - i)), d, y + i, n - i);
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

struct Scale {
  V factor;
  HWY_INLINE V operator()(V e) const { return hn::Mul(e, factor); }
};

// (x - largest) - log_sum
struct Shift {
  V largest, log_sum;
  HWY_INLINE V operator()(V x) const { return hn::Sub(hn::Sub(x, largest), log_sum); }
};

template <Order kOrder, class T>
float take_row(const RowsView& x, int64_t row, float* buffer) {
  const T* from = x.row<T>(row);
  if (x.step == 1) return read_row<kOrder>(from, buffer, x.size);
  for (int64_t i = 0; i < x.size; ++i) buffer[i] = static_cast<float>(from[i * x.step]);
  return read_row<Order::kPlain>(buffer, nullptr, x.size);
}

template <Order kOrder, class T, class Map>
void put_row(float* buffer, const Map& map, const RowsView& y, int64_t row, bool large) {
  T* to = y.row<T>(row);
  if (y.step == 1) return write_row<kOrder>(buffer, map, to, y.size, can_stream(to, large));
  write_row<Order::kPlain>(buffer, map, buffer, y.size, false);
  for (int64_t i = 0; i < y.size; ++i) to[i * y.step] = T(buffer[i]);
}

template <Order kOrder, class T>
void rows(const SoftmaxArgs& args, float* buffer, int64_t begin, int64_t end) {
  const D d;
  const bool large = worth_streaming(args.y);
  for (int64_t row = begin; row < end; ++row) {
    const float largest = take_row<kOrder, T>(args.x, row, buffer);
    if (args.log) {
      const float log_sum = static_cast<float>(::log(exponentials(buffer, largest, Dropped(), args.x.size)));
      put_row<kOrder, T>(buffer, Shift{hn::Set(d, largest), hn::Set(d, log_sum)}, args.y, row, large);
    } else {
      const double sum = exponentials(buffer, largest, Kept{buffer}, args.x.size);
      put_row<kOrder, T>(buffer, Scale{hn::Set(d, static_cast<float>(1.0 / sum))}, args.y, row, large);
    }
  }
  if (large) hwy::FlushStream();
}

// The order that is cheap goes where both rows are read and written in whole vectors.
template <class T>
void rows_of_type(const SoftmaxArgs& args, float* buffer, int64_t begin, int64_t end) {
  if (args.x.step == 1 && args.y.step == 1) return rows<kOrderOf<T>, T>(args, buffer, begin, end);
  rows<Order::kPlain, T>(args, buffer, begin, end);
}

// Contiguous f32 needs no buffer: the exponentials wait in y.
void plain_rows(const SoftmaxArgs& args, int64_t begin, int64_t end) {
  const D d;
  const int64_t n = args.x.size;
  for (int64_t row = begin; row < end; ++row) {
    const float* x = args.x.row<float>(row);
    float* y = args.y.row<float>(row);
    const double sum = exponentials(x, read_row<Order::kPlain>(x, nullptr, n), Kept{y}, n);
    write_row<Order::kPlain>(y, Scale{hn::Set(d, static_cast<float>(1.0 / sum))}, y, n, false);
  }
}

}  // namespace

void softmax_rows(const SoftmaxArgs& args, float* buffer, int64_t begin, int64_t end) {
  if (!buffer) return plain_rows(args, begin, end);
  switch (args.x.type) {
    case DType::kF16: return rows_of_type<F16>(args, buffer, begin, end);
    case DType::kBF16: return rows_of_type<BF16>(args, buffer, begin, end);
    default: return rows_of_type<float>(args, buffer, begin, end);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace wick::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace wick::cpu {

void softmax(Context& ctx, const SoftmaxArgs& args) {
  const int64_t n = args.x.size;
  const bool in_place = args.x.type == DType::kF32 && args.x.step == 1 && args.y.step == 1 && !args.log && !worth_streaming(args.y);
  const ScratchScope scope(ctx);
  float* buffers = in_place ? nullptr : ctx.scratch<float>(mul_or_fail<int64_t>(n, ctx.threads(), "softmax: scratch")).data();
  const auto rows = WICK_DISPATCH(ctx.isa(), softmax_rows);
  ctx.pool().parallel_for(args.x.count, share_grain(n), [&](int64_t begin, int64_t end, int worker) {
    rows(args, buffers ? buffers + worker * n : nullptr, begin, end);
  });
}

}  // namespace wick::cpu
#endif
