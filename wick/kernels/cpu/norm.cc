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
  HWY_INLINE void take_two(int64_t i, V& a, V& b) const { load_two<kOrderOf<T>>(D(), x + i, a, b); }
  HWY_INLINE V take(int64_t i) const { return load(D(), x + i); }
  HWY_INLINE V take_part(int64_t i, int64_t n) const { return load_part(D(), x + i, n); }
};

template <class T>
struct Sum {
  const T* x;
  T* r;
  HWY_INLINE void take_two(int64_t i, V& a, V& b) const {
    const D d;
    constexpr Order kOrder = kOrderOf<T>;
    V x0, x1;
    load_two<kOrder>(d, x + i, x0, x1);
    load_two<kOrder>(d, r + i, a, b);
    store_two<kOrder>(hn::Add(a, x0), hn::Add(b, x1), d, r + i, false);
    load_two<kOrder>(d, r + i, a, b);
  }
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

struct Square {
  HWY_INLINE V add(V sum, V x) const { return hn::MulAdd(x, x, sum); }
};

HWY_INLINE double sum_lanes(const V (&sums)[4]) {
  return hn::GetLane(hn::SumOfLanes(D(), hn::Add(hn::Add(sums[0], sums[1]), hn::Add(sums[2], sums[3]))));
}

// The sum of a term of each value.
template <class Source, class Term>
double sum_of(const Source& source, const Term& term, int64_t n) {
  const D d;
  double total = 0;
  for (int64_t begin = 0; begin < n; begin += kSumBlock) {
    const int64_t end = n - begin < kSumBlock ? n : begin + kSumBlock;
    V sums[4] = {hn::Zero(d), hn::Zero(d), hn::Zero(d), hn::Zero(d)};
    int64_t i = begin;
    for (; i + 4 * kLanes <= end; i += 4 * kLanes) {
      for (int j = 0; j < 4; j += 2) {
        V a, b;
        source.take_two(i + j * kLanes, a, b);
        sums[j] = term.add(sums[j], a);
        sums[j + 1] = term.add(sums[j + 1], b);
      }
    }
    for (; i + kLanes <= end; i += kLanes) sums[0] = term.add(sums[0], source.take(i));
    if (i < end) {
      const V sum = term.add(sums[1], source.take_part(i, end - i));
      sums[1] = hn::IfThenElse(hn::FirstN(d, static_cast<size_t>(end - i)), sum, sums[1]);
    }
    total += sum_lanes(sums);
  }
  return total;
}

// The sums of x - mean and of its square.
struct Moments {
  double offset = 0;
  double square = 0;
};

template <class T>
Moments moments_of(const T* x, float mean, int64_t n) {
  const D d;
  const V centre = hn::Set(d, mean);
  Moments total;
  for (int64_t begin = 0; begin < n; begin += kSumBlock) {
    const int64_t end = n - begin < kSumBlock ? n : begin + kSumBlock;
    V offsets[4] = {hn::Zero(d), hn::Zero(d), hn::Zero(d), hn::Zero(d)};
    V squares[4] = {hn::Zero(d), hn::Zero(d), hn::Zero(d), hn::Zero(d)};
    const auto add = [&](int j, V offset) {
      offsets[j] = hn::Add(offsets[j], offset);
      squares[j] = hn::MulAdd(offset, offset, squares[j]);
    };
    int64_t i = begin;
    for (; i + 4 * kLanes <= end; i += 4 * kLanes) {
      for (int j = 0; j < 4; j += 2) {
        V a, b;
        load_two<kOrderOf<T>>(d, x + i + j * kLanes, a, b);
        add(j, hn::Sub(a, centre));
        add(j + 1, hn::Sub(b, centre));
      }
    }
    for (; i + kLanes <= end; i += kLanes) add(0, hn::Sub(load(d, x + i), centre));
    if (i < end) add(1, hn::IfThenElseZero(hn::FirstN(d, static_cast<size_t>(end - i)), hn::Sub(load_part(d, x + i, end - i), centre)));
    total.offset += sum_lanes(offsets);
    total.square += sum_lanes(squares);
  }
  return total;
}

// The next row is asked for while this one is written, when nothing else is read from memory.
template <class T>
struct NextRow {
  const T* x;  // or none
  HWY_INLINE void ask(int64_t i) const {
    if (x) ask_for<2 * kLanes * static_cast<int64_t>(sizeof(T))>(x + i);
  }
};

template <class T, class W>
void scale_row(const T* x, const W* weight, float scale, T* y, int64_t n, bool stream, NextRow<T> next, NextRow<T> next_too) {
  const D d;
  constexpr Order kOrder = kOrderOf<T>;
  const V factor = hn::Set(d, scale);
  int64_t i = 0;
  for (; i + 2 * kLanes <= n; i += 2 * kLanes) {
    V x0, x1, w0, w1;
    next.ask(i);
    next_too.ask(i);
    load_two<kOrder>(d, x + i, x0, x1);
    load_two<kOrder>(d, weight + i, w0, w1);
    store_two<kOrder>(hn::Mul(hn::Mul(x0, factor), w0), hn::Mul(hn::Mul(x1, factor), w1), d, y + i, stream);
  }
  for (; i + kLanes <= n; i += kLanes) store(hn::Mul(hn::Mul(load(d, x + i), factor), load(d, weight + i)), d, y + i);
  if (i < n) store_part(hn::Mul(hn::Mul(load_part(d, x + i, n - i), factor), load_part(d, weight + i, n - i)), d, y + i, n - i);
}

template <class T, class W>
void rows(const RmsNormArgs& args, int64_t begin, int64_t end) {
  const int64_t n = args.x.size;
  const bool large = worth_streaming(args.y);
  for (int64_t row = begin; row < end; ++row) {
    T* y = args.y.row<T>(row);
    const T* x = args.x.row<T>(row);
    T* r = args.residual.data ? args.residual.row<T>(row) : nullptr;
    const double sum = r ? sum_of(Sum<T>{x, r}, Square(), n) : sum_of(Plain<T>{x}, Square(), n);
    const float scale = static_cast<float>(1.0 / __builtin_sqrt(sum / static_cast<double>(n) + args.eps));
    const bool last = row + 1 == end;
    const NextRow<T> next{last ? nullptr : args.x.row<T>(row + 1)}, next_r{last || !r ? nullptr : args.residual.row<T>(row + 1)};
    scale_row(r ? r : x, reinterpret_cast<const W*>(args.weight), scale, y, n, can_stream(y, large), next, next_r);
  }
  if (large) hwy::FlushStream();
}

// (x - mean - rest) * scale * weight + bias
template <class T, class W>
void shift_row(const T* x, const W* weight, const W* bias, float mean, float rest, float scale, T* y, int64_t n, bool stream, NextRow<T> next) {
  const D d;
  constexpr Order kOrder = kOrderOf<T>;
  const V shift = hn::Set(d, mean);
  const V second = hn::Set(d, rest);
  const V factor = hn::Set(d, scale);
  const auto normal = [&](V value, V w, V b) { return hn::MulAdd(hn::Mul(hn::Sub(hn::Sub(value, shift), second), factor), w, b); };
  int64_t i = 0;
  for (; i + 2 * kLanes <= n; i += 2 * kLanes) {
    V x0, x1, w0, w1, b0 = hn::Zero(d), b1 = hn::Zero(d);
    next.ask(i);
    load_two<kOrder>(d, x + i, x0, x1);
    load_two<kOrder>(d, weight + i, w0, w1);
    if (bias) load_two<kOrder>(d, bias + i, b0, b1);
    store_two<kOrder>(normal(x0, w0, b0), normal(x1, w1, b1), d, y + i, stream);
  }
  for (; i + kLanes <= n; i += kLanes) store(normal(load(d, x + i), load(d, weight + i), bias ? load(d, bias + i) : hn::Zero(d)), d, y + i);
  if (i < n) {
    const V b = bias ? load_part(d, bias + i, n - i) : hn::Zero(d);
    store_part(normal(load_part(d, x + i, n - i), load_part(d, weight + i, n - i), b), d, y + i, n - i);
  }
}

// About the mean: of the first elements, or of one. Of equal elements exactly theirs.
template <class T>
float centre_of(const T* x, int64_t n) {
  const D d;
  if (n < kLanes) return hn::GetLane(load_part(d, x, 1));
  return hn::GetLane(hn::SumOfLanes(d, hn::Mul(load(d, x), hn::Set(d, 1.0f / static_cast<float>(kLanes)))));
}

// The mean is a sum of two floats: beside a mean of 1e4 the last bit of one is 1e-3 of a standard deviation of 1. The mean of the first
// elements stands in for it, so that sums are of the row's spread and a row of equal values gives exactly zero. Only where it lies farther
// off than the standard deviation the sum of squares would cancel: then they are summed again, about the mean that is now known.
template <class T, class W>
void layer_rows(const LayerNormArgs& args, int64_t begin, int64_t end) {
  const int64_t n = args.x.size;
  const double count = static_cast<double>(n);
  const bool large = worth_streaming(args.y);
  for (int64_t row = begin; row < end; ++row) {
    T* y = args.y.row<T>(row);
    const T* x = args.x.row<T>(row);
    float mean = centre_of(x, n);
    Moments moments = moments_of(x, mean, n);
    if (moments.offset * moments.offset * 2 > moments.square * count) {
      mean = static_cast<float>(mean + moments.offset / count);
      moments = moments_of(x, mean, n);
    }
    const double offset = moments.offset / count;  // the true mean lies this far from the float
    const double variance = moments.square / count - offset * offset;
    const float rest = static_cast<float>(offset);
    const float scale = static_cast<float>(1.0 / __builtin_sqrt((variance > 0 ? variance : 0) + args.eps));
    shift_row(x, reinterpret_cast<const W*>(args.weight), reinterpret_cast<const W*>(args.bias), mean, rest, scale, y, n, can_stream(y, large), NextRow<T>{row + 1 == end ? nullptr : args.x.row<T>(row + 1)});
  }
  if (large) hwy::FlushStream();
}

}  // namespace

void layer_norm_rows(const LayerNormArgs& args, int64_t begin, int64_t end) {
  const bool f32_weight = args.weight_type == DType::kF32;
  switch (args.x.type) {
    case DType::kF16: return f32_weight ? layer_rows<F16, float>(args, begin, end) : layer_rows<F16, F16>(args, begin, end);
    case DType::kBF16: return f32_weight ? layer_rows<BF16, float>(args, begin, end) : layer_rows<BF16, BF16>(args, begin, end);
    default: return layer_rows<float, float>(args, begin, end);
  }
}

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

void layer_norm(Context& ctx, const LayerNormArgs& args) {
  const auto rows = WICK_DISPATCH(ctx.isa(), layer_norm_rows);
  ctx.pool().parallel_for(args.x.count, share_grain(args.x.size), [&](int64_t begin, int64_t end, int) { rows(args, begin, end); });
}

}  // namespace wick::cpu
#endif
