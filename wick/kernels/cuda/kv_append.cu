#include "wick/kernels/cuda/step.cuh"
#include "wick/kernels/kv_append.h"

namespace wick::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int64_t kScaleBlock = 32;

// The query heads that share a key head, and behind them that one, which lies elsewhere.
__device__ void rotate_group(float* q, float* k, const RopeAppendArgs& args, int group, int dim, int position) {
  const int half = args.half;
#pragma unroll 1
  for (int item = static_cast<int>(threadIdx.x); item < (group + 1) * half; item += kThreads) {
    const int head = item / half, i = item - head * half;
    float* pair = head < group ? q + head * dim : k;
    float& first = pair[args.interleaved ? 2 * i : i];
    float& second = pair[args.interleaved ? 2 * i + 1 : i + half];
    const float c = args.cos[int64_t{position} * half + i], s = args.sin[int64_t{position} * half + i];
    const float x0 = first, x1 = second;
    first = x0 * c - x1 * s;
    second = x0 * s + x1 * c;
  }
}

template <class T>
__device__ void append_head(const float* k, const float* v, const KvLayout& layout, std::byte* part, int slot) {
#pragma unroll 1
  for (int d = static_cast<int>(threadIdx.x); d < layout.head_dim; d += kThreads) {
    reinterpret_cast<T*>(part)[d * kPagePositions + slot] = from_float<T>(k[d]);
    reinterpret_cast<T*>(part + layout.values)[slot * layout.value_stride + d] = from_float<T>(v[d]);
  }
}

// Scale of up to 32 values as bf16 bits, rounded up, so that no value exceeds 127; NaN when one is not finite.
__device__ uint16_t scale_of(const float* x, int64_t count) {
  float peak = 0;
  bool finite = true;
#pragma unroll 1
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
__device__ void append_head_q8(const float* k, const float* v, const KvLayout& layout, std::byte* part, int slot) {
  const int64_t blocks = layout.scale_blocks;
#pragma unroll 1
  for (int64_t block = threadIdx.x; block < blocks; block += kThreads) {
    const int64_t begin = block * kScaleBlock, count = min(kScaleBlock, layout.head_dim - begin);
    const uint16_t key_scale = scale_of(k + begin, count), value_scale = scale_of(v + begin, count);
    reinterpret_cast<uint16_t*>(part + layout.key_scales)[block * kPagePositions + slot] = key_scale;
    reinterpret_cast<uint16_t*>(part + layout.value_scales)[slot * blocks + block] = value_scale;
#pragma unroll 1
    for (int64_t i = begin; i < begin + count; ++i) {
      reinterpret_cast<int8_t*>(part)[i * kPagePositions + slot] = quantise(k[i], key_scale);
      reinterpret_cast<int8_t*>(part + layout.values)[slot * layout.value_stride + i] = quantise(v[i], value_scale);
    }
  }
}

// A block for every row and key head.
__global__ void __launch_bounds__(kThreads)
    rope_append_kernel(const __grid_constant__ RopeAppendArgs args, const __grid_constant__ Step step,
                       const __grid_constant__ KvLayerView cache) {
  begin_kernel();
  const int row = static_cast<int>(blockIdx.x), kv_head = static_cast<int>(blockIdx.y);
  const KvLayout& layout = cache.layout;
  const int dim = layout.head_dim, group = args.heads / layout.kv_heads;
  const int position = step.positions[row];
  const int32_t* table = step.pages_of(step.sequence_of(row));
  float* q = args.qkv + row * args.stride + int64_t{kv_head} * group * dim;
  float* k = args.qkv + row * args.stride + int64_t{args.heads + kv_head} * dim;
  const float* v = k + int64_t{layout.kv_heads} * dim;
  rotate_group(q, k, args, group, dim, position);
  __syncthreads();
  std::byte* part = cache.pages + int64_t{table[position / kPagePositions]} * layout.page_bytes + kv_head * layout.head_bytes;
  const int slot = position % static_cast<int>(kPagePositions);
  switch (layout.type) {
    case DType::kQ8_0: return append_head_q8(k, v, layout, part, slot);
    case DType::kF16: return append_head<__half>(k, v, layout, part, slot);
    case DType::kBF16: return append_head<__nv_bfloat16>(k, v, layout, part, slot);
    default: return append_head<float>(k, v, layout, part, slot);
  }
}

}  // namespace

void rope_append(Context& ctx, const RopeAppendArgs& args, const StepBatch& batch, const KvLayerView& cache) {
  launch(ctx, "rope_append", rope_append_kernel, dim3(static_cast<unsigned>(batch.rows), static_cast<unsigned>(cache.layout.kv_heads)),
         kThreads, 0, args, Step(batch), cache);
}

}  // namespace wick::cuda
