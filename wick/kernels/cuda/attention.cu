// Attention over plain tensors. A block works on one row and head; its warps take keys in turn, four at a time, the lanes their dimensions.
#include "wick/kernels/attention.h"
#include "wick/kernels/cuda/attention_tiles.cuh"

namespace wick::cuda {
namespace {

constexpr int kWarps = 4;
constexpr int kThreads = kWarps * kWarp;
constexpr int kKeys = 4;  // that a warp works on at once

template <class T>
__device__ T* at(const HeadsView& view, int64_t b, int64_t head, int64_t position) {
  return reinterpret_cast<T*>(view.data) + b * view.strides[0] + head * view.strides[1] + position * view.strides[2];
}

// kDims: dimensions of a lane, l, l + 32, …
template <class T, int kDims>
__global__ void __launch_bounds__(kThreads)
    attention_kernel(const __grid_constant__ DenseAttentionArgs args, const __grid_constant__ ScoreRule rule) {
  begin_kernel();
  extern __shared__ float shared[];  // out [kWarps, Dh], peaks and sums [kWarps]
  const int64_t t = blockIdx.x;
  const int head = static_cast<int>(blockIdx.y);
  const int64_t b = blockIdx.z, kv_head = head / (args.heads / args.kv_heads);
  const int warp = static_cast<int>(threadIdx.x) / kWarp, lane = static_cast<int>(threadIdx.x) % kWarp,
            dim = static_cast<int>(args.head_dim);
  const int64_t end = args.causal ? max(int64_t{0}, t + args.keys - args.rows + 1) : args.keys;
  const int64_t begin = args.window > 0 ? max(int64_t{0}, end - args.window) : 0;
  float q[kDims], out[kDims] = {};
  const T* q_row = at<T>(args.q, b, head, t);
  for (int i = 0; i < kDims; ++i) q[i] = i * kWarp + lane < dim ? to_float(q_row[i * kWarp + lane]) : 0;
  float peak = -INFINITY, sum = 0;
  for (int64_t first = begin + warp * kKeys; first < end; first += kWarps * kKeys) {
    float score[kKeys];
#pragma unroll
    for (int j = 0; j < kKeys; ++j) {
      const T* k = at<T>(args.k, b, kv_head, min(first + j, end - 1));
      float product = 0;
      for (int i = 0; i < kDims; ++i) {
        if (i * kWarp + lane < dim) product = fmaf(q[i], to_float(k[i * kWarp + lane]), product);
      }
      score[j] = product;
    }
    float top = peak;
#pragma unroll
    for (int j = 0; j < kKeys; ++j) {
      score[j] = rule.score(warp_sum(score[j]), head, first + j - (end - 1));
      if (first + j >= end) score[j] = -INFINITY;
      top = fmaxf(top, score[j]);
    }
    const float factor = rescale(peak, top), shift = finite_peak(top);
    peak = top;
    sum *= factor;
    for (int i = 0; i < kDims; ++i) out[i] *= factor;
#pragma unroll
    for (int j = 0; j < kKeys; ++j) {
      if (first + j >= end) break;
      const float weight = exp2f(score[j] - shift);
      const T* v = at<T>(args.v, b, kv_head, first + j);
      sum += weight;
      for (int i = 0; i < kDims; ++i) {
        if (i * kWarp + lane < dim) out[i] = fmaf(weight, to_float(v[i * kWarp + lane]), out[i]);
      }
    }
  }
  float* peaks = shared + kWarps * dim;
  float* sums = peaks + kWarps;
  for (int i = 0; i < kDims; ++i) {
    if (i * kWarp + lane < dim) shared[warp * dim + i * kWarp + lane] = out[i];
  }
  if (lane == 0) {
    peaks[warp] = peak;
    sums[warp] = sum;
  }
  __syncthreads();
  float top = -INFINITY, total = 0;
  for (int w = 0; w < kWarps; ++w) top = fmaxf(top, peaks[w]);
  for (int w = 0; w < kWarps; ++w) total += sums[w] * rescale(peaks[w], top);
  const float factor = final_factor(top, total, rule.sinks, head);
  T* y = at<T>(args.y, b, head, t);
  for (int d = static_cast<int>(threadIdx.x); d < dim; d += kThreads) {
    float merged = 0;
    for (int w = 0; w < kWarps; ++w) merged += shared[w * dim + d] * rescale(peaks[w], top);
    y[d] = from_float<T>(total == 0 ? 0 : merged * factor);
  }
}

template <class T, int kDims>
void run(Context& ctx, const DenseAttentionArgs& args) {
  const dim3 grid(static_cast<unsigned>(args.rows), static_cast<unsigned>(args.heads), static_cast<unsigned>(args.batch));
  const size_t shared = sizeof(float) * kWarps * (static_cast<size_t>(args.head_dim) + 2);
  launch(ctx, "attention", attention_kernel<T, kDims>, grid, kThreads, shared, args,
         make_score_rule(args.scale, args.softcap, args.alibi, args.sinks));
}

template <class T, int kHeadDim>
struct DenseSource {
  using Type = T;
  static constexpr int kDim = kHeadDim;
  static constexpr bool kKeysAcross = false;
  DenseAttentionArgs args;
  HeadGroup group;
  TileOrder order = {};
  // Of the block's tile.
  const T *first_q = nullptr, *first_key = nullptr, *first_value = nullptr;
  T* first_y = nullptr;
  int first_head = 0, kv_head = 0, b = 0;

