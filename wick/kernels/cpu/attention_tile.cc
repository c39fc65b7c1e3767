#include "wick/kernels/cpu/attention_tile.h"

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>

#include "wick/tensor/half.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "wick/kernels/cpu/attention_tile.cc"
#include "wick/kernels/cpu/foreach_isa.h"
// After it: compiled per instruction set.
#include "wick/kernels/cpu/attention-inl.h"

HWY_BEFORE_NAMESPACE();
namespace wick::cpu::HWY_NAMESPACE {
namespace {

constexpr float kLog2E = 1.44269504088896340736f;
constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();

// Calls body with row p of head g: of `plain`, f32 rows `stride` apart that hold all heads, or of a dense operand in its type.
template <class Plain, class Body>
HWY_INLINE void with_row(const AttentionTile& tile, int64_t p, int64_t g, Plain* plain, int64_t stride, const HeadsView DenseAttentionArgs::*operand, Body&& body) {
  const int64_t head = tile.kv_head * tile.group + g;
  if (!tile.dense) return body(plain + (tile.row + p) * stride + head * tile.cache->layout.head_dim);
  const HeadsView& view = tile.dense->*operand;
  std::byte* row = view.at(tile.sequence, head, tile.row + p - tile.sequence * tile.dense->rows);
  switch (view.type) {
    case DType::kF16: return body(reinterpret_cast<F16*>(row));
    case DType::kBF16: return body(reinterpret_cast<BF16*>(row));
    default: return body(reinterpret_cast<float*>(row));
  }
}

// What q · k is multiplied by: scores are exponents of 2, or what the softcap's tanh is taken of.
float score_factor(const AttentionArgs& args) { return args.softcap > 0 ? args.scale / args.softcap : args.scale * kLog2E; }

void attention_load(const AttentionTile& tile, const int32_t* row_positions) {
  const AttentionArgs& args = *tile.args;
  const int64_t dim = tile.cache->layout.head_dim;
  const float factor = score_factor(args);
  for (int64_t p = 0; p < tile.positions; ++p) {
    const int64_t end = row_positions[tile.row + p] + int64_t{1};
    const int64_t begin = args.window > 0 && end > args.window ? end - args.window : 0;
    for (int64_t g = 0; g < tile.group; ++g) {
      const int64_t r = p * tile.group + g;
      tile.begin[r] = static_cast<int32_t>(begin);
      tile.end[r] = static_cast<int32_t>(end);
      with_row(tile, p, g, args.q, args.q_stride, &DenseAttentionArgs::q, [&](const auto* q) {
        if (tile.pairs) {
          std::memcpy(reinterpret_cast<uint16_t*>(tile.q) + r * dim, q, static_cast<size_t>(dim) * sizeof(uint16_t));
        } else {
          scale_row(q, factor, dim, tile.q + r * dim);
        }
      });
    }
  }
}

// What is done to the scores of a row in one page.
struct ScoreRule {
  float softcap;   // 0: none
  float slope;     // alibi, times log2 e; 0: none
  float distance;  // from the row's position to the page's first key
};

// Softcap and alibi; keys outside of [lo, hi) get -inf. From the vector with lo to the one with hi.
void bend_scores(float* scores, int64_t lo, int64_t hi, const ScoreRule& rule) {
  const D d;
  const int64_t lanes = static_cast<int64_t>(Lanes(d));
  const auto positions = Iota(d, 0.0f);
  for (int64_t i = lo / lanes * lanes; i < hi; i += lanes) {
    auto s = LoadU(d, scores + i);
    const auto index = Add(positions, Set(d, static_cast<float>(i)));
    if (rule.softcap > 0) s = Mul(Tanh(d, s), Set(d, rule.softcap * kLog2E));
    if (rule.slope != 0) s = MulAdd(Set(d, rule.slope), Add(index, Set(d, rule.distance)), s);
    if (i < lo || i + lanes > hi) {
      s = IfThenElse(And(Ge(index, Set(d, static_cast<float>(lo))), Lt(index, Set(d, static_cast<float>(hi)))), s, Set(d, kMinusInfinity));
    }
    StoreU(s, d, scores + i);
  }
}

// Puts what row r has so far under a new peak.
HWY_NOINLINE void raise_peak(const SoftmaxState& state, int64_t r, int64_t stride, float peak) {
  const D d;
  const float before = state.m[r];
  state.m[r] = peak;
  if (before == kMinusInfinity) return;
  const auto factor = exp2(d, Set(d, before - peak));
  float* const sums = state.l + r * kSumLanes;
  StoreU(Mul(LoadU(d, sums), factor), d, sums);
  scale_row(state.o + r * stride, GetLane(factor), stride, state.o + r * stride);
}

// Scores [begin, end), whole vectors, of one row as powers, and their sum. The peak that they are taken from follows the largest score only
// when that rises far: powers of up to 2^kRise are as exact as those below 1.
HWY_INLINE void update_row(float* scores, int64_t begin, int64_t end, const SoftmaxState& state, int64_t r, int64_t stride) {
  constexpr float kRise = 8;
  const D d;
  const int64_t lanes = static_cast<int64_t>(Lanes(d));
  auto top = LoadU(d, scores + begin);
  for (int64_t i = begin + lanes; i < end; i += lanes) top = Max(top, LoadU(d, scores + i));
  if (!AllFalse(d, Gt(top, Set(d, state.m[r] + kRise)))) raise_peak(state, r, stride, GetLane(MaxOfLanes(d, top)));
  const auto shift = Set(d, state.m[r] == kMinusInfinity ? 0.0f : state.m[r]);  // scores of -inf alone: powers of zero, not NaN
  float* const sums = state.l + r * kSumLanes;
  auto sum = LoadU(d, sums);
#if HWY_TARGET == HWY_AVX3
  for (; begin + 4 * lanes <= end; begin += 4 * lanes) {
    const auto from = [&](int64_t i) { return LoadU(d, scores + begin + i * lanes); };
    const auto p = exp2(d, HWY_NAMESPACE::sub(Four<V>({from(0), from(1)}, {from(2), from(3)}), shift));
    StoreU(p.a.a, d, scores + begin);
    StoreU(p.a.b, d, scores + begin + lanes);
    StoreU(p.b.a, d, scores + begin + 2 * lanes);
    StoreU(p.b.b, d, scores + begin + 3 * lanes);
    sum = Add(sum, Add(Add(p.a.a, p.a.b), Add(p.b.a, p.b.b)));
  }
#endif
  for (int64_t i = begin; i < end; i += lanes) {
    const auto p = exp2(d, Sub(LoadU(d, scores + i), shift));
    StoreU(p, d, scores + i);
    sum = Add(sum, p);
  }
  StoreU(sum, d, sums);
}

float sum_of(const SoftmaxState& state, int64_t r) {
  const D d;
  return GetLane(SumOfLanes(d, LoadU(d, state.l + r * kSumLanes)));
}

// o of rows r .. r + count - 1 += p · v over the keys that each row sees, in ascending order. Keys seen by all rows go through the wide
// kernel, the few at the diagonal and at the window's edge row by row: a masked value is skipped, since it may be NaN.
template <class Source>
void add_values(const Source& values, const float* p, const int64_t* lo, const int64_t* hi, int64_t count, float* o, int64_t stride) {
  int64_t common_lo = 0;
  int64_t common_hi = kPagePositions;
  for (int64_t r = 0; r < count; ++r) {
    if (lo[r] > common_lo) common_lo = lo[r];
    if (hi[r] < common_hi) common_hi = hi[r];
  }
  if (common_hi < common_lo) common_hi = common_lo;
  for (int64_t r = 0; r < count; ++r) {
    const int64_t edge = hi[r] < common_lo ? hi[r] : common_lo;
    if (lo[r] < edge) multiply_add(values, p + r * kPagePositions, kPagePositions, lo[r], edge, 1, o + r * stride, stride, stride, true);
  }
  if (common_lo < common_hi) multiply_add(values, p, kPagePositions, common_lo, common_hi, count, o, stride, stride, true);
  for (int64_t r = 0; r < count; ++r) {
    const int64_t edge = lo[r] > common_hi ? lo[r] : common_hi;
    if (edge < hi[r]) multiply_add(values, p + r * kPagePositions, kPagePositions, edge, hi[r], 1, o + r * stride, stride, stride, true);
  }
}

// A page of keys in pairs of bf16 along k, and of values in pairs of keys.
struct PairKeys {
  const uint32_t* pairs;
};
struct PairValues {
  const uint32_t* pairs;
};

// The scores of rows r0 .. r0 + count - 1 with the first `width` keys of a page.
template <class Keys>
HWY_INLINE void score(const AttentionTile& tile, const Keys& keys, int64_t r0, int64_t count, float* scores, int64_t width) {
  const int64_t dim = tile.cache->layout.head_dim;
  multiply_add(keys, tile.q + r0 * dim, dim, 0, dim, count, scores, kPagePositions, width, false);
}

[[maybe_unused]] HWY_INLINE void score(const AttentionTile& tile, const PairKeys& keys, int64_t r0, int64_t count, float* scores, int64_t width) {
  const int64_t pairs = tile.cache->layout.head_dim / 2;
  const uint32_t* q = reinterpret_cast<const uint32_t*>(tile.q) + r0 * pairs;
  tile.pairs->product(q, pairs, keys.pairs, kPagePositions, pairs, count, width, score_factor(*tile.args), scores, kPagePositions);
}

// Which keys of a page a row sees: [lo, hi), lo = hi = 0 where none.
HWY_INLINE void seen_keys(const AttentionTile& tile, int64_t page, int64_t row, int64_t& lo, int64_t& hi) {
  const int64_t base = page * kPagePositions, begin = tile.begin[row] - base, end = tile.end[row] - base;
  lo = begin < 0 ? 0 : begin;
  hi = end < kPagePositions ? end : kPagePositions;
  if (hi <= lo) lo = hi = 0;
}

// Rows that go through the products together.
struct RowGroup {
  int64_t first, count;
  int64_t lo[kTileRows], hi[kTileRows];
  int64_t seen = 0;  // the largest hi

