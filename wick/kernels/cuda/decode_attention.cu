// Attention of few rows over pages of f16 or bf16, a unit of 32 positions for each warp at a time.
#include <algorithm>

#include "wick/kernels/cuda/paged_parts.cuh"
#include "wick/kernels/cuda/unit_attention.cuh"

namespace wick::cuda {
namespace {

constexpr int kMostWarps = 8;       // of a block
constexpr int kWarpsTogether = 16;  // that a multiprocessor has registers for
constexpr int kMergeThreads = 128;
constexpr int64_t kPagesPerShare = 8;  // at least: less is not worth merging

struct DecodeArgs {
  PagedArgs paged;
  RopeAppendArgs rope;  // without qkv: the pages hold the step's own keys already
};

__device__ float2 rotate(const RopeAppendArgs& rope, int64_t position, int i, float x0, float x1) {
  if (!rope.qkv || i >= rope.half) return {x0, x1};
  const float c = rope.cos[position * rope.half + i], s = rope.sin[position * rope.half + i];
  return {x0 * c - x1 * s, x0 * s + x1 * c};
}

// The block's query heads.
template <class T, int kDim>
__device__ void load_queries(const DecodeArgs& args, int row, int first_head, int heads, int position, UnitQueries<T, kDim>& q) {
  for (int item = static_cast<int>(threadIdx.x); item < heads * kDim / 2; item += static_cast<int>(blockDim.x)) {
    const int h = item / (kDim / 2), i = item % (kDim / 2);
    const int2 d = rotated_pair(args.rope, i);
    const float* from = args.paged.attention.q + row * args.paged.attention.q_stride + int64_t{first_head + h} * kDim;
    const float2 x = rotate(args.rope, position, i, from[d.x], from[d.y]);
    q.put(h, d.x, x.x);
    q.put(h, d.y, x.y);
  }
}

// The row's own key and value.
template <class T, int kDim>
__device__ void append(const DecodeArgs& args, int row, int kv_head, int position, std::byte* head) {
  const KvLayout& layout = args.paged.cache.layout;
  const int slot = position % kPage;
  const float* k = args.rope.qkv + row * args.rope.stride + int64_t{args.rope.heads + kv_head} * kDim;
  const float* v = k + int64_t{layout.kv_heads} * kDim;
  for (int i = static_cast<int>(threadIdx.x); i < kDim / 2; i += static_cast<int>(blockDim.x)) {
    const int2 d = rotated_pair(args.rope, i);
    const float2 x = rotate(args.rope, position, i, k[d.x], k[d.y]);
    T* keys = reinterpret_cast<T*>(head);
    T* values = reinterpret_cast<T*>(head + layout.values) + slot * layout.value_stride;
    keys[d.x * kPage + slot] = from_float<T>(x.x);
    keys[d.y * kPage + slot] = from_float<T>(x.y);
    values[d.x] = from_float<T>(v[d.x]);
    values[d.y] = from_float<T>(v[d.y]);
  }
}

// The step's positions and page tables are copied before its first kernel, and nobody reads this step's cache before it is written: they
// may be looked at before the kernels before are done.
template <class T, int kDim>
__global__ void __launch_bounds__(kMostWarps* kWarp, kWarpsTogether / kMostWarps)
    decode_attention_kernel(const __grid_constant__ DecodeArgs args) {
  let_next_begin();
  extern __shared__ float all_outs[];  // [warps, heads, kDim]
  __shared__ UnitQueries<T, kDim> q;
  __shared__ float peaks[kMostWarps][kUnitHeads], sums[kMostWarps][kUnitHeads];
  const AttentionArgs& attention = args.paged.attention;
  const KvLayout& layout = args.paged.cache.layout;
  const int group = attention.heads / layout.kv_heads;
  const int row = static_cast<int>(blockIdx.x), share = static_cast<int>(blockIdx.y),
            kv_head = static_cast<int>(blockIdx.z) / args.paged.chunks;
  const int chunk_begin = static_cast<int>(blockIdx.z) % args.paged.chunks * kUnitHeads;
  const int heads = min(kUnitHeads, group - chunk_begin), first_head = kv_head * group + chunk_begin;
  const int warp = static_cast<int>(threadIdx.x) / kWarp, warps = static_cast<int>(blockDim.x) / kWarp;

  const int end = args.paged.step.positions[row] + 1;
  const int begin = attention.window > 0 ? static_cast<int>(max(int64_t{0}, end - attention.window)) : 0;
  const int32_t* table = args.paged.step.pages_of(args.paged.step.sequence_of(row));
  const auto head_of = [&](int page) { return args.paged.cache.pages + table[page] * layout.page_bytes + kv_head * layout.head_bytes; };
  const int first_unit = begin / kUnit, units = (end + kUnit - 1) / kUnit - first_unit;
  const int per_share = (units + args.paged.shares - 1) / args.paged.shares;
  const int first = first_unit + share * per_share, last = first_unit + min(units, (share + 1) * per_share);

  for (int unit = first + warp; unit < last; unit += warps)
    prefetch_unit<T, kDim>(head_of(unit / kUnitsPerPage), layout, unit % kUnitsPerPage * kUnit);
  wait_for_input();
  load_queries<T, kDim>(args, row, first_head, heads, end - 1, q);
  // Whoever needs the row's own key writes it: the blocks of other heads of its group the same.
  if (args.rope.qkv && first < last && last == first_unit + units) append<T, kDim>(args, row, kv_head, end - 1, head_of((end - 1) / kPage));
  __syncthreads();
  UnitState<T, kDim> state;
#pragma unroll 1
  for (int unit = first + warp; unit < last; unit += warps) {
    const std::byte* head = head_of(unit / kUnitsPerPage);
    const int slot = unit % kUnitsPerPage * kUnit, start = unit * kUnit;
    state.add(reinterpret_cast<const T*>(head) + slot, reinterpret_cast<const T*>(head + layout.values) + slot * layout.value_stride,
              layout.value_stride, q, args.paged.rule, first_head, heads, max(0, begin - start), min(kUnit, end - start),
              start - (end - 1));
  }
  state.put(heads, all_outs + warp * heads * kDim, peaks[warp], sums[warp]);
  __syncthreads();
  for (int i = static_cast<int>(threadIdx.x); i < heads * kDim; i += static_cast<int>(blockDim.x)) {
    const int h = i / kDim;
    float peak = -INFINITY, sum = 0, out = 0;
    for (int w = 0; w < warps; ++w) peak = fmaxf(peak, peaks[w][h]);
    for (int w = 0; w < warps; ++w) {
      const float factor = rescale(peaks[w][h], peak);
      sum = fmaf(sums[w][h], factor, sum);
      out = fmaf(all_outs[w * heads * kDim + i], factor, out);
    }
    put_share(args.paged, row, first_head + h, share, i % kDim, out, peak, sum);
  }
}

__global__ void __launch_bounds__(kMergeThreads) merge_kernel(const __grid_constant__ PagedArgs args) {
  begin_kernel();
  const AttentionArgs& attention = args.attention;
  const int row = static_cast<int>(blockIdx.x), head = static_cast<int>(blockIdx.y), dim = args.cache.layout.head_dim;
  const float* parts = args.partial + (int64_t{row} * attention.heads + head) * args.shares * (dim + 2);
  for (int d = static_cast<int>(threadIdx.x); d < dim; d += kMergeThreads) {
    float peak = -INFINITY, sum = 0, out = 0;
    for (int s = 0; s < args.shares; ++s) peak = fmaxf(peak, parts[s * (dim + 2) + dim]);
    for (int s = 0; s < args.shares; ++s) {
      const float* part = parts + s * (dim + 2);
      const float factor = rescale(part[dim], peak);
      sum += part[dim + 1] * factor;
      out += part[d] * factor;
    }
    put_out<1>(attention, row, int64_t{head} * dim + d, {sum == 0 ? 0 : out * final_factor(peak, sum, args.rule.sinks, head)});
  }
}

// Of a block: few where there are many blocks, so that all of them run at once and none waits for others to begin.
int warps_of(int64_t blocks, int multiprocessors) {
  int warps = kMostWarps;
  while (warps > 2 && blocks * warps > int64_t{kWarpsTogether} * multiprocessors) warps /= 2;
  return warps;
}

template <class T, int kDim>
void run(Context& ctx, DecodeArgs args, const StepBatch& batch) {
  PagedArgs& paged = args.paged;
  const int32_t kv_heads = paged.cache.layout.kv_heads;
  paged.chunks = ceil_div<int32_t>(paged.attention.heads / kv_heads, kUnitHeads);
  const int64_t blocks = int64_t{batch.rows} * kv_heads * paged.chunks;
  const ScratchScope scope(ctx);
  share_pages(ctx, paged, batch, blocks, kPagesPerShare);
  const dim3 grid(static_cast<unsigned>(batch.rows), static_cast<unsigned>(paged.shares), static_cast<unsigned>(kv_heads * paged.chunks));
  const int warps = warps_of(blocks * paged.shares, stream_of(ctx).multiprocessors());
  const size_t outs = static_cast<size_t>(warps) * std::min<int32_t>(paged.attention.heads / kv_heads, kUnitHeads) * kDim * sizeof(float);
  launch(ctx, "paged_attention", decode_attention_kernel<T, kDim>, grid, static_cast<unsigned>(warps * kWarp), outs, args);
  if (paged.shares > 1) merge_shares(ctx, paged, batch.rows);
}

template <class T>
bool run(Context& ctx, const DecodeArgs& args, const StepBatch& batch) {
  switch (args.paged.cache.layout.head_dim) {
    case 64: run<T, 64>(ctx, args, batch); return true;
    case 128: run<T, 128>(ctx, args, batch); return true;
    default: return false;
  }
}

}  // namespace

void merge_shares(Context& ctx, const PagedArgs& args, int rows) {
  const dim3 rows_and_heads(static_cast<unsigned>(rows), static_cast<unsigned>(args.attention.heads));
  launch(ctx, "paged_attention", merge_kernel, rows_and_heads, kMergeThreads, 0, args);
}

bool decode_attention(Context& ctx, PagedArgs args, const RopeAppendArgs& rope, const StepBatch& batch) {
  if (ctx.batch_invariant()) return false;
  switch (args.cache.layout.type) {
    case DType::kF16: return run<__half>(ctx, {args, rope}, batch);
    case DType::kBF16: return run<__nv_bfloat16>(ctx, {args, rope}, batch);
    default: return false;
  }
}

}  // namespace wick::cuda
