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
template <class T>
float largest_of(const T* x, int64_t n) {
  const D d;
  V largest[2] = {hn::Set(d, -__builtin_inff()), hn::Set(d, -__builtin_inff())};
  int64_t i = 0;
  for (; i + 2 * kLanes <= n; i += 2 * kLanes) {
    V a, b;
    load_two<kOrderOf<T>>(d, x + i, a, b);
    largest[0] = hn::Max(largest[0], a);
    largest[1] = hn::Max(largest[1], b);
  }
  for (; i + kLanes <= n; i += kLanes) largest[0] = hn::Max(largest[0], load(d, x + i));
  if (i < n) {
    const V last = hn::IfThenElse(hn::FirstN(d, static_cast<size_t>(n - i)), load_part(d, x + i, n - i), largest[1]);
    largest[1] = hn::Max(largest[1], last);
  }
  return hn::GetLane(hn::MaxOfLanes(d, hn::Max(largest[0], largest[1])));
}

// y = map(values). Values of type float beside a y of another type stand as `exponentials` left them. kNumbers: there is no NaN.
template <bool kNumbers, class From, class T, class Map>
void write_row(const From* values, const Map& map, T* y, int64_t n, bool stream) {
  const D d;
  int64_t i = 0;
  for (; i + 2 * kLanes <= n; i += 2 * kLanes) {
    V a, b;
    load_two<kOrderOf<From>>(d, values + i, a, b);
    store_two<kOrderOf<T>, kNumbers>(map(a), map(b), d, y + i, stream);
  }
  for (; i + kLanes <= n; i += kLanes) store(map(load(d, values + i)), d, y + i);
  if (i < n) store_part(map(load_part(d, values + i, n - i)), d, y + i, n - i);
}
// sum: of the row's exponentials, which is NaN where there is one in the row.
template <class From, class T, class Map>
void write_row(const From* values, const Map& map, T* y, int64_t n, double sum, bool stream) {
  if (std::isnan(sum)) {
    write_row<false>(values, map, y, n, stream);
  } else {
    write_row<true>(values, map, y, n, stream);
  }
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

// As many in step as there are registers for.
template <Precision kPrecision>
HWY_INLINE Four<V> four_exponentials(Four<V> x) {
  const D d;
  if constexpr (kShort<kPrecision> && kLanes == 16) return exp<kPrecision>(d, x);
  return {exp<kPrecision>(d, x.a), exp<kPrecision>(d, x.b)};
}

// Puts e^(x - shift), in the order in which elements of T are loaded; returns the sum. What is at `next`, if it is not null, comes nearer
// meanwhile: exponentials keep the memory waiting.
template <Precision kPrecision, class T, class Out>
double exponentials(const T* x, float shift, const Out& out, int64_t n, const T* next = nullptr) {
  constexpr int64_t kBytes = 4 * kLanes * static_cast<int64_t>(sizeof(T));  // of a turn
  const D d;
  const V minus = hn::Set(d, shift);
  double total = 0;
  for (int64_t begin = 0; begin < n; begin += kSumBlock) {
    const int64_t end = n - begin < kSumBlock ? n : begin + kSumBlock;
    const V zero = hn::Zero(d);
    Four<V> sums = {{zero, zero}, {zero, zero}};
    int64_t i = begin;
    for (; i + 4 * kLanes <= end; i += 4 * kLanes) {
      if (next) ask_for<kBytes>(next + i);
      Four<V> four;
      load_two<kOrderOf<T>>(d, x + i, four.a.a, four.a.b);
      load_two<kOrderOf<T>>(d, x + i + 2 * kLanes, four.b.a, four.b.b);
      const Four<V> e = four_exponentials<kPrecision>(sub(four, minus));
      out.put(e.a.a, i);
      out.put(e.a.b, i + kLanes);
      out.put(e.b.a, i + 2 * kLanes);
      out.put(e.b.b, i + 3 * kLanes);
      sums = add(sums, e);
    }
    for (; i + 2 * kLanes <= end; i += 2 * kLanes) {  // in pairs as write_row takes them
      Two<V> two;
      load_two<kOrderOf<T>>(d, x + i, two.a, two.b);
      const Two<V> e = exp<kPrecision>(d, sub(two, minus));
      out.put(e.a, i);
      out.put(e.b, i + kLanes);
      sums.a = add(sums.a, e);
    }
    for (; i + kLanes <= end; i += kLanes) {
      const V e = exp<kPrecision>(d, hn::Sub(load(d, x + i), minus));
      out.put(e, i);
      sums.a.a = hn::Add(sums.a.a, e);
    }
    if (i < end) {
      const V e = exp<kPrecision>(d, hn::Sub(load_part(d, x + i, end - i), minus));
      out.put_part(e, i, end - i);
      sums.a.b = hn::Add(sums.a.b, hn::IfThenElseZero(hn::FirstN(d, static_cast<size_t>(end - i)), e));
    }
    const Two<V> sum = add(sums.a, sums.b);
    total += hn::GetLane(hn::SumOfLanes(d, hn::Add(sum.a, sum.b)));
  }
  return total;
}

struct Scale {
  V factor;
  HWY_INLINE V operator()(V e) const { return hn::Mul(e, factor); }
};
HWY_INLINE Scale scale_of(double sum) { return {hn::Set(D(), static_cast<float>(1.0 / sum))}; }

// (x - largest) - log_sum: both of the same sign, so that a relative error of log_sum is one of the result.
struct Shift {
  V largest, log_sum;
  HWY_INLINE V operator()(V x) const { return hn::Sub(hn::Sub(x, largest), log_sum); }
};
// The largest element's own exponential counts as 1, whatever the approximation makes of it: the logarithm may be as small as the others.
template <Precision kPrecision>
Shift shift_of(float largest, double sum) {
  const D d;
  const double excess = hn::GetLane(exp<kPrecision>(d, hn::Zero(d))) - 1.0;
  return {hn::Set(d, largest), hn::Set(d, static_cast<float>(::log(sum - excess)))};
}

// Exponentials wait in the buffer, or without one in y. The next row's maximum is looked for before a row is written: it is read from
// memory while the sum is still on its way through the lanes, and known when the row is done.
template <class T>
void rows(const SoftmaxArgs& args, float* buffer, int64_t begin, int64_t end) {
  constexpr Precision kPrecision = kPrecisionOf<T>;
  const int64_t n = args.x.size;
  const bool large = worth_streaming(args.y);
  float largest = largest_of(args.x.row<T>(begin), n);
  constexpr int64_t kAhead = 3072 / static_cast<int64_t>(sizeof(T));
  const int64_t ahead = n > 0 && n < kAhead ? kAhead / n : 1;  // rows that are asked for: nearer ones would come too late
  for (int64_t row = begin; row < end; ++row) {
    const T* x = args.x.row<T>(row);
    T* y = args.y.row<T>(row);
    float* kept = buffer ? buffer : reinterpret_cast<float*>(y);
    const T* next_row = row + 1 < end ? args.x.row<T>(row + 1) : nullptr;
    const T* coming = row + ahead < end ? args.x.row<T>(row + ahead) : nullptr;
    const double sum =
        args.log ? exponentials<kPrecision>(x, largest, Dropped(), n, coming) : exponentials<kPrecision>(x, largest, Kept{kept}, n, coming);
    const float next = next_row ? largest_of(next_row, n) : 0;
    const bool stream = can_stream(y, large);
    if (args.log) {
      write_row(x, shift_of<kPrecision>(largest, sum), y, n, sum, stream);
    } else {
      write_row(kept, scale_of(sum), y, n, sum, stream);
    }
    largest = next;
  }
  if (large) hwy::FlushStream();
}

// Rows whose elements are not neighbours, by way of the buffer.
template <class T>
void strided_rows(const SoftmaxArgs& args, float* buffer, int64_t begin, int64_t end) {
  const int64_t n = args.x.size;
  for (int64_t row = begin; row < end; ++row) {
    const T* x = args.x.row<T>(row);
    T* y = args.y.row<T>(row);
    for (int64_t i = 0; i < n; ++i) buffer[i] = static_cast<float>(x[i * args.x.step]);
    const float largest = largest_of(buffer, n);
    if (args.log) {
      const double sum = exponentials<kPrecisionOf<T>>(buffer, largest, Dropped(), n);
      write_row(buffer, shift_of<kPrecisionOf<T>>(largest, sum), buffer, n, sum, false);
    } else {
      const double sum = exponentials<kPrecisionOf<T>>(buffer, largest, Kept{buffer}, n);
      write_row(buffer, scale_of(sum), buffer, n, sum, false);
    }
    for (int64_t i = 0; i < n; ++i) y[i * args.y.step] = T(buffer[i]);
  }
}

template <class T>
void rows_of_type(const SoftmaxArgs& args, float* buffer, int64_t begin, int64_t end) {
  if (args.x.step == 1 && args.y.step == 1) return rows<T>(args, buffer, begin, end);
  strided_rows<T>(args, buffer, begin, end);
}

}  // namespace

void softmax_rows(const SoftmaxArgs& args, float* buffer, int64_t begin, int64_t end) {
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
  const bool plain = args.x.step == 1 && args.y.step == 1;
  const bool in_place = plain && (args.log || (args.x.type == DType::kF32 && !worth_streaming(args.y)));
  const ScratchScope scope(ctx);
  float* buffers = in_place ? nullptr : ctx.scratch<float>(mul_or_fail<int64_t>(n, ctx.threads(), "softmax: scratch")).data();
  const auto rows = WICK_DISPATCH(ctx.isa(), softmax_rows);
  ctx.pool().parallel_for(args.x.count, share_grain(n), [&](int64_t begin, int64_t end, int worker) {
    rows(args, buffers ? buffers + worker * n : nullptr, begin, end);
  });
}

}  // namespace wick::cpu
#endif
