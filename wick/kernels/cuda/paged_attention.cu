// Attention over the pages of a cache. For steps of few rows a block works on some query heads of one row that share a kv head, over a
// share of its pages. Its warps work on a page together, to have it soon: each multiplies some dimensions of all keys, then all dimensions
// of some values. Shares are merged in order by a second kernel. Steps of many rows run on the tensor cores.
#include "wick/kernels/cuda/attention_tiles.cuh"
#include "wick/kernels/cuda/paged_parts.cuh"

namespace wick::cuda {
namespace {

constexpr int kWarps = 4;
constexpr int kThreads = kWarps * kWarp;
constexpr int kAhead = 8;                   // loads on their way together
constexpr int kOwnValues = kPage / kWarps;  // positions of a page whose values are a warp's
constexpr int64_t kPagesPerShare = 4;       // at least: less is not worth merging

struct Q8 {};  // the type of pages of q8_0

// Keys of one position and the next, and one value, of a page's head.
template <class T>
struct PageReader {
  const std::byte* head;
  const KvLayout& layout;

  __device__ float2 keys(int d, int slot) const {
    if constexpr (std::is_same_v<T, Q8>) {
      const char2 q = *reinterpret_cast<const char2*>(head + d * kPage + slot);
      const ushort2 s = *reinterpret_cast<const ushort2*>(head + layout.key_scales + 2 * (d / 32 * kPage + slot));
      return {static_cast<float>(q.x) * __uint_as_float(uint32_t{s.x} << 16),
              static_cast<float>(q.y) * __uint_as_float(uint32_t{s.y} << 16)};
    } else {
      float x[2];
      load<2>(reinterpret_cast<const T*>(head) + d * kPage + slot, x);
      return {x[0], x[1]};
    }
  }

