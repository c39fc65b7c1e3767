// What the CUDA kernels share: element types, vectors of them, rows of views, reductions in a fixed order, launches.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>
#include <initializer_list>
#include <type_traits>

#include "wick/kernels/rows.h"
#include "wick/tensor/cuda_device.h"

namespace wick::cuda {

inline constexpr int kWarp = 32;
inline constexpr unsigned kAllLanes = 0xffffffffu;

__device__ inline float to_float(float x) { return x; }
__device__ inline float to_float(__half x) { return __half2float(x); }
__device__ inline float to_float(__nv_bfloat16 x) { return __bfloat162float(x); }

template <class T>
__device__ T from_float(float x) {
  if constexpr (std::is_same_v<T, __half>) {
    return __float2half_rn(x);
  } else if constexpr (std::is_same_v<T, __nv_bfloat16>) {
    return __float2bfloat16_rn(x);
  } else {
    return x;
  }
}

// V elements that are loaded and stored at once.
template <class T, int V>
struct alignas(sizeof(T) * V) Pack {
  T at[V];
};

template <class T>
inline constexpr int kVectorOf = 16 / static_cast<int>(sizeof(T));

template <int V, class T>
__device__ void load(const T* from, float (&x)[V]) {
  const Pack<T, V> pack = *reinterpret_cast<const Pack<T, V>*>(from);
#pragma unroll
  for (int i = 0; i < V; ++i) x[i] = to_float(pack.at[i]);
}

template <int V, class T>
__device__ void store(const float (&x)[V], T* to) {
  Pack<T, V> pack;
#pragma unroll
  for (int i = 0; i < V; ++i) pack.at[i] = from_float<T>(x[i]);
  *reinterpret_cast<Pack<T, V>*>(to) = pack;
}

// RowsView::at for device code. The divisions stand apart: a short kernel waits for every cache line of its code.
__device__ __noinline__ inline int64_t strided_offset(const RowsView& rows, int64_t row) {
  int64_t offset = 0;
  for (int i = rows.leading - 1; i > 0; --i) {
    offset += row % rows.sizes[i] * rows.strides[i];
    row /= rows.sizes[i];
  }
  return offset + row * rows.strides[0];
}
template <class T>
__device__ T* row_of(const RowsView& rows, int64_t row) {
  return reinterpret_cast<T*>(rows.data) + (rows.leading <= 1 ? row * rows.strides[0] : strided_offset(rows, row));
}

// Calls body(T()) with the device's type of f32, f16 or bf16.
template <class Body>
void with_type(DType type, Body&& body) {
  switch (type) {
    case DType::kF16: return body(__half());
    case DType::kBF16: return body(__nv_bfloat16());
    default: return body(float());
  }
}

inline bool aligned(const void* data) { return reinterpret_cast<uintptr_t>(data) % 16 == 0; }

// Whether rows may be read and written 16 bytes at a time.
inline bool in_vectors(const RowsView& rows) {
  const int64_t vector = 16 / traits(rows.type).bytes;
  bool all = aligned(rows.data) && rows.step == 1 && rows.size % vector == 0;
  for (int i = 0; i < rows.leading; ++i) all = all && rows.strides[i] % vector == 0;
  return all;
}
inline bool in_vectors(std::initializer_list<const RowsView*> views) {
  for (const RowsView* view : views) {
    if (!in_vectors(*view)) return false;
  }
  return true;
}

template <class T>
__device__ T warp_sum(T x) {
#pragma unroll
  for (int step = kWarp / 2; step > 0; step /= 2) x += __shfl_xor_sync(kAllLanes, x, step);
  return x;
}

__device__ inline float warp_max(float x) {
#pragma unroll
  for (int step = kWarp / 2; step > 0; step /= 2) x = fmaxf(x, __shfl_xor_sync(kAllLanes, x, step));
  return x;
}

// Sum and maximum over the kThreads threads that share a row: a warp, or the whole block. All of them get it.
template <int kThreads, class T>
__device__ T row_sum(T x) {
  x = warp_sum(x);
  if constexpr (kThreads > kWarp) {
    __shared__ T parts[kThreads / kWarp];
    __syncthreads();
    if (threadIdx.x % kWarp == 0) parts[threadIdx.x / kWarp] = x;
    __syncthreads();
    x = 0;
    for (int i = 0; i < kThreads / kWarp; ++i) x += parts[i];
  }
  return x;
}

template <int kThreads>
__device__ float row_max(float x) {
  x = warp_max(x);
  if constexpr (kThreads > kWarp) {
    __shared__ float parts[kThreads / kWarp];
    __syncthreads();
    if (threadIdx.x % kWarp == 0) parts[threadIdx.x / kWarp] = x;
    __syncthreads();
    x = parts[0];
    for (int i = 1; i < kThreads / kWarp; ++i) x = fmaxf(x, parts[i]);
  }
  return x;
}

// Every kernel begins with these two. From the first on the next kernel's blocks may take the place of those that are done; the second
// waits until all that the kernels before have written is there. What does not depend on it may stand between.
__device__ inline void let_next_begin() {
#if __CUDA_ARCH__ >= 900
  cudaTriggerProgrammaticLaunchCompletion();
#endif
}
__device__ inline void wait_for_input() {
#if __CUDA_ARCH__ >= 900
  cudaGridDependencySynchronize();
#endif
}
__device__ inline void begin_kernel() {
  let_next_begin();
  wait_for_input();
}

template <class... Parameters, class... Args>
void launch(Context& ctx, const char* what, void (*kernel)(Parameters...), dim3 grid, unsigned threads, size_t shared_bytes,
            const Args&... args) {
  cudaLaunchAttribute overlap = {};
  overlap.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  overlap.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config = {};
  config.gridDim = grid;
  config.blockDim = dim3(threads);
  config.dynamicSmemBytes = shared_bytes;
  config.stream = stream_of(ctx).use();
  config.attrs = &overlap;
  config.numAttrs = 1;
  check(cudaLaunchKernelEx(&config, kernel, static_cast<Parameters>(args)...), what);
}

// Blocks of `threads` that give each of `items` a thread.
inline unsigned blocks_for(int64_t items, int64_t threads) { return static_cast<unsigned>((items + threads - 1) / threads); }

}  // namespace wick::cuda
