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

struct Square {
  HWY_INLINE V add(V sum, V x) const { return hn::MulAdd(x, x, sum); }
};

struct Offset {
  V mean;
  HWY_INLINE V add(V sum, V x) const { return hn::Add(sum, hn::Sub(x, mean)); }
};

struct OffsetSquare {
  V mean, rest;
  HWY_INLINE V add(V sum, V x) const {
    const V offset = hn::Sub(hn::Sub(x, mean), rest);
    return hn::MulAdd(offset, offset, sum);
  }
};

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
      for (int j = 0; j < 4; ++j) sums[j] = term.add(sums[j], source.take(i + j * kLanes));
    }
    for (; i + kLanes <= end; i += kLanes) sums[0] = term.add(sums[0], source.take(i));
    if (i < end) {
      const V sum = term.add(sums[1], source.take_part(i, end - i));
      sums[1] = hn::IfThenElse(hn::FirstN(d, static_cast<size_t>(end - i)), sum, sums[1]);
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
    const double sum = r ? sum_of(Sum<T>{x, r}, Square(), n) : sum_of(Plain<T>{x}, Square(), n);
    const float scale = static_cast<float>(1.0 / __builtin_sqrt(sum / static_cast<double>(n) + args.eps));
    scale_row(r ? r : x, reinterpret_cast<const W*>(args.weight), scale, args.y.row<T>(row), n);
  }
}

// (x - mean - rest) * scale * weight + bias
template <class T, class W>
void shift_row(const T* x, const W* weight, const W* bias, float mean, float rest, float scale, T* y, int64_t n) {
  const D d;
  const V shift = hn::Set(d, mean);
  const V second = hn::Set(d, rest);
  const V factor = hn::Set(d, scale);
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    const V value = hn::Mul(hn::Sub(hn::Sub(load(d, x + i), shift), second), factor);
    store(hn::MulAdd(value, load(d, weight + i), bias ? load(d, bias + i) : hn::Zero(d)), d, y + i);
  }
  if (i < n) {
    const V value = hn::Mul(hn::Sub(hn::Sub(load_part(d, x + i, n - i), shift), second), factor);
    store_part(hn::MulAdd(value, load_part(d, weight + i, n - i), bias ? load_part(d, bias + i, n - i) : hn::Zero(d)), d, y + i, n - i);
  }
}

// The mean is a sum of two floats: beside a mean of 1e4 the last bit of one is 1e-3 of a standard deviation of 1. The first element
// stands in for it until it is known, so that sums are of the row's spread and a row of equal values gives exactly zero.
template <class T, class W>
void layer_rows(const LayerNormArgs& args, int64_t begin, int64_t end) {
  const D d;
  const int64_t n = args.x.size;
  const double count = static_cast<double>(n);
  for (int64_t row = begin; row < end; ++row) {
    const T* x = args.x.row<T>(row);
    const float first = hn::GetLane(load_part(d, x, 1));
    const float mean = static_cast<float>(first + sum_of(Plain<T>{x}, Offset{hn::Set(d, first)}, n) / count);
    const float rest = static_cast<float>(sum_of(Plain<T>{x}, Offset{hn::Set(d, mean)}, n) / count);
    const double squares = sum_of(Plain<T>{x}, OffsetSquare{hn::Set(d, mean), hn::Set(d, rest)}, n);
    const float scale = static_cast<float>(1.0 / __builtin_sqrt(squares / count + args.eps));
    shift_row(x, reinterpret_cast<const W*>(args.weight), reinterpret_cast<const W*>(args.bias), mean, rest, scale, args.y.row<T>(row), n);
  }
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
