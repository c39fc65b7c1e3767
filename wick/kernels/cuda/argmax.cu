#include "wick/kernels/argmax.h"
#include "wick/kernels/cuda/device.cuh"

namespace wick::cuda {
namespace {

constexpr int kThreads = 1024;
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

template <class T, int V>
__global__ void __launch_bounds__(kThreads) argmax_rows(const __grid_constant__ ArgmaxArgs args) {
  begin_kernel();
  const T* x = row_of<T>(args.x, blockIdx.x);
  Best best = {-INFINITY, INT32_MAX};
  for (int64_t i = int64_t{threadIdx.x} * V; i < args.x.size; i += kThreads * V) {
    float v[V];
    load<V>(x + i, v);
    for (int j = 0; j < V; ++j) best = better(best, {v[j], isnan(v[j]) ? kNan : static_cast<int32_t>(i + j)});
  }
  const auto across_lanes = [&](int lanes) {
    for (int step = lanes / 2; step > 0; step /= 2) {
      const Best other = {__shfl_xor_sync(kAllLanes, best.value, step), __shfl_xor_sync(kAllLanes, best.at, step)};
      best = better(best, other);
    }
  };
  across_lanes(kWarp);
  __shared__ Best parts[kThreads / kWarp];
  if (threadIdx.x % kWarp == 0) parts[threadIdx.x / kWarp] = best;
  __syncthreads();
  if (threadIdx.x >= kWarp) return;
  best = parts[threadIdx.x];
  across_lanes(kThreads / kWarp);
  if (threadIdx.x == 0) args.y[blockIdx.x] = best.at;
}

}  // namespace

void argmax(Context& ctx, const ArgmaxArgs& args) {
  with_type(args.x.type, [&](auto element) {
    using T = decltype(element);
    const auto kernel = in_vectors(args.x) ? argmax_rows<T, kVectorOf<T>> : argmax_rows<T, 1>;
    launch(ctx, "argmax", kernel, static_cast<unsigned>(args.x.count), kThreads, 0, args);
  });
}

}  // namespace wick::cuda
