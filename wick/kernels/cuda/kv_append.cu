#include "wick/kernels/kv_append.h"

#include "wick/kernels/cuda/step.cuh"

namespace wick::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int64_t kScaleBlock = 32;

__device__ void rotate_row(float* x, const RopeAppendArgs& args, int64_t heads, int64_t dim, int64_t position) {
  const int half = args.half;
  for (int64_t item = threadIdx.x; item < heads * half; item += kThreads) {
    const int64_t head = item / half, i = item - head * half;
    float* pair = x + head * dim;
    float& first = pair[args.interleaved ? 2 * i : i];
    float& second = pair[args.interleaved ? 2 * i + 1 : i + half];
    const float c = args.cos[position * half + i], s = args.sin[position * half + i];
    const float x0 = first, x1 = second;
    first = x0 * c - x1 * s;
    second = x0 * s + x1 * c;
  }
}

template <class T>
__device__ void append_row(const float* k, const float* v, const KvLayout& layout, std::byte* page, int slot) {
  const int64_t dim = layout.head_dim;
  for (int64_t item = threadIdx.x; item < layout.kv_heads * dim; item += kThreads) {
    const int64_t head = item / dim, d = item - head * dim;
    std::byte* part = page + head * layout.head_bytes;
    reinterpret_cast<T*>(part)[d * kPagePositions + slot] = from_float<T>(k[item]);
    reinterpret_cast<T*>(part + layout.values)[slot * layout.value_stride + d] = from_float<T>(v[item]);
  }
}

// Scale of up to 32 values as bf16 bits, rounded up, so that no value exceeds 127; NaN when one is not finite.
__device__ uint16_t scale_of(const float* x, int64_t count) {
  float peak = 0;
  bool finite = true;
  for (int64_t i = 0; i < count; ++i) {
    finite = finite && isfinite(x[i]);
    peak = fmaxf(peak, fabsf(x[i]));
  }
  if (!finite) return 0x7fc0;
  return peak < 1e-30f ? 0 : static_cast<uint16_t>((__float_as_uint(peak / 127) + 0xffffu) >> 16);
}

__device__ int8_t quantise(float x, uint16_t scale) {
  const float step = __uint_as_float(uint32_t{scale} << 16);
  return step > 0 ? static_cast<int8_t>(rintf(x * (1.0f / step))) : int8_t{0};
}

// A thread for every block of 32.
__device__ void append_row_q8(const float* k, const float* v, const KvLayout& layout, std::byte* page, int slot) {
  const int64_t dim = layout.head_dim, blocks = layout.scale_blocks;
  for (int64_t item = threadIdx.x; item < layout.kv_heads * blocks; item += kThreads) {
    const int64_t head = item / blocks, block = item - head * blocks;
    const int64_t begin = block * kScaleBlock, count = min(kScaleBlock, dim - begin);
    std::byte* part = page + head * layout.head_bytes;
    const float* keys = k + head * dim + begin;
    const float* values = v + head * dim + begin;
    const uint16_t key_scale = scale_of(keys, count), value_scale = scale_of(values, count);
    reinterpret_cast<uint16_t*>(part + layout.key_scales)[block * kPagePositions + slot] = key_scale;
    reinterpret_cast<uint16_t*>(part + layout.value_scales)[slot * blocks + block] = value_scale;
    for (int64_t i = 0; i < count; ++i) {
      reinterpret_cast<int8_t*>(part)[(begin + i) * kPagePositions + slot] = quantise(keys[i], key_scale);
      reinterpret_cast<int8_t*>(part + layout.values)[slot * layout.value_stride + begin + i] = quantise(values[i], value_scale);
    }
  }
}

// A block for every row.
__global__ void __launch_bounds__(kThreads) rope_append_kernel(const __grid_constant__ RopeAppendArgs args, const __grid_constant__ Step step,
                                                               const __grid_constant__ KvLayerView cache) {
  begin_kernel();
  const int row = static_cast<int>(blockIdx.x);
  const KvLayout& layout = cache.layout;
  const int64_t dim = layout.head_dim;
  const int position = step.positions[row];
  const int32_t* table = step.pages_of(step.sequence_of(row));
  float* x = args.qkv + row * args.stride;
  rotate_row(x, args, args.heads + layout.kv_heads, dim, position);
  __syncthreads();
  const float* k = x + args.heads * dim;
  const float* v = k + layout.kv_heads * dim;
  std::byte* page = cache.pages + int64_t{table[position / kPagePositions]} * layout.page_bytes;
  const int slot = position % static_cast<int>(kPagePositions);
  switch (layout.type) {
    case DType::kQ8_0: return append_row_q8(k, v, layout, page, slot);
    case DType::kF16: return append_row<__half>(k, v, layout, page, slot);
    case DType::kBF16: return append_row<__nv_bfloat16>(k, v, layout, page, slot);
    default: return append_row<float>(k, v, layout, page, slot);
  }
}

}  // namespace

void rope_append(Context& ctx, const RopeAppendArgs& args, const StepBatch& batch, const KvLayerView& cache) {
  launch(ctx, "rope_append", rope_append_kernel, static_cast<unsigned>(batch.rows), kThreads, 0, args, Step(batch), cache);
}

}  // namespace wick::cuda