  __device__ float value(int slot, int d) const {
    if constexpr (std::is_same_v<T, Q8>) {
      const int8_t q = reinterpret_cast<const int8_t*>(head + layout.values)[slot * layout.value_stride + d];
      const uint16_t s = reinterpret_cast<const uint16_t*>(head + layout.value_scales)[slot * layout.scale_blocks + d / 32];
      return static_cast<float>(q) * __uint_as_float(uint32_t{s} << 16);
    } else {
      return to_float(reinterpret_cast<const T*>(head + layout.values)[slot * layout.value_stride + d]);
    }
  }
};

// The running state for a block's query heads: the softmax's is the same in every warp, of the sums a warp holds its values' part. Lane l
// has dimensions l, l + 32, …
template <int kHeads, int kDims>
struct State {
  float peak[kHeads], sum[kHeads];
  float out[kHeads][kDims];
};

// Products of all keys of a page with a warp's share of the dimensions.
template <class T, int kHeads>
__device__ void multiply_keys(const PageReader<T>& page, const float* q, float* products) {
  const int warp = static_cast<int>(threadIdx.x) / kWarp, slot = static_cast<int>(threadIdx.x) % kWarp * 2, dim = page.layout.head_dim;
  const int begin = warp * (dim / kWarps), end = begin + dim / kWarps;
  float sums[kHeads][2] = {};
#pragma unroll 1
  for (int first = begin; first < end; first += kAhead) {
    float2 k[kAhead];
#pragma unroll
    for (int i = 0; i < kAhead; ++i) k[i] = page.keys(min(first + i, end - 1), slot);
#pragma unroll
    for (int i = 0; i < kAhead; ++i) {
#pragma unroll
      for (int h = 0; h < kHeads; ++h) {  // dimensions beyond the warp's own are its last one, times zero
        const float factor = first + i < end ? q[h * dim + first + i] : 0;
        sums[h][0] = fmaf(factor, k[i].x, sums[h][0]);
        sums[h][1] = fmaf(factor, k[i].y, sums[h][1]);
      }
    }
  }
#pragma unroll
  for (int h = 0; h < kHeads; ++h) *reinterpret_cast<float2*>(products + (warp * kHeads + h) * kPage + slot) = {sums[h][0], sums[h][1]};
}

// Adds the positions [begin, end) of one page, counted from its first. products: [kWarps, kHeads, 64]; weights: [kHeads, 64] of this warp.
template <class T, int kHeads, int kDims>
__device__ void add_page(const PagedArgs& args, const PageReader<T>& page, const float* q, float* products, float* weights, int first_head,
                         int heads, int begin, int end, int64_t distance, State<kHeads, kDims>& state) {
  const int warp = static_cast<int>(threadIdx.x) / kWarp, lane = static_cast<int>(threadIdx.x) % kWarp, dim = page.layout.head_dim,
            slot = 2 * lane;
  multiply_keys<T, kHeads>(page, q, products);
  __syncthreads();
#pragma unroll
  for (int h = 0; h < kHeads; ++h) {
    const int head = first_head + min(h, heads - 1);
    float score[2] = {};
    for (int w = 0; w < kWarps; ++w) {
      const float2 part = *reinterpret_cast<const float2*>(products + (w * kHeads + h) * kPage + slot);
      score[0] += part.x;
      score[1] += part.y;
    }
    for (int i = 0; i < 2; ++i) {  // slots outside hold anything, NaN perhaps
      score[i] = slot + i >= begin && slot + i < end ? args.rule.score(score[i], head, distance + slot + i) : -INFINITY;
    }
    const float peak = fmaxf(state.peak[h], warp_max(fmaxf(score[0], score[1])));
    const float factor = rescale(state.peak[h], peak), shift = finite_peak(peak);
    const float2 weight = {exp2f(score[0] - shift), exp2f(score[1] - shift)};
    state.sum[h] = state.sum[h] * factor + warp_sum(weight.x + weight.y);
    state.peak[h] = peak;
    for (int i = 0; i < kDims; ++i) state.out[h][i] *= factor;
    *reinterpret_cast<float2*>(weights + h * kPage + slot) = weight;
  }
  __syncwarp();
  const int last = min(end, (warp + 1) * kOwnValues);
#pragma unroll 1
  for (int first = max(begin, warp * kOwnValues); first < last; first += kAhead) {
#pragma unroll
    for (int i = 0; i < kDims; ++i) {
      const int d = i * kWarp + lane;
      if (d >= dim) continue;
      float v[kAhead];
#pragma unroll
      for (int j = 0; j < kAhead; ++j) v[j] = page.value(min(first + j, last - 1), d);
#pragma unroll
      for (int j = 0; j < kAhead; ++j) {  // values beyond the warp's own are its last one, times zero
#pragma unroll
        for (int h = 0; h < kHeads; ++h)
          state.out[h][i] = fmaf(first + j < last ? weights[h * kPage + first + j] : 0, v[j], state.out[h][i]);
      }
    }
  }
  __syncwarp();
}

template <class T, int kHeads, int kDims>
__global__ void __launch_bounds__(kThreads) paged_attention_kernel(const __grid_constant__ PagedArgs args) {
  begin_kernel();
  extern __shared__ float
      shared[];  // q [kHeads, Dh], weights [kWarps, kHeads, 64], products twice [kWarps, kHeads, 64], later out [kWarps, kHeads, Dh]
  const AttentionArgs& attention = args.attention;
  const KvLayout& layout = args.cache.layout;
  const int dim = layout.head_dim, group = attention.heads / layout.kv_heads;
  const int row = static_cast<int>(blockIdx.x), share = static_cast<int>(blockIdx.y), kv_head = static_cast<int>(blockIdx.z) / args.chunks;
  const int chunk_begin = static_cast<int>(blockIdx.z) % args.chunks * kHeads;
  const int heads = min(kHeads, group - chunk_begin), first_head = kv_head * group + chunk_begin;
  const int warp = static_cast<int>(threadIdx.x) / kWarp, lane = static_cast<int>(threadIdx.x) % kWarp;
  float* q = shared;
  float* weights = q + kHeads * dim + warp * kHeads * kPage;
  float* products = q + kHeads * dim + kWarps * kHeads * kPage;
  for (int i = static_cast<int>(threadIdx.x); i < kHeads * dim; i += kThreads) {
    q[i] = i / dim < heads ? attention.q[row * attention.q_stride + int64_t{first_head} * dim + i] : 0;
  }
  __syncthreads();

  const int end = args.step.positions[row] + 1;
  const int begin = attention.window > 0 ? static_cast<int>(max(int64_t{0}, end - attention.window)) : 0;
  const int32_t* table = args.step.pages_of(args.step.sequence_of(row));
  const int first_page = begin / kPage, pages = (end + kPage - 1) / kPage - first_page;
  const int per_share = (pages + args.shares - 1) / args.shares;
  const int last = first_page + min(pages, (share + 1) * per_share);
  State<kHeads, kDims> state;
  for (int h = 0; h < kHeads; ++h) {
    state.peak[h] = -INFINITY;
    state.sum[h] = 0;
    for (int i = 0; i < kDims; ++i) state.out[h][i] = 0;
  }
#pragma unroll 1
  for (int p = first_page + share * per_share; p < last; ++p) {
    const PageReader<T> page = {args.cache.pages + table[p] * layout.page_bytes + kv_head * layout.head_bytes, layout};
    const int start = p * kPage;
    // In turn, so that one barrier a page is enough: whoever writes products again has seen all read those before.
    float* const own = products + p % 2 * kWarps * kHeads * kPage;
    add_page<T>(args, page, q, own, weights, first_head, heads, max(0, begin - start), min(kPage, end - start), start - (end - 1), state);
  }
  __syncthreads();
  float* outs = products;
  for (int h = 0; h < kHeads; ++h) {
    for (int i = 0; i < kDims; ++i) {
      if (i * kWarp + lane < dim) outs[(warp * kHeads + h) * dim + i * kWarp + lane] = state.out[h][i];
    }
  }
  float* const peaks = weights - warp * kHeads * kPage;  // the weights are not needed any more
  float* const sums = peaks + kHeads;
  if (threadIdx.x == 0) {
    for (int h = 0; h < kHeads; ++h) {
      peaks[h] = state.peak[h];
      sums[h] = state.sum[h];
    }
  }
  __syncthreads();
#pragma unroll 1
  for (int i = static_cast<int>(threadIdx.x); i < heads * dim; i += kThreads) {
    const int h = i / dim, d = i - h * dim;
    float out = 0;
    for (int w = 0; w < kWarps; ++w) out += outs[(w * kHeads + h) * dim + d];
    put_share(args, row, first_head + h, share, d, out, peaks[h], sums[h]);
  }
}

template <class T, int kHeads, int kDims>
void run(Context& ctx, PagedArgs args, const StepBatch& batch) {
  const KvLayout& layout = args.cache.layout;
  const int64_t group = args.attention.heads / layout.kv_heads;
  args.chunks = static_cast<int32_t>(ceil_div<int64_t>(group, kHeads));
  const int64_t blocks = int64_t{batch.rows} * layout.kv_heads * args.chunks;
  const ScratchScope scope(ctx);
  share_pages(ctx, args, batch, blocks, kPagesPerShare);
  const size_t dim = static_cast<size_t>(layout.head_dim);
  const size_t shared = sizeof(float) * kHeads * (dim + kWarps * (kPage + std::max<size_t>(2 * kPage, dim)));
  const dim3 grid(static_cast<unsigned>(batch.rows), static_cast<unsigned>(args.shares),
                  static_cast<unsigned>(layout.kv_heads * args.chunks));
  launch(ctx, "paged_attention", paged_attention_kernel<T, kHeads, kDims>, grid, kThreads, shared, args);
  if (args.shares > 1) merge_shares(ctx, args, batch.rows);
}

// More query heads share a read of K and V where their sums fit in registers.
template <class T>
void run(Context& ctx, const PagedArgs& args, const StepBatch& batch) {
  const int64_t group = args.attention.heads / args.cache.layout.kv_heads;
  const int32_t dim = args.cache.layout.head_dim;
  if (dim <= 64) return group == 1 ? run<T, 1, 2>(ctx, args, batch) : run<T, 4, 2>(ctx, args, batch);
  if (dim <= 128) return group == 1 ? run<T, 1, 4>(ctx, args, batch) : run<T, 4, 4>(ctx, args, batch);
  if (dim <= 256) return run<T, 2, 8>(ctx, args, batch);
  return run<T, 1, 32>(ctx, args, batch);
}

// A page is a part of a tile's keys, which lie across it.
template <class T, int kHeadDim>
struct PagedSource {
  using Type = T;
  static constexpr int kDim = kHeadDim;
  static constexpr bool kKeysAcross = true;
  AttentionArgs attention;
  Step step;
  KvLayerView cache;
  HeadGroup group;
  int first_sequence;
  TileOrder order = {};
  // Of the block's tile.
  int64_t first_row = 0, head_offset = 0;
  int first_head = 0, kv_head = 0;
  const int32_t* pages = nullptr;

