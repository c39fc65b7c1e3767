#include "wick/kernels/cuda/device.cuh"
#include "wick/kernels/rope.h"

namespace wick::cuda {
namespace {

constexpr unsigned kThreads = 256;

template <class T>
__device__ T* head_of(const RopeOperand& operand, int64_t a, int64_t b, int64_t c) {
  return reinterpret_cast<T*>(operand.data) + a * operand.strides[0] + b * operand.strides[1] + c * operand.strides[2];
}

// A thread rotates V pairs of a head; behind those of a head stand threads that copy what is not rotated, one element each. Numbers of
// threads below 2^32 are divided in 32 bits.
template <class T, class C, int V, bool kInterleaved, class Index>
__global__ void __launch_bounds__(kThreads) rope_kernel(const __grid_constant__ RopeArgs args) {
  begin_kernel();
  const Index rotating = static_cast<Index>(args.half / V);
  const Index per_head = rotating + static_cast<Index>(args.head_dim - 2 * args.half);
  const Index item = static_cast<Index>(blockIdx.x) * kThreads + threadIdx.x;
  const Index sizes[3] = {static_cast<Index>(args.sizes[0]), static_cast<Index>(args.sizes[1]), static_cast<Index>(args.sizes[2])};
  const Index head = item / per_head, rest = item - head * per_head;
  if (head >= sizes[0] * sizes[1] * sizes[2]) return;
  const Index c = head % sizes[2], b = head / sizes[2] % sizes[1], a = head / sizes[2] / sizes[1];
  const T* x = head_of<T>(args.x, a, b, c);
  T* y = head_of<T>(args.y, a, b, c);
  if (rest >= rotating) {
    const int64_t i = 2 * args.half + static_cast<int64_t>(rest - rotating);
    y[i] = x[i];
    return;
  }
  const int64_t i = static_cast<int64_t>(rest) * V;
  float cos[V], sin[V];
  constexpr int kAngles = V < kVectorOf<C> ? V : kVectorOf<C>;
  for (int j = 0; j < V; j += kAngles) {
    load<kAngles>(head_of<C>(args.cos, a, b, c) + i + j, reinterpret_cast<float(&)[kAngles]>(cos[j]));
    load<kAngles>(head_of<C>(args.sin, a, b, c) + i + j, reinterpret_cast<float(&)[kAngles]>(sin[j]));
  }
  if constexpr (kInterleaved) {
    float pairs[2 * V];
    if constexpr (V > 1) {
      load<2 * V>(x + 2 * i, pairs);
    } else {  // pairs need not be aligned
      pairs[0] = to_float(x[2 * i]);
      pairs[1] = to_float(x[2 * i + 1]);
    }
    for (int j = 0; j < V; ++j) {
      const float x0 = pairs[2 * j], x1 = pairs[2 * j + 1];
      pairs[2 * j] = x0 * cos[j] - x1 * sin[j];
      pairs[2 * j + 1] = x0 * sin[j] + x1 * cos[j];
    }
    if constexpr (V > 1) {
      store<2 * V>(pairs, y + 2 * i);
    } else {
      y[2 * i] = from_float<T>(pairs[0]);
      y[2 * i + 1] = from_float<T>(pairs[1]);
    }
  } else {
    float x0[V], x1[V];
    load<V>(x + i, x0);
    load<V>(x + i + args.half, x1);
    for (int j = 0; j < V; ++j) {
      const float first = x0[j] * cos[j] - x1[j] * sin[j];
      x1[j] = x0[j] * sin[j] + x1[j] * cos[j];
      x0[j] = first;
    }
    store<V>(x0, y + i);
    store<V>(x1, y + i + args.half);
  }
}

bool in_vectors_of(const RopeOperand& operand, int64_t elements, int64_t bytes) {
  bool all = reinterpret_cast<uintptr_t>(operand.data) % (elements * bytes) == 0;
  for (const int64_t stride : operand.strides) all = all && stride % elements == 0;
  return all;
}

template <class T, class C, int V, bool kInterleaved>
void run_pairs(Context& ctx, const RopeArgs& args) {
  const int64_t items = args.sizes[0] * args.sizes[1] * args.sizes[2] * (args.half / V + args.head_dim - 2 * args.half);
  const auto kernel = items < INT32_MAX ? rope_kernel<T, C, V, kInterleaved, uint32_t> : rope_kernel<T, C, V, kInterleaved, uint64_t>;
  launch(ctx, "rope", kernel, blocks_for(items, kThreads), kThreads, 0, args);
}

template <class T, class C, bool kInterleaved>
void run(Context& ctx, const RopeArgs& args) {
  // As many pairs as make 16 bytes of x.
  constexpr int64_t kElements = kVectorOf<T>, kPairs = kInterleaved ? kElements / 2 : kElements;
  constexpr int64_t kAngles = kPairs < kVectorOf<C> ? kPairs : kVectorOf<C>;  // that are aligned: a table of f32 is read in two parts
  const bool vectors = args.half % kPairs == 0 && in_vectors_of(args.x, kElements, sizeof(T)) &&
                       in_vectors_of(args.y, kElements, sizeof(T)) && in_vectors_of(args.cos, kAngles, sizeof(C)) &&
                       in_vectors_of(args.sin, kAngles, sizeof(C));
  vectors ? run_pairs<T, C, kPairs, kInterleaved>(ctx, args) : run_pairs<T, C, 1, kInterleaved>(ctx, args);
}

template <class T, class C>
void run(Context& ctx, const RopeArgs& args) {
  args.interleaved ? run<T, C, true>(ctx, args) : run<T, C, false>(ctx, args);
}

}  // namespace

void rope(Context& ctx, const RopeArgs& args) {
  with_type(args.type, [&](auto element) {
    using T = decltype(element);
    args.table_type == DType::kF32 ? run<T, float>(ctx, args) : run<T, T>(ctx, args);
  });
}

}  // namespace wick::cuda
