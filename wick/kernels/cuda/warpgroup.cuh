// Instructions of Hopper's tensor cores (PTX ISA: wgmma): the four warps of a group multiply 64 rows in their registers, 16 in each warp's,
// with a tile in shared memory. Registers hold rows as mma.m16n8k16 has them.
//
// A tile in shared memory is panels of 64 elements by any number of rows. A row of a panel is 128 bytes, whose words of 16 bytes change
// places: word i of row r lies at i ^ r % 8. Panels begin at multiples of 1024 bytes.
#pragma once

#include "wick/kernels/cuda/device.cuh"
#include "wick/kernels/cuda/tensor_core.cuh"

namespace wick::cuda {

inline constexpr int kPanelWidth = 64;
inline constexpr int kGroupWarps = 4, kGroupThreads = kGroupWarps * kWarp;
inline constexpr int kGroupRows = 64;

// x, which is the same in all lanes, in a register that the compiler knows to be one for all: so it computes descriptors once for a warp,
// not in each lane, to gather them for every product.
__device__ inline int same_for_warp(int x) { return __reduce_max_sync(kAllLanes, x); }

// Whether ctx's device has them, and the binary code for it by the name of 90a: code for 90, or made of 80's, has none.
inline bool has_warpgroups(Context& ctx) {
#ifdef WICK_SM90A
  return stream_of(ctx).compute_major() == 9;
#else
  (void)ctx;
  return false;
#endif
}

// Where the 16 bytes from element 8 chunk of a row on lie in a tile of kRows rows, in elements.
template <int kRows>
__device__ int panel_place(int row, int chunk) {
  return chunk / 8 * kRows * kPanelWidth + row * kPanelWidth + (chunk % 8 ^ row % 8) * 8;
}

// What tells a product where a tile lies. Rows in eights follow one another; panels are panel_bytes apart.
template <class T>
__device__ uint64_t tile_descriptor(const T* tile, int panel_bytes) {
  constexpr uint64_t kEightRows = 1024 >> 4, kSwizzle128 = 1;
  return (shared_address(tile) & 0x3ffff) >> 4 | static_cast<uint64_t>(panel_bytes >> 4) << 16 | kEightRows << 32 | kSwizzle128 << 62;
}

// The same tile from a place so many bytes on, a multiple of 16.
__device__ inline uint64_t further(uint64_t descriptor, int bytes) { return descriptor + static_cast<uint64_t>(bytes >> 4); }

// Copies into shared memory are there for products once every thread that made them has called this, and then a barrier.
__device__ inline void show_to_products() {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
#endif
}

// Products are begun after the first of these. Those up to the second are waited for together: the third leaves the last kPending such lots
// on their way, whose registers nobody may touch.
__device__ inline void begin_products() {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
#endif
}
__device__ inline void end_products() {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
#endif
}
template <int kPending>
__device__ void wait_products() {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kPending) : "memory");
#endif
}
__device__ inline void finish_products() {
  end_products();
  wait_products<0>();
}

// All threads of a group call it: what any of them wrote before is there after it.
__device__ inline void meet_group(int group) { asm volatile("bar.sync %0, %1;" ::"r"(1 + group), "n"(kGroupThreads) : "memory"); }

// How many registers a thread has, a multiple of 8: all threads of a group call it, first those that give some back. The kernel's bounds
// say how many it begins with.
template <int kCount>
__device__ void give_registers() {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kCount));
#endif
}
template <int kCount>
__device__ void take_registers() {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kCount));
#endif
}

// clang-format off
#define WICK_NAMES_8 "%0, %1, %2, %3, %4, %5, %6, %7"
#define WICK_NAMES_16 WICK_NAMES_8 ", %8, %9, %10, %11, %12, %13, %14, %15"
#define WICK_NAMES_32 WICK_NAMES_16 ", " \
                      "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define WICK_NAMES_64 WICK_NAMES_32 ", " \
                      "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, " \
                      "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define WICK_FOUR(c, i) "+f"(c[i][0]), "+f"(c[i][1]), "+f"(c[i][2]), "+f"(c[i][3])
