#include "wick/kernels/kv_append.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

#include "wick/tensor/half.h"

namespace wick::ref {
namespace {

void rotate(float* x, const float* cos, const float* sin, int64_t half, bool interleaved) {
  for (int64_t i = 0; i < half; ++i) {
    float& x0 = interleaved ? x[2 * i] : x[i];
    float& x1 = interleaved ? x[2 * i + 1] : x[half + i];
    const float y0 = x0 * cos[i] - x1 * sin[i];
    const float y1 = x0 * sin[i] + x1 * cos[i];
    x0 = y0;
    x1 = y1;
  }
}

void put(DType type, std::byte* part, int64_t index, float value) {
  switch (type) {
    case DType::kF32: reinterpret_cast<float*>(part)[index] = value; break;
    case DType::kF16: reinterpret_cast<uint16_t*>(part)[index] = f32_to_f16(value); break;
    default: reinterpret_cast<uint16_t*>(part)[index] = f32_to_bf16(value);
  }
}

float get(DType type, const std::byte* part, int64_t index) {
  switch (type) {
    case DType::kF32: return reinterpret_cast<const float*>(part)[index];
    case DType::kF16: return f16_to_f32(reinterpret_cast<const uint16_t*>(part)[index]);
    case DType::kBF16: return bf16_to_f32(reinterpret_cast<const uint16_t*>(part)[index]);
    default: return static_cast<float>(reinterpret_cast<const int8_t*>(part)[index]);
  }
}

uint16_t round_up_to_bf16(float x) { return static_cast<uint16_t>((std::bit_cast<uint32_t>(x) + 0xffffu) >> 16); }

// Scale of a block of q8_0: bf16 bits.
uint16_t block_scale(const float* x, int64_t n) {
  float peak = 0;
  for (int64_t i = 0; i < n; ++i) {
    if (!std::isfinite(x[i])) return f32_to_bf16(std::numeric_limits<float>::quiet_NaN());
    peak = std::max(peak, std::fabs(x[i]));
  }
  return peak < 1e-30f ? 0 : round_up_to_bf16(peak / 127);
}

int8_t quantise(float x, uint16_t scale) {
  const float step = bf16_to_f32(scale);
  return step > 0 ? static_cast<int8_t>(std::nearbyint(x * (1.0f / step))) : int8_t{0};
}

void write(const KvLayerView& cache, int64_t page, int64_t kv_head, int64_t slot, const float* k, const float* v) {
  const KvLayout& layout = cache.layout;
  std::byte* head = cache.head(page, kv_head);
  std::byte* values = head + layout.values;
  if (layout.type != DType::kQ8_0) {
    for (int64_t d = 0; d < layout.head_dim; ++d) {
      put(layout.type, head, d * kPagePositions + slot, k[d]);
      put(layout.type, values, slot * layout.value_stride + d, v[d]);
    }
    return;
  }
  for (int64_t block = 0; block < layout.scale_blocks; ++block) {
    const int64_t begin = block * 32;
    const int64_t end = std::min<int64_t>(begin + 32, layout.head_dim);
    const uint16_t key_scale = block_scale(k + begin, end - begin);
    const uint16_t value_scale = block_scale(v + begin, end - begin);
    reinterpret_cast<uint16_t*>(head + layout.key_scales)[block * kPagePositions + slot] = key_scale;
    reinterpret_cast<uint16_t*>(head + layout.value_scales)[slot * layout.scale_blocks + block] = value_scale;
    for (int64_t d = begin; d < end; ++d) {
      reinterpret_cast<int8_t*>(head)[d * kPagePositions + slot] = quantise(k[d], key_scale);
      reinterpret_cast<int8_t*>(values)[slot * layout.value_stride + d] = quantise(v[d], value_scale);
    }
  }
}

}  // namespace

void rope_append(const RopeAppendArgs& args, const StepBatch& batch, const KvLayerView& cache) {
  const int64_t dim = cache.layout.head_dim;
  const int64_t kv_heads = cache.layout.kv_heads;
  for (int32_t b = 0; b < batch.sequences; ++b) {
    for (int64_t row = batch.first_row[b]; row < batch.first_row[b + 1]; ++row) {
      const int64_t position = batch.positions[row];
      const int32_t page = batch.page_table[int64_t{b} * batch.table_stride + position / kPagePositions];
      float* x = args.qkv + row * args.stride;
      for (int64_t h = 0; h < args.heads + kv_heads; ++h) {
        rotate(x + h * dim, args.cos + position * args.half, args.sin + position * args.half, args.half, args.interleaved);
      }
      const float* k = x + args.heads * dim;
      const float* v = k + kv_heads * dim;
      for (int64_t g = 0; g < kv_heads; ++g) write(cache, page, g, position % kPagePositions, k + g * dim, v + g * dim);
    }
  }
}

float key_at(const KvLayerView& cache, int64_t page, int64_t kv_head, int64_t slot, int64_t d) {
  const KvLayout& layout = cache.layout;
  const std::byte* head = cache.head(page, kv_head);
  const float value = get(layout.type, head, d * kPagePositions + slot);
  if (layout.type != DType::kQ8_0) return value;
  return value * bf16_to_f32(reinterpret_cast<const uint16_t*>(head + layout.key_scales)[d / 32 * kPagePositions + slot]);
}

float value_at(const KvLayerView& cache, int64_t page, int64_t kv_head, int64_t slot, int64_t d) {
  const KvLayout& layout = cache.layout;
  const std::byte* head = cache.head(page, kv_head);
  const float value = get(layout.type, head + layout.values, slot * layout.value_stride + d);
  if (layout.type != DType::kQ8_0) return value;
  return value * bf16_to_f32(reinterpret_cast<const uint16_t*>(head + layout.value_scales)[slot * layout.scale_blocks + d / 32]);
}

}  // namespace wick::ref
