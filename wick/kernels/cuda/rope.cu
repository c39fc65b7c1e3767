#include <algorithm>

#include "wick/kernels/cuda/device.cuh"
#include "wick/kernels/rope.h"

namespace wick::cuda {
namespace {

constexpr unsigned kThreads = 256;

// What threads number. Each does `heads` heads that share their angles, x_step and y_step apart: the sizes of args are of the first ones.
struct Work {
  RopeArgs args;
  int64_t x_step = 0, y_step = 0;
};

template <class T>
__device__ T* head_of(const RopeOperand& operand, int64_t a, int64_t b, int64_t c) {
  return reinterpret_cast<T*>(operand.data) + a * operand.strides[0] + b * operand.strides[1] + c * operand.strides[2];
}

// V pairs of a head as they lie in memory: beside each other, or in its two halves.
template <class T, int V, bool kInterleaved>
struct Pairs {
  static constexpr bool kTogether = kInterleaved && V > 1;  // single pairs need not be aligned
  static constexpr int kParts = kTogether ? 1 : 2, kPart = 2 * V / kParts;
  float x[kParts][kPart];

  __device__ float& at(int j, int side) {
    if constexpr (kTogether)
      return x[0][2 * j + side];
    else
      return x[side][j];
  }
  // Where part p of the pairs from i on lies.
  template <class Element>
  __device__ static Element* place(Element* head, int64_t i, int64_t half, int p) {
    return head + (kInterleaved ? 2 * i + p : i + p * half);
  }
  __device__ void rotate(const float (&cos)[V], const float (&sin)[V]) {
#pragma unroll
    for (int j = 0; j < V; ++j) {
      const float x0 = at(j, 0), x1 = at(j, 1);
      at(j, 0) = x0 * cos[j] - x1 * sin[j];
      at(j, 1) = x0 * sin[j] + x1 * cos[j];
    }
  }
};

// A thread rotates V pairs of each of its heads; behind those of a head stand threads that copy what is not rotated, one element each.
// Numbers of threads below 2^32 are divided in 32 bits.
template <class T, class C, int V, bool kInterleaved, int kHeads, class Index>
__global__ void __launch_bounds__(kThreads) rope_kernel(const __grid_constant__ Work work) {
  begin_kernel();
  const RopeArgs& args = work.args;
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
    for (int h = 0; h < kHeads; ++h) y[h * work.y_step + i] = x[h * work.x_step + i];
    return;
  }
  const int64_t i = static_cast<int64_t>(rest) * V;
  using Own = Pairs<T, V, kInterleaved>;
  Pack<T, Own::kPart> packs[kHeads][Own::kParts];
#pragma unroll
  for (int h = 0; h < kHeads; ++h) {
#pragma unroll
    for (int p = 0; p < Own::kParts; ++p)
      packs[h][p] = *reinterpret_cast<const Pack<T, Own::kPart>*>(Own::place(x + h * work.x_step, i, args.half, p));
  }
  float cos[V], sin[V];
  load<V>(head_of<C>(args.cos, a, b, c) + i, cos);
  load<V>(head_of<C>(args.sin, a, b, c) + i, sin);
#pragma unroll
  for (int h = 0; h < kHeads; ++h) {
    Own own;
#pragma unroll
    for (int p = 0; p < Own::kParts; ++p) {
#pragma unroll
      for (int j = 0; j < Own::kPart; ++j) own.x[p][j] = to_float(packs[h][p].at[j]);
    }
    own.rotate(cos, sin);
#pragma unroll
    for (int p = 0; p < Own::kParts; ++p) store_whole<Own::kPart>(own.x[p], Own::place(y + h * work.y_step, i, args.half, p));
  }
}

bool in_vectors_of(const RopeOperand& operand, int64_t elements, int64_t bytes) {
  bool all = reinterpret_cast<uintptr_t>(operand.data) % (elements * bytes) == 0;
  for (const int64_t stride : operand.strides) all = all && stride % elements == 0;
  return all;
}

int64_t threads_of(const RopeArgs& args, int64_t pairs) {
  return args.sizes[0] * args.sizes[1] * args.sizes[2] * (args.half / pairs + args.head_dim - 2 * args.half);
}

// Of the dimensions along which the angles stay the same the one with the most heads, where `heads` of them can go together; -1: none.
int shared_dimension(const RopeArgs& args, int heads) {
  int best = -1;
  for (int i = 0; i < 3; ++i) {
    const bool shares = args.cos.strides[i] == 0 && args.sin.strides[i] == 0 && args.sizes[i] % heads == 0;
    if (shares && (best < 0 || args.sizes[i] > args.sizes[best])) best = i;
  }
  return best;
}

template <class T, class C, int V, bool kInterleaved, int kHeads>
void run_heads(Context& ctx, const Work& work) {
  const int64_t threads = threads_of(work.args, V);
  const auto kernel = threads < INT32_MAX ? rope_kernel<T, C, V, kInterleaved, kHeads, uint32_t> : rope_kernel<T, C, V, kInterleaved, kHeads, uint64_t>;
  launch(ctx, "rope", kernel, blocks_for(threads, kThreads), kThreads, 0, work);
}

template <class T, class C, bool kInterleaved>
void run(Context& ctx, const RopeArgs& args) {
  // Pairs that lie beside each other: 16 bytes of x. In halves, four: eight need registers that leave no room for enough threads.
  constexpr int64_t kPairs = kInterleaved ? kVectorOf<T> / 2 : 4, kElements = kInterleaved ? 2 * kPairs : kPairs;
  const bool vectors = args.half % kPairs == 0 && in_vectors_of(args.x, kElements, sizeof(T)) &&
                       in_vectors_of(args.y, kElements, sizeof(T)) && in_vectors_of(args.cos, kPairs, sizeof(C)) &&
                       in_vectors_of(args.sin, kPairs, sizeof(C));
  Work work = {args};
  if (!vectors) return run_heads<T, C, 1, kInterleaved, 1>(ctx, work);
  constexpr int kHeads = 4;
  const int shared = shared_dimension(args, kHeads);
  const int64_t enough = int64_t{kHeads} * 1024 * stream_of(ctx).multiprocessors();  // threads that fill the device when each does four heads
  if (shared < 0 || threads_of(args, kPairs) < enough) return run_heads<T, C, kPairs, kInterleaved, 1>(ctx, work);
  work.args.sizes[shared] /= kHeads;
  work.x_step = args.x.strides[shared] * work.args.sizes[shared];
  work.y_step = args.y.strides[shared] * work.args.sizes[shared];
  run_heads<T, C, kPairs, kInterleaved, kHeads>(ctx, work);
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