#define WICK_SIXTEEN(c, i) WICK_FOUR(c, i), WICK_FOUR(c, i + 1), WICK_FOUR(c, i + 2), WICK_FOUR(c, i + 3)
#define WICK_8(c) WICK_FOUR(c, 0), WICK_FOUR(c, 1)
#define WICK_16(c) WICK_SIXTEEN(c, 0)
#define WICK_32(c) WICK_SIXTEEN(c, 0), WICK_SIXTEEN(c, 4)
#define WICK_64(c) WICK_32(c), WICK_SIXTEEN(c, 8), WICK_SIXTEEN(c, 12)
#define WICK_PRODUCT_OF(type, shape, names, operands, add, ...)                                                        \
  asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, " add ", 0;\n"                                                       \
               "wgmma.mma_async.sync.aligned." shape ".f32." type "." type " {" names "}, " operands ";\n}" : __VA_ARGS__)
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
#define WICK_PRODUCT(...)                                                                                              \
  if constexpr (std::is_same_v<T, __half>) {                                                                           \
    WICK_PRODUCT_OF("f16", __VA_ARGS__);                                                                               \
  } else {                                                                                                             \
    WICK_PRODUCT_OF("bf16", __VA_ARGS__);                                                                              \
  }
#else
#define WICK_PRODUCT(...) __trap();
#endif

// c (+)= a b:  64 x 16, 32, 64 or 128, 16 deep; a in registers, or 64 rows of a tile from one of its columns on. kAcross: a row of the tile
// b is one of the 16, its elements the columns; else the other way round.
template <class T, bool kAcross>
__device__ void multiply_group(float (&c)[8][4], const unsigned (&a)[4], uint64_t b, bool add) {
  WICK_PRODUCT("m64n64k16", WICK_NAMES_32, "{%32, %33, %34, %35}, %36, p, 1, 1, %38", "%37",
               WICK_32(c) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(static_cast<int>(add)), "n"(kAcross ? 1 : 0))
}
template <class T, bool kAcross>
__device__ void multiply_group(float (&c)[16][4], const unsigned (&a)[4], uint64_t b, bool add) {
  WICK_PRODUCT("m64n128k16", WICK_NAMES_64, "{%64, %65, %66, %67}, %68, p, 1, 1, %70", "%69",
               WICK_64(c) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(static_cast<int>(add)), "n"(kAcross ? 1 : 0))
}
template <class T, bool kAcross>
__device__ void multiply_group(float (&c)[8][4], uint64_t a, uint64_t b, bool add) {
  WICK_PRODUCT("m64n64k16", WICK_NAMES_32, "%32, %33, p, 1, 1, 0, %35", "%34",
               WICK_32(c) : "l"(a), "l"(b), "r"(static_cast<int>(add)), "n"(kAcross ? 1 : 0))
}
template <class T, bool kAcross>
__device__ void multiply_group(float (&c)[16][4], uint64_t a, uint64_t b, bool add) {
  WICK_PRODUCT("m64n128k16", WICK_NAMES_64, "%64, %65, p, 1, 1, 0, %67", "%66",
               WICK_64(c) : "l"(a), "l"(b), "r"(static_cast<int>(add)), "n"(kAcross ? 1 : 0))
}
template <class T, bool kAcross>
__device__ void multiply_group(float (&c)[4][4], uint64_t a, uint64_t b, bool add) {
  WICK_PRODUCT("m64n32k16", WICK_NAMES_16, "%16, %17, p, 1, 1, 0, %19", "%18",
               WICK_16(c) : "l"(a), "l"(b), "r"(static_cast<int>(add)), "n"(kAcross ? 1 : 0))
}
template <class T, bool kAcross>
__device__ void multiply_group(float (&c)[2][4], uint64_t a, uint64_t b, bool add) {
  WICK_PRODUCT("m64n16k16", WICK_NAMES_8, "%8, %9, p, 1, 1, 0, %11", "%10",
               WICK_8(c) : "l"(a), "l"(b), "r"(static_cast<int>(add)), "n"(kAcross ? 1 : 0))
}

#undef WICK_PRODUCT
#undef WICK_PRODUCT_OF
#undef WICK_64
#undef WICK_32
#undef WICK_16
#undef WICK_8
#undef WICK_SIXTEEN
#undef WICK_FOUR
#undef WICK_NAMES_64
#undef WICK_NAMES_32
#undef WICK_NAMES_16
#undef WICK_NAMES_8
// clang-format on

}  // namespace wick::cuda
