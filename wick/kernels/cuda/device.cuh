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

// To about 22 bits, for results of fewer. Of infinities what the limit is.
__device__ inline float fast_exp2(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
__device__ inline float fast_exp(float x) { return fast_exp2(x * 1.44269504089f); }
__device__ inline float fast_reciprocal(float x) {
  float y;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

__device__ inline float silu(float x) { return x / (1 + expf(-x)); }

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

// The widest word that so many bytes are whole ones of.
template <int kBytes>
using WordOf = std::conditional_t<kBytes % 16 == 0, uint4,
                                  std::conditional_t<kBytes % 8 == 0, uint2, std::conditional_t<kBytes % 4 == 0, uint32_t, std::conditional_t<kBytes % 2 == 0, uint16_t, uint8_t>>>>;

// V elements that are loaded and stored at once: assigned word by word, since the compiler copies halves member by member, two bytes at a
// time.
template <class T, int V>
struct alignas(sizeof(T) * V) Pack {
  T at[V];

  __device__ Pack& operator=(const Pack& other) {
    using Word = WordOf<static_cast<int>(sizeof(T)) * V>;
#pragma unroll
    for (int i = 0; i < static_cast<int>(sizeof(Pack) / sizeof(Word)); ++i) {
      reinterpret_cast<Word*>(at)[i] = reinterpret_cast<const Word*>(other.at)[i];
    }
    return *this;
  }
};

template <class T>
inline constexpr int kVectorOf = 16 / static_cast<int>(sizeof(T));

template <int V, class T>
__device__ void load(const T* from, float (&x)[V]) {
  Pack<T, V> pack;
  pack = *reinterpret_cast<const Pack<T, V>*>(from);
#pragma unroll
  for (int i = 0; i < V; ++i) x[i] = to_float(pack.at[i]);
}

// Elements of the device's memory that nobody here reads again: they leave the small first cache to others, a norm's weights for example.
template <int V, class T>
__device__ Pack<T, V> load_once(const T* from) {
  Pack<T, V> pack;
  if constexpr (sizeof(pack) == 16) {
    uint4 word;
    asm volatile("ld.global.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(word.x), "=r"(word.y), "=r"(word.z), "=r"(word.w)
                 : "l"(from)
                 : "memory");
    *reinterpret_cast<uint4*>(pack.at) = word;
  } else {
    pack = *reinterpret_cast<const Pack<T, V>*>(from);
  }
  return pack;
}

// Rounds pairs of halves in one instruction.
template <class T, int V>
__device__ void pack_floats(const float (&x)[V], Pack<T, V>& pack) {
  if constexpr (sizeof(T) == 2 && V % 2 == 0) {
#pragma unroll
    for (int i = 0; i < V; i += 2) {
      if constexpr (std::is_same_v<T, __half>) {
        *reinterpret_cast<__half2*>(&pack.at[i]) = __floats2half2_rn(x[i], x[i + 1]);
      } else {
        *reinterpret_cast<__nv_bfloat162*>(&pack.at[i]) = __floats2bfloat162_rn(x[i], x[i + 1]);
      }
    }
  } else {
#pragma unroll
    for (int i = 0; i < V; ++i) pack.at[i] = from_float<T>(x[i]);
  }
}

template <int V, class T>
__device__ void store(const float (&x)[V], T* to) {
  Pack<T, V> pack;
  pack_floats(x, pack);
  *reinterpret_cast<Pack<T, V>*>(to) = pack;
}

__device__ inline void store_word(uint4* to, const uint4& x) {
  asm volatile("st.global.v4.u32 [%0], {%1, %2, %3, %4};" ::"l"(to), "r"(x.x), "r"(x.y), "r"(x.z), "r"(x.w) : "memory");
}
__device__ inline void store_word(uint2* to, const uint2& x) {
  asm volatile("st.global.v2.u32 [%0], {%1, %2};" ::"l"(to), "r"(x.x), "r"(x.y) : "memory");
}
template <class Word>
__device__ void store_word(Word* to, const Word& x) {
  *to = x;
}

// As store(), to the device's memory, but surely in the widest words: in some kernels the compiler takes them apart. What the program loads
// after it is loaded after it.
template <int V, class T>
__device__ void store_whole(const float (&x)[V], T* to) {
  Pack<T, V> pack;
  pack_floats(x, pack);
  using Word = WordOf<static_cast<int>(sizeof(pack))>;
#pragma unroll
  for (int i = 0; i < static_cast<int>(sizeof(pack) / sizeof(Word)); ++i) {
    store_word(reinterpret_cast<Word*>(to) + i, reinterpret_cast<const Word*>(pack.at)[i]);
  }
}

// Brings a line of memory as near as the second cache.
__device__ inline void prefetch(const void* p) { asm volatile("prefetch.global.L2 [%0];" ::"l"(p)); }

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

// What `combine` makes of the values of a block's warps, in their order. All threads get it. parts: shared, not in use by anyone.
template <class T, class Combine, int kWarps>
__device__ T combine_warps(T x, Combine&& combine, T (&parts)[kWarps]) {
  if (threadIdx.x % kWarp == 0) parts[threadIdx.x / kWarp] = x;
  __syncthreads();
  x = parts[0];
  for (int i = 1; i < kWarps; ++i) x = combine(x, parts[i]);
  return x;
}

// What `combine` makes of the values of the kThreads threads that share a row, a warp or the whole block, in a fixed order. All of them get
// it.
template <int kThreads, class T, class Combine>
__device__ T row_reduce(T x, Combine&& combine) {
#pragma unroll
  for (int step = kWarp / 2; step > 0; step /= 2) x = combine(x, __shfl_xor_sync(kAllLanes, x, step));
  if constexpr (kThreads > kWarp) {
    __shared__ T parts[kThreads / kWarp];
    __syncthreads();
    x = combine_warps(x, combine, parts);
  }
  return x;
}

template <int kThreads, class T>
__device__ T row_sum(T x) {
  return row_reduce<kThreads>(x, [](T a, T b) { return a + b; });
}
// The same where calls for one row after the other say by turns 0 and 1: one barrier is enough then.
template <int kThreads, class T>
__device__ T row_sum(T x, int turn) {
  if constexpr (kThreads == kWarp) return row_sum<kThreads>(x);
  __shared__ T parts[2][kThreads / kWarp];
  return combine_warps(
      row_sum<kWarp>(x), [](T a, T b) { return a + b; }, parts[turn]);
}
template <int kThreads>
__device__ float row_max(float x) {
  return row_reduce<kThreads>(x, [](float a, float b) { return fmaxf(a, b); });
}
template <class T>
__device__ T warp_sum(T x) {
  return row_sum<kWarp>(x);
}
__device__ inline float warp_max(float x) { return row_max<kWarp>(x); }

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

inline constexpr int kMostClusterBlocks = 8;  // on any device that has clusters

// `cluster` blocks that follow each other share their memories, where the device can do that.
template <class... Parameters, class... Args>
void launch_clusters(Context& ctx, const char* what, void (*kernel)(Parameters...), dim3 grid, unsigned cluster, unsigned threads,
                     size_t shared_bytes, const Args&... args) {
  cudaLaunchAttribute attributes[3] = {};
  attributes[0].id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attributes[0].val.programmaticStreamSerializationAllowed = 1;
  // The same for all: a multiprocessor is emptied before the division of its memory changes, and no kernel overlaps with the one before.
  attributes[1].id = cudaLaunchAttributePreferredSharedMemoryCarveout;
  attributes[1].val.sharedMemCarveout = 100;
  attributes[2].id = cudaLaunchAttributeClusterDimension;
  attributes[2].val.clusterDim = {cluster, 1, 1};
  cudaLaunchConfig_t config = {};
  config.gridDim = grid;
  config.blockDim = dim3(threads);
  config.dynamicSmemBytes = shared_bytes;
  config.stream = stream_of(ctx).use();
  config.attrs = attributes;
  config.numAttrs = cluster > 1 ? 3 : 2;
  check(cudaLaunchKernelEx(&config, kernel, static_cast<Parameters>(args)...), what);
}

template <class... Parameters, class... Args>
void launch(Context& ctx, const char* what, void (*kernel)(Parameters...), dim3 grid, unsigned threads, size_t shared_bytes,
            const Args&... args) {
  launch_clusters(ctx, what, kernel, grid, 1, threads, shared_bytes, args...);
}

// Blocks of `threads` that give each of `items` a thread.
inline unsigned blocks_for(int64_t items, int64_t threads) { return static_cast<unsigned>((items + threads - 1) / threads); }

}  // namespace wick::cuda