  RowGroup(const AttentionTile& tile, int64_t page, int64_t r0, int64_t rows) : first(r0), count(rows) {
    for (int64_t r = 0; r < count; ++r) {
      seen_keys(tile, page, r0 + r, lo[r], hi[r]);
      if (hi[r] > seen) seen = hi[r];
    }
  }
};

// What softmax makes of a row's scores with the keys [lo, hi) of a page.
HWY_INLINE void soften_row(const AttentionTile& tile, int64_t page, int64_t row, int64_t lo, int64_t hi, float* p,
                           const SoftmaxState& state) {
  const int64_t stride = tile.cache->layout.value_stride;
  if (lo == 0 && hi == kPagePositions && tile.args->softcap == 0 && !tile.args->alibi)
    return update_row(p, 0, kPagePositions, state, row, stride);
  if (lo >= hi) return;
  const float slope = tile.args->alibi ? tile.args->alibi[tile.kv_head * tile.group + row % tile.group] * kLog2E : 0.0f;
  bend_scores(p, lo, hi, {tile.args->softcap, slope, static_cast<float>(page * kPagePositions - (tile.end[row] - 1))});
  const int64_t lanes = static_cast<int64_t>(Lanes(D()));
  update_row(p, lo / lanes * lanes, (hi + lanes - 1) / lanes * lanes, state, row, stride);
}

// Scores of a group and what softmax makes of them.
template <class Keys>
void score_group(const AttentionTile& tile, const RowGroup& group, int64_t page, const Keys& keys, const SoftmaxState& state) {
  float* scores = tile.scores + group.first * kPagePositions;
  score(tile, keys, group.first, group.count, scores, (group.seen + 15) / 16 * 16);
  for (int64_t r = 0; r < group.count; ++r) {
    soften_row(tile, page, group.first + r, group.lo[r], group.hi[r], scores + r * kPagePositions, state);
  }
}

// The scores of a few rows, then their values while those are in the first cache.
template <class Keys, class Values>
void attend_page(const AttentionTile& tile, int64_t page, const Keys& keys, const Values& values, const SoftmaxState& state) {
  const int64_t stride = tile.cache->layout.value_stride;
  const int64_t rows = int64_t{tile.positions} * tile.group;
  const int64_t groups = (rows + kTileRows - 1) / kTileRows;
  const int64_t height = (rows + groups - 1) / groups;
  const auto each = [&](const auto& body) {
    for (int64_t r0 = 0; r0 < rows; r0 += height) {
      const RowGroup group(tile, page, r0, rows - r0 < height ? rows - r0 : height);
      if (group.seen > 0) body(group);
    }
  };
  each([&](const RowGroup& group) {
    score_group(tile, group, page, keys, state);
    add_values(values, tile.scores + group.first * kPagePositions, group.lo, group.hi, group.count, state.o + group.first * stride, stride);
  });
}

// The same with tiles.
[[maybe_unused]] void attend_page(const AttentionTile& tile, int64_t page, const PairKeys& keys, const PairValues& values,
                                  const SoftmaxState& state) {
  constexpr int64_t kMost = 96;
  const int64_t pairs = tile.cache->layout.head_dim / 2, columns = tile.cache->layout.value_stride;
  const int64_t rows = int64_t{tile.positions} * tile.group;
  for (int64_t first = 0; first < rows; first += kMost) {
    const int64_t count = rows - first < kMost ? rows - first : kMost;
    int64_t lo[kMost], hi[kMost];
    for (int64_t r = 0; r < count; ++r) seen_keys(tile, page, first + r, lo[r], hi[r]);
    tile.tiles->attend({reinterpret_cast<const uint32_t*>(tile.q) + first * pairs, pairs, keys.pairs, values.pairs, columns, lo, hi, count,
                        score_factor(*tile.args), state.m + first, state.l + first * kSumLanes, state.o + first * columns});
  }
}

constexpr int64_t kDirectRows = 2 * kTileRows;

// Up to kDirectRows rows read the page as it is stored; more share one unpacked copy. The numbers are the same.
template <class Keys, class Values>
void attend_pages(const AttentionTile& tile, int64_t first_page, int64_t end_page, const SoftmaxState& state) {
  const KvLayout& layout = tile.cache->layout;
  const bool direct = Keys::kPlain || int64_t{tile.positions} * tile.group <= kDirectRows;
  for (int64_t page = first_page; page < end_page; ++page) {
    const std::byte* head = tile.cache->head(tile.table[page], tile.kv_head);
    Keys keys(head, layout);
    Values values(head, layout);
    if (direct) {
      keys.next = head + layout.values;
      values.next = page + 1 < end_page ? tile.cache->head(tile.table[page + 1], tile.kv_head) : tile.then;
      attend_page(tile, page, keys, values, state);
      continue;
    }
    unpack(keys, layout.head_dim, kPagePositions, tile.keys);
    unpack(values, kPagePositions, layout.value_stride, tile.values);
    attend_page(tile, page, PlainRows<float>(tile.keys, kPagePositions), PlainRows<float>(tile.values, layout.value_stride), state);
  }
}

// K is transposed on the way; V is read as it is, or converted once for many rows.
template <class T>
void attend_rows(const AttentionTile& tile, int64_t first_page, int64_t end_page, const SoftmaxState& state) {
  const KvLayout& layout = tile.cache->layout;
  const bool direct = layout.head_dim == layout.value_stride && (PlainRows<T>::kPlain || int64_t{tile.positions} * tile.group <= kDirectRows);
  const int64_t key_stride = tile.dense->k.strides[2];
  const int64_t value_stride = tile.dense->v.strides[2];
  for (int64_t page = first_page; page < end_page; ++page) {
    const int64_t first = page * kPagePositions;
    const int64_t left = tile.dense->keys - first;
    const int64_t count = left < kPagePositions ? left : kPagePositions;
    const T* keys = reinterpret_cast<const T*>(tile.dense->k.at(tile.sequence, tile.kv_head, first));
    const T* values = reinterpret_cast<const T*>(tile.dense->v.at(tile.sequence, tile.kv_head, first));
    if constexpr (kOrderOf<T> == Order::kSplit) {  // bf16
      uint32_t* const pairs = reinterpret_cast<uint32_t*>(tile.values);
      if (tile.tiles && tile.tiles->values(&values->bits, value_stride, count, layout.head_dim, layout.value_stride, pairs)) {
        tile.pairs->keys(&keys->bits, key_stride, count, layout.head_dim, reinterpret_cast<uint32_t*>(tile.keys));
        attend_page(tile, page, PairKeys{reinterpret_cast<const uint32_t*>(tile.keys)}, PairValues{pairs}, state);
        continue;
      }
    }
    const auto attend = [&](const auto& with_values) {
      if constexpr (kOrderOf<T> == Order::kSplit) {  // bf16
        if (tile.pairs) {
          uint32_t* pairs = reinterpret_cast<uint32_t*>(tile.keys);
          tile.pairs->keys(&keys->bits, key_stride, count, layout.head_dim, pairs);
          return attend_page(tile, page, PairKeys{pairs}, with_values, state);
        }
      }
      transpose_page(keys, key_stride, count, layout.head_dim, tile.keys);
      attend_page(tile, page, PlainRows<float>(tile.keys, kPagePositions), with_values, state);
    };
    if (direct) {
      attend(PlainRows<T>(values, value_stride));
      continue;
    }
    for (int64_t t = 0; t < count; ++t) {
      scale_row(values + t * value_stride, 1.0f, layout.head_dim, tile.values + t * layout.value_stride);
      for (int64_t i = layout.head_dim; i < layout.value_stride; ++i) tile.values[t * layout.value_stride + i] = 0;
    }
    attend(PlainRows<float>(tile.values, layout.value_stride));
  }
}

void attention_attend(const AttentionTile& tile, int64_t first_page, int64_t end_page, const SoftmaxState& state) {
  const int64_t rows = int64_t{tile.positions} * tile.group;
  std::memset(state.o, 0, static_cast<size_t>(rows * tile.cache->layout.value_stride) * sizeof(float));
  for (int64_t r = 0; r < rows; ++r) {
    state.m[r] = kMinusInfinity;
  }
  std::memset(state.l, 0, static_cast<size_t>(rows * kSumLanes) * sizeof(float));
  if (tile.dense) {
    switch (tile.cache->layout.type) {
      case DType::kF16: return attend_rows<F16>(tile, first_page, end_page, state);
      case DType::kBF16: return attend_rows<BF16>(tile, first_page, end_page, state);
      default: return attend_rows<float>(tile, first_page, end_page, state);
    }
  }
  switch (tile.cache->layout.type) {
    case DType::kF32: return attend_pages<PlainKeys<float>, PlainValues<float>>(tile, first_page, end_page, state);
    case DType::kF16: return attend_pages<PlainKeys<F16>, PlainValues<F16>>(tile, first_page, end_page, state);
    case DType::kBF16: return attend_pages<PlainKeys<BF16>, PlainValues<BF16>>(tile, first_page, end_page, state);
    default: return attend_pages<QuantisedKeys, QuantisedValues>(tile, first_page, end_page, state);
  }
}

void attention_merge(const SoftmaxState& total, const SoftmaxState& part, int64_t rows, int64_t stride) {
  const D d;
  const int64_t lanes = static_cast<int64_t>(Lanes(d));
  for (int64_t r = 0; r < rows; ++r) {
    float* o = total.o + r * stride;
    const float* po = part.o + r * stride;
    if (sum_of(part, r) == 0) continue;  // saw nothing
    float* l = total.l + r * kSumLanes;
    const float* pl = part.l + r * kSumLanes;
    if (sum_of(total, r) == 0) {
      std::memcpy(o, po, static_cast<size_t>(stride) * sizeof(float));
      std::memcpy(l, pl, kSumLanes * sizeof(float));
      total.m[r] = part.m[r];
      continue;
    }
    const float m = part.m[r] > total.m[r] ? part.m[r] : total.m[r];
    const auto old_factor = exp2(d, Set(d, total.m[r] - m));
    const auto new_factor = exp2(d, Set(d, part.m[r] - m));
    for (int64_t i = 0; i < stride; i += lanes) {
      StoreU(MulAdd(LoadU(d, po + i), new_factor, Mul(LoadU(d, o + i), old_factor)), d, o + i);
    }
    StoreU(MulAdd(LoadU(d, pl), new_factor, Mul(LoadU(d, l), old_factor)), d, l);
    total.m[r] = m;
  }
}

void attention_store(const AttentionTile& tile, const SoftmaxState& state) {
  const AttentionArgs& args = *tile.args;
  const KvLayout& layout = tile.cache->layout;
  const int64_t dim = layout.head_dim;
  for (int64_t p = 0; p < tile.positions; ++p) {
    for (int64_t g = 0; g < tile.group; ++g) {
      const int64_t r = p * tile.group + g;
      const float seen = sum_of(state, r);
      double sum = seen;
      if (args.sinks) sum += ::exp2(static_cast<double>(args.sinks[tile.kv_head * tile.group + g]) * kLog2E - state.m[r]);
      const float inverse = seen == 0 ? 0.0f : static_cast<float>(1.0 / sum);
      with_row(tile, p, g, args.out, args.out_stride, &DenseAttentionArgs::y, [&](auto* out) { scale_row(state.o + r * layout.value_stride, inverse, dim, out); });
    }
  }
}

}  // namespace

constexpr AttentionKernels kAttentionKernels = {attention_load, attention_attend, attention_merge, attention_store};

}  // namespace wick::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace wick::cpu {
const AttentionKernels& attention_kernels(Isa isa) { return *WICK_DISPATCH(isa, kAttentionKernels); }
}  // namespace wick::cpu
#endif
