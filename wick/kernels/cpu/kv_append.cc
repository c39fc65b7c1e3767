#include "wick/kernels/kv_append.h"

#include <bit>
#include <cstddef>
#include <cstdint>

#include "wick/base/checked.h"
#include "wick/tensor/half.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "wick/kernels/cpu/kv_append.cc"
#include "wick/kernels/cpu/foreach_isa.h"
// After it: compiled per instruction set.
#include "wick/kernels/cpu/convert-inl.h"

HWY_BEFORE_NAMESPACE();
namespace wick::cpu::HWY_NAMESPACE {
namespace {
using namespace hwy::HWY_NAMESPACE;  // NOLINT(google-build-using-namespace)

// x[i], x[i + half] or x[2i], x[2i + 1] for i in [begin, half) in whole vectors of d; returns the first i not done.
template <class D>
int64_t rotate_vectors(D d, float* x, const float* cos, const float* sin, int64_t begin, int64_t half, bool interleaved) {
  const int64_t lanes = static_cast<int64_t>(Lanes(d));
  int64_t i = begin;
  for (; i + lanes <= half; i += lanes) {
    auto x0 = Zero(d);
    auto x1 = Zero(d);
    if (interleaved) {
      LoadInterleaved2(d, x + 2 * i, x0, x1);
    } else {
      x0 = LoadU(d, x + i);
      x1 = LoadU(d, x + half + i);
    }
    const auto c = LoadU(d, cos + i);
    const auto s = LoadU(d, sin + i);
    const auto y0 = Sub(Mul(x0, c), Mul(x1, s));
    const auto y1 = Add(Mul(x0, s), Mul(x1, c));
    if (interleaved) {
      StoreInterleaved2(y0, y1, d, x + 2 * i);
    } else {
      StoreU(y0, d, x + i);
      StoreU(y1, d, x + half + i);
    }
  }
  return i;
}

void rotate(float* x, const float* cos, const float* sin, int64_t half, bool interleaved) {
  const int64_t done = rotate_vectors(HWY_FULL(float)(), x, cos, sin, 0, half, interleaved);
  rotate_vectors(HWY_CAPPED(float, 1)(), x, cos, sin, done, half, interleaved);
}

// Rounds n values to the type of `out`, to nearest even.
template <class T>
HWY_INLINE void convert(const float* x, int64_t n, T* out) {
  const HWY_FULL(float) d;
  const int64_t lanes = static_cast<int64_t>(Lanes(d));
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) store(LoadU(d, x + i), d, out + i);
  if (i < n) store_part(load_part(d, x + i, n - i), d, out + i, n - i);
}

// Quantises n <= 32 values; returns the bf16 bits of the scale. Maximum by bits, where NaN is above infinity and so is not lost.
uint16_t quantise(const float* x, int64_t n, int8_t* out) {
  uint32_t top = 0;
  for (int64_t i = 0; i < n; ++i) {
    const uint32_t magnitude = std::bit_cast<uint32_t>(x[i]) & 0x7fffffffu;
    top = magnitude > top ? magnitude : top;
  }
  const bool finite = top < 0x7f800000u;
  const float peak = std::bit_cast<float>(top);
  if (!finite || peak < 1e-30f) {
    for (int64_t i = 0; i < n; ++i) out[i] = 0;
    return finite ? 0 : 0x7fc0;
  }
  const uint32_t scale = (std::bit_cast<uint32_t>(peak / 127) + 0xffffu) & 0xffff0000u;
  const float inverse = 1.0f / std::bit_cast<float>(scale);
  constexpr float kRounder = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer, kept in the low bits
  for (int64_t i = 0; i < n; ++i) out[i] = static_cast<int8_t>(std::bit_cast<int32_t>(x[i] * inverse + kRounder));
  return static_cast<uint16_t>(scale >> 16);
}

template <class T>
void write_plain(const KvLayout& layout, std::byte* head, int64_t slot, int64_t count, const float* k, const float* v, int64_t stride) {
  T* keys = reinterpret_cast<T*>(head) + slot;
  T* values = reinterpret_cast<T*>(head + layout.values) + slot * layout.value_stride;
  T row[kMaxHeadDim];
  for (int64_t t = 0; t < count; ++t) {
    convert(k + t * stride, layout.head_dim, row);
    for (int64_t i = 0; i < layout.head_dim; ++i) keys[i * kPagePositions + t] = row[i];
    convert(v + t * stride, layout.head_dim, values + t * layout.value_stride);
  }
}

void write_quantised(const KvLayout& layout, std::byte* head, int64_t slot, int64_t count, const float* k, const float* v, int64_t stride) {
  int8_t* keys = reinterpret_cast<int8_t*>(head) + slot;
  int8_t* values = reinterpret_cast<int8_t*>(head + layout.values) + slot * layout.value_stride;
  uint16_t* key_scales = reinterpret_cast<uint16_t*>(head + layout.key_scales) + slot;
  uint16_t* value_scales = reinterpret_cast<uint16_t*>(head + layout.value_scales) + slot * layout.scale_blocks;
  for (int64_t t = 0; t < count; ++t) {
    for (int64_t block = 0; block < layout.scale_blocks; ++block) {
      const int64_t d0 = block * 32;
      const int64_t n = layout.head_dim - d0 < 32 ? layout.head_dim - d0 : 32;
      int8_t row[32];
      key_scales[block * kPagePositions + t] = quantise(k + t * stride + d0, n, row);
      for (int64_t i = 0; i < n; ++i) keys[(d0 + i) * kPagePositions + t] = row[i];
      value_scales[t * layout.scale_blocks + block] = quantise(v + t * stride + d0, n, values + t * layout.value_stride + d0);
    }
  }
}

void write_head(const KvLayerView& cache, int64_t page, int64_t kv_head, int64_t slot, int64_t count, const float* k, const float* v,
                int64_t stride) {
  const KvLayout& layout = cache.layout;
  std::byte* head = cache.head(page, kv_head);
  switch (layout.type) {
    case DType::kF32: return write_plain<float>(layout, head, slot, count, k, v, stride);
    case DType::kF16: return write_plain<F16>(layout, head, slot, count, k, v, stride);
    case DType::kBF16: return write_plain<BF16>(layout, head, slot, count, k, v, stride);
    default: return write_quantised(layout, head, slot, count, k, v, stride);
  }
}

// One run of rows and one kv head with its query heads.
void append_run(const RopeAppendArgs& args, const StepBatch& batch, const KvLayerView& cache, const PageRun& run, int64_t kv_head) {
  const int64_t dim = cache.layout.head_dim;
  const int64_t kv_heads = cache.layout.kv_heads;
  const int64_t group = args.heads / kv_heads;
  for (int64_t row = run.row; row < run.row + run.count; ++row) {
    const float* cos = args.cos + batch.positions[row] * int64_t{args.half};
    const float* sin = args.sin + batch.positions[row] * int64_t{args.half};
    float* x = args.qkv + row * args.stride;
    for (int64_t h = kv_head * group; h < (kv_head + 1) * group; ++h) rotate(x + h * dim, cos, sin, args.half, args.interleaved);
    rotate(x + (args.heads + kv_head) * dim, cos, sin, args.half, args.interleaved);
  }
  const int64_t position = batch.positions[run.row];
  const int32_t page = batch.page_table[int64_t{run.sequence} * batch.table_stride + position / kPagePositions];
  const float* k = args.qkv + run.row * args.stride + (args.heads + kv_head) * dim;
  write_head(cache, page, kv_head, position % kPagePositions, run.count, k, k + kv_heads * dim, args.stride);
}

}  // namespace