  __device__ RowTile begin(int item, int tile_rows) {
    const int first = order.tile(item) * tile_rows;
    kv_head = order.kv_head(item);
    b = order.batch_of(item);
    first_head = kv_head * group.heads;
    first_q = at<T>(args.q, b, first_head, 0);
    first_y = at<T>(args.y, b, first_head, 0);
    first_key = at<T>(args.k, b, kv_head, 0);
    first_value = at<T>(args.v, b, kv_head, 0);
    return {min(tile_rows, static_cast<int>(args.rows) * group.heads - first),
            first,
            group,
            static_cast<int>(args.keys - args.rows),
            static_cast<int>(args.keys),
            args.causal};
  }
  __device__ int head(const RowTile& tile, int row) const { return first_head + tile.head_of(row); }
  __device__ int64_t offset(const RowTile& tile, int row, const HeadsView& view) const {
    return tile.head_of(row) * view.strides[1] + tile.row_of(row) * view.strides[2];
  }
  template <int kCount>
  __device__ void q(const RowTile& tile, int row, int d, float (&x)[kCount]) const {
    load<kCount>(first_q + offset(tile, row, args.q) + d, x);
  }
  __device__ void put(const RowTile& tile, int row, int d, float a, float b) const {
    store<2>({a, b}, first_y + offset(tile, row, args.y) + d);
  }
  bool describe(CUtensorMap& keys, CUtensorMap& values) const { return describe_heads(keys, args.k) && describe_heads(values, args.v); }
  bool describe_heads(CUtensorMap& map, const HeadsView& view) const {
    constexpr int64_t kBytes = sizeof(T);
    return describe_tensor<4>(map, view.type, view.data, {kDim, args.keys, args.kv_heads, args.batch},
                              {view.strides[2] * kBytes, view.strides[1] * kBytes, view.strides[0] * kBytes}, kPart);
  }
  __device__ int4 key_box(int first, int column) const { return {column, first, kv_head, b}; }
  __device__ int4 value_box(int first, int column) const { return {column, first, kv_head, b}; }
  __device__ TileSource<T> keys(int first, int keys) const {
    return {first_key + first * args.k.strides[2], args.k.strides[2], keys - first};
  }
  __device__ TileSource<T> values(int first, int keys) const {
    return {first_value + first * args.v.strides[2], args.v.strides[2], keys - first};
  }
};

bool rows_aligned(const HeadsView& view) {
  bool all = aligned(view.data);
  for (int i = 0; i < 3; ++i) all = all && view.strides[i] % 8 == 0;
  return all;
}

template <class T>
bool run_tiles(Context& ctx, const DenseAttentionArgs& args) {
  constexpr int64_t kLeastRows = 16;
  if ((args.rows < kLeastRows && !ctx.batch_invariant()) || args.keys == 0 || !rows_aligned(args.q) || !rows_aligned(args.k) ||
      !rows_aligned(args.v) || !rows_aligned(args.y))
    return false;
  const int group = static_cast<int>(args.heads / args.kv_heads);
  const auto order = [&](int tile_rows) {
    return TileOrder{static_cast<int>(args.kv_heads), static_cast<int>(args.batch),
                     ceil_div(static_cast<int>(args.rows) * group, tile_rows)};
  };
  return with_tile_dim(args.head_dim, [&](auto dim) {
    launch_attention_tiles(ctx, "attention", DenseSource<T, decltype(dim)::value>{args, group}, order,
                           make_score_rule(args.scale, args.softcap, args.alibi, args.sinks), args.window);
  });
}

}  // namespace

void attention(Context& ctx, const DenseAttentionArgs& args) {
  with_type(args.q.type, [&](auto element) {
    using T = decltype(element);
    if constexpr (!std::is_same_v<T, float>) {
      if (run_tiles<T>(ctx, args)) return;
    }
    if (args.head_dim <= 64) return run<T, 2>(ctx, args);
    if (args.head_dim <= 128) return run<T, 4>(ctx, args);
    if (args.head_dim <= 256) return run<T, 8>(ctx, args);
    run<T, 32>(ctx, args);
  });
}

}  // namespace wick::cuda
