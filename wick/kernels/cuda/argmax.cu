#include <algorithm>

#include "wick/base/checked.h"
#include "wick/kernels/argmax.h"
#include "wick/kernels/cuda/device.cuh"

namespace wick::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int64_t kLeastSlice = 4096;  // elements of a row that are worth a block of their own
constexpr int kMostSlices = 64;
constexpr int kTogether = 4;  // loads of a thread that are on their way
constexpr int32_t kNan = -1;

struct Best {
  float value;
  int32_t at;  // kNan: a NaN was seen
};

// The larger of the two, of equals the one that stands first; NaN wins over all.
__device__ Best better(const Best& a, const Best& b) {
  if (a.at == kNan || b.at == kNan) return {0, kNan};
  const bool first = a.value > b.value || (a.value == b.value && a.at < b.at);
  return first ? a : b;
}

// Of the warp's lanes.
__device__ Best best_of_warp(Best best) {
#pragma unroll
  for (int step = kWarp / 2; step > 0; step /= 2) {
    best = better(best, {__shfl_xor_sync(kAllLanes, best.value, step), __shfl_xor_sync(kAllLanes, best.at, step)});
  }
  return best;
}

__device__ void put(const ArgmaxArgs& args, unsigned row, const Best& best) {
  const int32_t id = args.finite && isinf(best.value) ? kNan : best.at;
  args.y[row] = id;
  if (args.next) args.next[row] = max(id, 0);
}

// A block takes a slice of a row. Slices are merged by finish().
template <class T, int V>
__global__ void __launch_bounds__(kThreads) argmax_slices(const __grid_constant__ ArgmaxArgs args, int64_t slice, Best* parts) {
  begin_kernel();
  const T* x = row_of<T>(args.x, blockIdx.x);
  const int64_t begin = int64_t{blockIdx.y} * slice, end = min(args.x.size, begin + slice);
  Best best = {-INFINITY, INT32_MAX};
#pragma unroll kTogether
  for (int64_t i = begin + int64_t{threadIdx.x} * V; i < end; i += kThreads * V) {
    float v[V];
    load<V>(x + i, v);
    for (int j = 0; j < V; ++j) best = better(best, {v[j], isnan(v[j]) ? kNan : static_cast<int32_t>(i + j)});
  }
  best = best_of_warp(best);
  __shared__ Best warps[kThreads / kWarp];
  if (threadIdx.x % kWarp == 0) warps[threadIdx.x / kWarp] = best;
  __syncthreads();
  if (threadIdx.x >= kWarp) return;
  best = best_of_warp(threadIdx.x < kThreads / kWarp ? warps[threadIdx.x] : Best{-INFINITY, INT32_MAX});
  if (threadIdx.x != 0) return;
  if (gridDim.y == 1) {
    put(args, blockIdx.x, best);
  } else {
    parts[blockIdx.x * gridDim.y + blockIdx.y] = best;
  }
}

// A warp for every row.
__global__ void __launch_bounds__(kWarp) finish(const __grid_constant__ ArgmaxArgs args, const Best* parts, int slices) {
  begin_kernel();
  Best best = {-INFINITY, INT32_MAX};
  for (int i = static_cast<int>(threadIdx.x); i < slices; i += kWarp) best = better(best, parts[blockIdx.x * slices + i]);
  best = best_of_warp(best);
  if (threadIdx.x == 0) put(args, blockIdx.x, best);
}

}  // namespace

void argmax(Context& ctx, const ArgmaxArgs& args) {
  const int64_t wanted = ceil_div<int64_t>(stream_of(ctx).multiprocessors(), args.x.count);
  const int64_t most = std::clamp<int64_t>(std::min(wanted, args.x.size / kLeastSlice), 1, kMostSlices);
  const int64_t slice = round_up<int64_t>(ceil_div(args.x.size, most), kVectorOf<__half>);
  const int64_t slices = ceil_div(args.x.size, slice);
  const ScratchScope scope(ctx);
  Best* parts = ctx.scratch<Best>(args.x.count * slices).data();
  with_type(args.x.type, [&](auto element) {
    using T = decltype(element);
    const auto kernel = in_vectors(args.x) ? argmax_slices<T, kVectorOf<T>> : argmax_slices<T, 1>;
    launch(ctx, "argmax", kernel, dim3(static_cast<unsigned>(args.x.count), static_cast<unsigned>(slices)), kThreads, 0, args, slice, parts);
  });
  if (slices > 1) launch(ctx, "argmax", finish, static_cast<unsigned>(args.x.count), kWarp, 0, args, parts, static_cast<int>(slices));
}

}  // namespace wick::cuda