void rope_append_run(const RopeAppendArgs& args, const StepBatch& batch, const KvLayerView& cache, const PageRun& run, int64_t kv_head) {
  append_run(args, batch, cache, run, kv_head);
}

}  // namespace wick::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace wick::cpu {

void rope_append(Context& ctx, const RopeAppendArgs& args, const StepBatch& batch, const KvLayerView& cache) {
  const ScratchScope scope(ctx);
  PageRun* runs = ctx.scratch<PageRun>(batch.rows).data();
  int64_t count = 0;
  for (int32_t b = 0; b < batch.sequences; ++b) {
    for (int32_t row = batch.first_row[b]; row < batch.first_row[b + 1];) {
      const int32_t room = static_cast<int32_t>(kPagePositions - batch.positions[row] % kPagePositions);
      const int32_t left = batch.first_row[b + 1] - row;
      runs[count++] = {b, row, left < room ? left : room};
      row += runs[count - 1].count;
    }
  }
  const auto run = WICK_DISPATCH(ctx.isa(), rope_append_run);
  const int64_t kv_heads = cache.layout.kv_heads;
  // A task should be worth a thread's while: some microseconds.
  const int64_t task_floats = batch.rows / (count > 0 ? count : 1) * (args.heads / kv_heads + 2) * cache.layout.head_dim + 1;
  ctx.pool().parallel_for(count * kv_heads, ceil_div<int64_t>(8192, task_floats), [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) run(args, batch, cache, runs[i / kv_heads], i % kv_heads);
  });
}

}  // namespace wick::cpu
#endif
