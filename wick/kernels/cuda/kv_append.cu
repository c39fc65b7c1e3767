#include "wick/kernels/cuda/paged_parts.cuh"

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

__device__ float2 rotated(const float* head, const int2& d, const RopeAppendArgs& args, int position, int i) {
  const float x0 = head[d.x], x1 = head[d.y];
  if (i >= args.half) return {x0, x1};
  const float c = args.cos[int64_t{position} * args.half + i], s = args.sin[int64_t{position} * args.half + i];
  return {x0 * c - x1 * s, x0 * s + x1 * c};
}

// The rows of a sequence whose positions lie in one page.
struct PageOfRows {
  int sequence, row, count, slot;  // slot: of the first

  // They are counted through the sequences.
  __device__ PageOfRows(const Step& step, int number) : sequence(0) {
    while (true) {
      const int begin = step.first_row[sequence], rows = step.first_row[sequence + 1] - begin, position = step.positions[begin];
      const int first_page = position / kPage, pages = (position + rows - 1) / kPage - first_page + 1;
      if (number < pages) {
        const int skipped = number == 0 ? 0 : (first_page + number) * kPage - position;
        row = begin + skipped;
        slot = (position + skipped) % kPage;
        count = min(kPage - slot, rows - skipped);
        return;
      }
      number -= pages;
      ++sequence;
    }
  }
};

constexpr int kTransposedStride = kPage + 2;  // so that neighbouring dimensions lie in different banks

// The keys and values of a page's rows. Keys turn in shared memory, so that whole lines of them are written.
template <class T>
__device__ void append_page(const RopeAppendArgs& args, const PageOfRows& own, int position, int kv_head, const KvLayout& layout,
                            std::byte* part) {
  extern __shared__ __align__(16) unsigned char shared[];
  T* const keys = reinterpret_cast<T*>(shared);  // [Dh, kTransposedStride]
  const int dim = layout.head_dim, pairs = dim / 2;
#pragma unroll 2
  for (int item = static_cast<int>(threadIdx.x); item < own.count * pairs; item += kThreads) {
    const int row = item / pairs, i = item - row * pairs;
    const int2 d = rotated_pair(args, i);
    float* k = args.qkv + (own.row + row) * args.stride + (args.heads + kv_head) * dim;
    const float* v = k + layout.kv_heads * dim + 2 * i;
    store<2>({v[0], v[1]}, reinterpret_cast<T*>(part + layout.values) + (own.slot + row) * layout.value_stride + 2 * i);
    const float2 x = rotated(k, d, args, position + row, i);
    keys[d.x * kTransposedStride + row] = from_float<T>(x.x);
    keys[d.y * kTransposedStride + row] = from_float<T>(x.y);
    k[d.x] = x.x;
    k[d.y] = x.y;
  }
  __syncthreads();
  for (int item = static_cast<int>(threadIdx.x); item < dim * own.count; item += kThreads) {
    const int d = item / own.count, row = item - d * own.count;
    reinterpret_cast<T*>(part)[d * kPage + own.slot + row] = keys[d * kTransposedStride + row];
  }
}

__device__ void rotate_rows(const RopeAppendArgs& args, const PageOfRows& own, int position, int head, int dim) {
#pragma unroll 4
  for (int item = static_cast<int>(threadIdx.x); item < own.count * args.half; item += kThreads) {
    const int row = item / args.half, i = item - row * args.half;
    float* const q = args.qkv + (own.row + row) * args.stride + head * dim;
    const int2 d = rotated_pair(args, i);
    const float2 x = rotated(q, d, args, position + row, i);
    q[d.x] = x.x;
    q[d.y] = x.y;
  }
}

// A block for every page and head: key heads, then query heads.
template <class T>
__global__ void __launch_bounds__(kThreads)
    append_pages_kernel(const __grid_constant__ RopeAppendArgs args, const __grid_constant__ Step step,
                        const __grid_constant__ KvLayerView cache) {
  begin_kernel();
  const KvLayout& layout = cache.layout;
  const PageOfRows own(step, static_cast<int>(blockIdx.x));
  const int head = static_cast<int>(blockIdx.y), position = step.positions[own.row];
  if (head >= layout.kv_heads) return rotate_rows(args, own, position, head - layout.kv_heads, layout.head_dim);
  const int page = step.pages_of(own.sequence)[position / kPage];
  append_page<T>(args, own, position, head, layout, cache.pages + int64_t{page} * layout.page_bytes + head * layout.head_bytes);
}

template <class T>
void append_pages(Context& ctx, const RopeAppendArgs& args, const StepBatch& batch, const KvLayerView& cache) {
  int64_t pages = 0;
  for (int32_t b = 0; b < batch.sequences; ++b) {
    pages += batch.positions[batch.first_row[b + 1] - 1] / kPage - batch.positions[batch.first_row[b]] / kPage + 1;
  }
  const size_t shared = sizeof(T) * kTransposedStride * static_cast<size_t>(cache.layout.head_dim);
  stream_of(ctx).use();
  check(cudaFuncSetAttribute(reinterpret_cast<const void*>(append_pages_kernel<T>), cudaFuncAttributeMaxDynamicSharedMemorySize,
                             static_cast<int>(shared)),
        "rope_append");
  launch(ctx, "rope_append", append_pages_kernel<T>,
         dim3(static_cast<unsigned>(pages), static_cast<unsigned>(cache.layout.kv_heads + args.heads)), kThreads, shared, args, Step(batch),
         cache);
}

// Whether a step's rows are worth the pages they come in. Not where each sequence has one: such a step is replayed at other positions.
bool fills_pages(const StepBatch& batch, const KvLayout& layout) {
  constexpr int32_t kRowsOfSequence = 8;
  return batch.rows >= kRowsOfSequence * batch.sequences && layout.head_dim <= 256 &&
         (layout.type == DType::kF16 || layout.type == DType::kBF16);
}

}  // namespace

void rope_append(Context& ctx, const RopeAppendArgs& args, const StepBatch& batch, const KvLayerView& cache) {
  if (fills_pages(batch, cache.layout)) {
    return cache.layout.type == DType::kF16 ? append_pages<__half>(ctx, args, batch, cache)
                                            : append_pages<__nv_bfloat16>(ctx, args, batch, cache);
  }
  launch(ctx, "rope_append", rope_append_kernel, dim3(static_cast<unsigned>(batch.rows), static_cast<unsigned>(cache.layout.kv_heads)),
         kThreads, 0, args, Step(batch), cache);
}

}  // namespace wick::cuda
