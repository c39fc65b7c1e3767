// Per-instruction-set parts of attention: how cached elements become f32 vectors, the register-tiled product on them, tanh.
// Include after foreach_isa.h, inside each pass.

#if defined(WICK_KERNELS_CPU_ATTENTION_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef WICK_KERNELS_CPU_ATTENTION_INL_H_
#undef WICK_KERNELS_CPU_ATTENTION_INL_H_
#else
#define WICK_KERNELS_CPU_ATTENTION_INL_H_
#endif

#include <type_traits>

#include "wick/kernels/cpu/convert-inl.h"
#include "wick/kernels/cpu/exp-inl.h"

HWY_BEFORE_NAMESPACE();
namespace wick::cpu::HWY_NAMESPACE {
using namespace hwy::HWY_NAMESPACE;  // NOLINT(google-build-using-namespace): operators and ops of vectors are found by name
namespace {                          // other files have loaders and exponentials of these names

// Tile of the product: rows x vectors of accumulators, chosen so that they and what they are made of fit the registers. With 16 of them few
// rows take wider tiles: twelve sums hide the latency of an fma, eight hardly, six do not.
constexpr int64_t kTileRows = 6;
constexpr int tile_vectors(int rows) {
#if HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_NEON
  return rows > 0 ? 4 : 0;
#else
  return rows <= 3 ? 4 : rows == 4 ? 3 : 2;
#endif
}

using D = HWY_FULL(float);
using V = Vec<D>;

HWY_INLINE V load_integers(D d, const int8_t* p) { return ConvertTo(d, PromoteTo(RebindToSigned<D>(), LoadU(Rebind<int8_t, D>(), p))); }

constexpr int64_t kLine = 64;

// The cache lines that begin in part i, of `bytes` bytes each. Streaming pages without it reached half the bandwidth: the hardware's
// prefetchers start anew in each page. Into the second level, since a page ahead is too much for the first.
HWY_INLINE void prefetch_part(const std::byte* base, int64_t i, int64_t bytes) {
  for (int64_t at = (i * bytes + kLine - 1) / kLine * kLine; at < (i + 1) * bytes; at += kLine) __builtin_prefetch(base + at, 0, 2);
}

// Sources: load(d, k, n) gives elements n, n + 1, … of row k as f32; as many rows of row_bytes() are read from `next` on afterwards.
template <class T>
struct PlainRows {
  static constexpr bool kPlain = sizeof(T) == sizeof(float);
  PlainRows(const T* rows, int64_t row_stride) : data(rows), stride(row_stride) {}
  HWY_INLINE V load(D d, int64_t k, int64_t n) const { return HWY_NAMESPACE::load(d, data + k * stride + n); }
  int64_t row_bytes() const { return stride * static_cast<int64_t>(sizeof(T)); }
  const T* data;
  int64_t stride;
  const std::byte* next = nullptr;
};

template <class T>
struct PlainKeys : PlainRows<T> {
  PlainKeys(const std::byte* head, const KvLayout&) : PlainRows<T>(reinterpret_cast<const T*>(head), kPagePositions) {}
};

template <class T>
struct PlainValues : PlainRows<T> {
  PlainValues(const std::byte* head, const KvLayout& layout)
      : PlainRows<T>(reinterpret_cast<const T*>(head + layout.values), layout.value_stride) {}
};

struct QuantisedKeys {
  static constexpr bool kPlain = false;
  QuantisedKeys(const std::byte* head, const KvLayout& layout)
      : data(reinterpret_cast<const int8_t*>(head)), scales(reinterpret_cast<const BF16*>(head + layout.key_scales)) {}
  HWY_INLINE V load(D d, int64_t k, int64_t n) const {
    return Mul(load_integers(d, data + k * kPagePositions + n), HWY_NAMESPACE::load(d, scales + k / 32 * kPagePositions + n));
  }
  int64_t row_bytes() const { return kPagePositions; }
  const int8_t* data;
  const BF16* scales;
  const std::byte* next = nullptr;
};

struct QuantisedValues {
  static constexpr bool kPlain = false;
  QuantisedValues(const std::byte* head, const KvLayout& layout)
      : data(reinterpret_cast<const int8_t*>(head + layout.values)),
        scales(reinterpret_cast<const BF16*>(head + layout.value_scales)),
        stride(layout.value_stride),
        blocks(layout.scale_blocks) {}
  HWY_INLINE V load(D d, int64_t k, int64_t n) const {
    const auto bits = Set(Rebind<uint16_t, D>(), scales[k * blocks + n / 32].bits);
    return Mul(load_integers(d, data + k * stride + n), widen(d, bits, scales));
  }
  int64_t row_bytes() const { return stride; }
  const int8_t* data;
  const BF16* scales;
  int64_t stride;
  int64_t blocks;
  const std::byte* next = nullptr;
};

template <class Source>
HWY_INLINE void unpack(const Source& source, int64_t rows, int64_t columns, float* out) {
  const D d;
  for (int64_t k = 0; k < rows; ++k) {
    for (int64_t n = 0; n < columns; n += static_cast<int64_t>(Lanes(d))) StoreU(source.load(d, k, n), d, out + k * columns + n);
  }
}

// c[r][n] for R rows and kVectors vectors from column n: (accumulate ? c : 0) + Σ a[r][k] · b[k][n], one fma chain over ascending k.
// With kAsk asks for next_bytes of `next` with each k.
template <int R, int kVectors, bool kAsk, class Source>
HWY_INLINE void product_tile(const Source& source, const float* a, int64_t lda, int64_t k0, int64_t k1, int64_t n, float* c, int64_t ldc,
                             bool accumulate, const std::byte* next, int64_t next_bytes) {
  const D d;
  const int64_t lanes = static_cast<int64_t>(Lanes(d));
  const std::conditional_t<kAsk, const Source&, Source> b = source;  // a copy's members stay in registers
  V sum[R][kVectors];
  HWY_UNROLL(8)
  for (int r = 0; r < R; ++r) {
    HWY_UNROLL(8)
    for (int v = 0; v < kVectors; ++v) sum[r][v] = accumulate ? LoadU(d, c + r * ldc + n + v * lanes) : Zero(d);
  }
  for (int64_t k = k0; k < k1; ++k) {
    if constexpr (kAsk) prefetch_part(next, k, next_bytes);
    if constexpr (R < kVectors) {  // the fewer are kept in registers
      V factor[R];
      HWY_UNROLL(8)
      for (int r = 0; r < R; ++r) factor[r] = Set(d, a[r * lda + k]);
      HWY_UNROLL(8)
      for (int v = 0; v < kVectors; ++v) {
        const auto row = b.load(d, k, n + v * lanes);
        HWY_UNROLL(8)
        for (int r = 0; r < R; ++r) sum[r][v] = MulAdd(factor[r], row, sum[r][v]);
      }
    } else {
      V row[kVectors];
      HWY_UNROLL(8)
      for (int v = 0; v < kVectors; ++v) row[v] = b.load(d, k, n + v * lanes);
      HWY_UNROLL(8)
      for (int r = 0; r < R; ++r) {
        const auto factor = Set(d, a[r * lda + k]);
        HWY_UNROLL(8)
        for (int v = 0; v < kVectors; ++v) sum[r][v] = MulAdd(factor, row[v], sum[r][v]);
      }
    }
  }
  HWY_UNROLL(8)
  for (int r = 0; r < R; ++r) {
    HWY_UNROLL(8)
    for (int v = 0; v < kVectors; ++v) StoreU(sum[r][v], d, c + r * ldc + n + v * lanes);
  }
}

template <int R, class Source>
HWY_NOINLINE void product_rows(const Source& b, const float* a, int64_t lda, int64_t k0, int64_t k1, float* c, int64_t ldc, int64_t columns,
                               bool accumulate) {
  const int64_t lanes = static_cast<int64_t>(Lanes(D()));
  constexpr int kVectors = tile_vectors(R);
  // Each pass over the rows of b asks for its share of what is read next: all of it in the first would be more than the memory gives
  // meanwhile.
  const std::byte* next = b.next;
  const int64_t passes = (columns + kVectors * lanes - 1) / (kVectors * lanes), share = next ? (b.row_bytes() + passes - 1) / passes : 0;
  const auto tile = [&](auto vectors, int64_t n) {
    if (!next) return product_tile<R, vectors.value, false>(b, a, lda, k0, k1, n, c, ldc, accumulate, nullptr, 0);
    product_tile<R, vectors.value, true>(b, a, lda, k0, k1, n, c, ldc, accumulate, next, share);
    next += k1 * share;
  };
  int64_t n = 0;
  for (; n + kVectors * lanes <= columns; n += kVectors * lanes) tile(std::integral_constant<int, kVectors>(), n);
#if HWY_TARGET != HWY_NEON
  if (n + 2 * lanes <= columns) {
    tile(std::integral_constant<int, 2>(), n);
    n += 2 * lanes;
  }
#endif
  if constexpr (HWY_TARGET == HWY_AVX3 || kVectors == 3) {
    if (n < columns) tile(std::integral_constant<int, 1>(), n);
  }
}

// rows <= kTileRows; columns a multiple of 16.
template <class Source>
HWY_INLINE void multiply_add(const Source& b, const float* a, int64_t lda, int64_t k0, int64_t k1, int64_t rows, float* c, int64_t ldc,
                             int64_t columns, bool accumulate) {
  switch (rows) {
    case 1: return product_rows<1>(b, a, lda, k0, k1, c, ldc, columns, accumulate);
    case 2: return product_rows<2>(b, a, lda, k0, k1, c, ldc, columns, accumulate);
    case 3: return product_rows<3>(b, a, lda, k0, k1, c, ldc, columns, accumulate);
    case 4: return product_rows<4>(b, a, lda, k0, k1, c, ldc, columns, accumulate);
    case 5: return product_rows<5>(b, a, lda, k0, k1, c, ldc, columns, accumulate);
    default: return product_rows<6>(b, a, lda, k0, k1, c, ldc, columns, accumulate);
  }
}

// out = x * factor; n a multiple of 8, out may be x.
template <class In, class Out>
HWY_INLINE void scale_row(const In* x, float factor, int64_t n, Out* out) {
  const auto scale = [&](auto d, int64_t i) { HWY_NAMESPACE::store(Mul(HWY_NAMESPACE::load(d, x + i), Set(d, factor)), d, out + i); };
  const int64_t lanes = static_cast<int64_t>(Lanes(D()));
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) scale(D(), i);
  for (const HWY_CAPPED(float, 8) d; i < n; i += static_cast<int64_t>(Lanes(d))) scale(d, i);
}

// out[i][t] = rows[t][i] as f32 for t < count <= 64, i < columns, a multiple of 4; zero for the other t < 64.
template <class T>
HWY_INLINE void transpose_page(const T* rows, int64_t row_stride, int64_t count, int64_t columns, float* out) {
  int64_t t = 0;
#if HWY_TARGET != HWY_SCALAR
  const FixedTag<float, 4> d;
  for (; t + 4 <= count; t += 4) {
    const T* x = rows + t * row_stride;
    for (int64_t i = 0; i < columns; i += 4) {
      const auto a = HWY_NAMESPACE::load(d, x + i);
      const auto b = HWY_NAMESPACE::load(d, x + row_stride + i);
      const auto c = HWY_NAMESPACE::load(d, x + 2 * row_stride + i);
      const auto e = HWY_NAMESPACE::load(d, x + 3 * row_stride + i);
      const auto ac_low = InterleaveLower(d, a, c);
      const auto be_low = InterleaveLower(d, b, e);
      const auto ac_high = InterleaveUpper(d, a, c);
      const auto be_high = InterleaveUpper(d, b, e);
      float* to = out + i * kPagePositions + t;
      StoreU(InterleaveLower(d, ac_low, be_low), d, to);
      StoreU(InterleaveUpper(d, ac_low, be_low), d, to + kPagePositions);
      StoreU(InterleaveLower(d, ac_high, be_high), d, to + 2 * kPagePositions);
      StoreU(InterleaveUpper(d, ac_high, be_high), d, to + 3 * kPagePositions);
    }
  }
#endif
  for (; t < count; ++t) {
    for (int64_t i = 0; i < columns; ++i) out[i * kPagePositions + t] = static_cast<float>(rows[t * row_stride + i]);
  }
  for (int64_t i = 0; i < columns; ++i) {
    for (int64_t rest = count; rest < kPagePositions; ++rest) out[i * kPagePositions + rest] = 0;
  }
}

// tanh: an odd polynomial near 0, where 1 - 2^-… would cancel, else (1 - t) / (1 + t) with t = e^(-2|x|).
HWY_INLINE V Tanh(D d, V x) {
  const auto magnitude = Abs(x);
  const auto square = Mul(x, x);
  auto series = Set(d, 62.0f / 2835);
  series = MulAdd(series, square, Set(d, -17.0f / 315));
  series = MulAdd(series, square, Set(d, 2.0f / 15));
  series = MulAdd(series, square, Set(d, -1.0f / 3));
  series = MulAdd(Mul(series, square), x, x);
  const auto t = exp2(d, Mul(magnitude, Set(d, -2.88539008177792681472f)));
  const auto ratio = Div(Sub(Set(d, 1.0f), t), Add(Set(d, 1.0f), t));
  return IfThenElse(Lt(magnitude, Set(d, 0.25f)), series, CopySign(ratio, x));
}

}  // namespace
}  // namespace wick::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // toggle