  // Tiles are counted through the sequences from first_sequence on, each of which begins with one of its own.
  __device__ RowTile begin(int item, int tile_rows) {
    int number = order.tile(item), sequence = first_sequence;
    const auto rows_of = [&](int b) { return (step.first_row[b + 1] - step.first_row[b]) * group.heads; };
    for (int tiles; number >= (tiles = ceil_div(rows_of(sequence), tile_rows)); ++sequence) number -= tiles;
    const int first = number * tile_rows, last = step.first_row[sequence + 1];
    kv_head = order.kv_head(item);
    first_row = step.first_row[sequence];
    pages = step.pages_of(sequence);
    first_head = kv_head * group.heads;
    head_offset = kv_head * cache.layout.head_bytes;
    return {min(tile_rows, rows_of(sequence) - first), first, group, step.positions[first_row], step.positions[last - 1] + 1, true};
  }
  __device__ int head(const RowTile& tile, int row) const { return first_head + tile.head_of(row); }
  template <int kCount>
  __device__ void q(const RowTile& tile, int row, int d, float (&x)[kCount]) const {
    load<kCount>(attention.q + (first_row + tile.row_of(row)) * attention.q_stride + head(tile, row) * kDim + d, x);
  }
  __device__ void put(const RowTile& tile, int row, int d, float a, float b) const {
    put_out<2>(attention, first_row + tile.row_of(row), head(tile, row) * kDim + d, {a, b});
  }
  bool describe(CUtensorMap& keys, CUtensorMap& values) const {
    constexpr int64_t kBytes = sizeof(T);
    const KvLayout& own = cache.layout;
    return describe_tensor<4>(keys, own.type, cache.pages, {kPage, kDim, own.kv_heads, cache.page_count},
                              {kPage * kBytes, own.head_bytes, own.page_bytes}, kDim) &&
           describe_tensor<4>(values, own.type, cache.pages + own.values, {kDim, kPage, own.kv_heads, cache.page_count},
                              {own.value_stride * kBytes, own.head_bytes, own.page_bytes}, kPage);
  }
  __device__ int page(int first) const { return pages[first / kPage]; }
  __device__ int4 key_box(int first, int) const { return {0, 0, kv_head, page(first)}; }
  __device__ int4 value_box(int first, int column) const { return {column, 0, kv_head, page(first)}; }
  __device__ const std::byte* part(int first) const { return cache.pages + page(first) * cache.layout.page_bytes + head_offset; }
  __device__ TileSource<T> keys(int first, int) const { return {reinterpret_cast<const T*>(part(first)), kPage, kDim}; }
  // Slots that nothing was written to hold anything, which times zero may be no number.
  __device__ TileSource<T> values(int first, int keys) const {
    return {reinterpret_cast<const T*>(part(first) + cache.layout.values), cache.layout.value_stride, keys - first};
  }
};

// Whether the rows of the sequences from `first` on are some that the tensor cores can do and are worth starting for, or have to be done
// as all rows are.
bool suits_tiles(Context& ctx, const AttentionArgs& args, const StepBatch& batch, const KvLayout& layout, int32_t first) {
  constexpr int64_t kRowsOfSequence = 16;
  const int64_t rows = batch.rows - batch.first_row[first], sequences = batch.sequences - first;
  return sequences > 0 && (ctx.batch_invariant() || rows >= kRowsOfSequence * sequences) &&
         (layout.type == DType::kF16 || layout.type == DType::kBF16) && with_tile_dim(layout.head_dim, [](auto) {}) &&
         args.q_stride % 4 == 0 && args.out_stride % 2 == 0 && aligned(args.q) && aligned(args.out) && aligned(args.out_bf16);
}

template <class T>
void run_tiles(Context& ctx, const PagedArgs& args, const StepBatch& batch, int32_t first) {
  const int32_t kv_heads = args.cache.layout.kv_heads, group = args.attention.heads / kv_heads;
  const auto order = [&](int tile_rows) {
    TileOrder all = {kv_heads, 1, 0};
    for (int32_t b = first; b < batch.sequences; ++b)
      all.tiles += ceil_div((batch.first_row[b + 1] - batch.first_row[b]) * group, tile_rows);
    return all;
  };
  with_tile_dim(args.cache.layout.head_dim, [&](auto dim) {
    const PagedSource<T, decltype(dim)::value> source = {args.attention, args.step, args.cache, group, first};
    launch_attention_tiles(ctx, "paged_attention", source, order, args.rule, args.attention.window);
  });
}

// Few rows of each sequence.
void run_rows(Context& ctx, const PagedArgs& args, const StepBatch& batch) {
  if (decode_attention(ctx, args, RopeAppendArgs(), batch)) return;
  switch (args.cache.layout.type) {
    case DType::kQ8_0: return run<Q8>(ctx, args, batch);
    case DType::kF16: return run<__half>(ctx, args, batch);
    case DType::kBF16: return run<__nv_bfloat16>(ctx, args, batch);
    default: return run<float>(ctx, args, batch);
  }
}

}  // namespace

void paged_attention(Context& ctx, const AttentionArgs& args, const StepBatch& batch, const KvLayerView& cache) {
  // Sequences that add one token stand before those that read a prompt.
  int32_t single = 0;
  while (!ctx.batch_invariant() && single < batch.sequences && batch.first_row[single + 1] == single + 1) ++single;
  if (!suits_tiles(ctx, args, batch, cache.layout, single)) return run_rows(ctx, paged_args(args, batch, cache), batch);
  const PagedArgs all = paged_args(args, batch, cache);
  cache.layout.type == DType::kF16 ? run_tiles<__half>(ctx, all, batch, single) : run_tiles<__nv_bfloat16>(ctx, all, batch, single);
  if (single == 0) return;
  StepBatch decoding = batch;
  decoding.rows = decoding.sequences = single;
  run_rows(ctx, paged_args(args, decoding, cache), decoding);
}

void rope_append_attention(Context& ctx, const RopeAppendArgs& rope, const AttentionArgs& args, const StepBatch& batch,
                           const KvLayerView& cache) {
  if (batch.rows == batch.sequences && decode_attention(ctx, paged_args(args, batch, cache), rope, batch)) return;
  rope_append(ctx, rope, batch, cache);
  paged_attention(ctx, args, batch, cache);
}

}  // namespace wick::cuda
