// Numbers on their way from the block that makes them to all others, while every block of the kernel runs.
//
// Each word of a buffer says by its lowest bit which time it was written: readers look until all have the bit that they expect, so that the
// data is its own flag and nothing has to be cleared, counted or fenced. A number loses one bit of its 24 by that. Every word of a buffer
// is written every time; it may be written anew when all have read it, which whoever has seen numbers that were made of all of it knows.
//
// Lines that all blocks read lie in few slices of the second cache: they are written kCopies times, and a block reads one of them.
#pragma once

#include "wick/kernels/cuda/device.cuh"

namespace wick::cuda {

inline constexpr int kCopies = 4;

// What a block knows of the time: it gives up on words that do not come, so that a fault of ours can never hang the device.
struct Patience {
  int left = 1 << 20;  // looks; each takes about a microsecond at most
  __device__ bool lost() const { return left <= 0; }
};

__device__ inline uint32_t peek(const uint32_t* from) {
  uint32_t v;
  asm volatile("ld.relaxed.gpu.global.u32 %0, [%1];" : "=r"(v) : "l"(from) : "memory");
  return v;
}
__device__ inline uint4 peek4(const uint32_t* from) {
  uint4 v;
  asm volatile("ld.relaxed.gpu.global.v4.u32 {%0, %1, %2, %3}, [%4];" : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "l"(from) : "memory");
  return v;
}

__device__ inline void put_word(uint32_t* to, float x, uint32_t bit) {
  asm volatile("st.relaxed.gpu.global.u32 [%0], %1;" ::"l"(to), "r"((__float_as_uint(x) & ~1u) | bit) : "memory");
}
// To all copies of a buffer, `apart` words from each other.
__device__ inline void put_copies(uint32_t* to, int apart, float x, uint32_t bit) {
#pragma unroll
  for (int i = 0; i < kCopies; ++i) put_word(to + i * apart, x, bit);
}

__device__ inline float number(uint32_t word) { return __uint_as_float(word & ~1u); }

// kLoads times four words, all on their way together; where `wanted` is false zeros. Only the bits of `looked_at` count: with none words
// are taken as they are. The whole warp calls it.
template <int kLoads>
__device__ void get(const uint32_t* const (&from)[kLoads], const bool (&wanted)[kLoads], uint32_t bit, uint32_t looked_at,
                    Patience& patience, uint4 (&v)[kLoads]) {
#pragma unroll
  for (int i = 0; i < kLoads; ++i) v[i] = wanted[i] ? peek4(from[i]) : make_uint4(bit, bit, bit, bit);
  while (true) {  // lanes may have lost patience one by one: as long as one looks, all stay
    bool missing = false;
#pragma unroll
    for (int i = 0; i < kLoads; ++i) {
      if ((((v[i].x & v[i].y & v[i].z & v[i].w) ^ bit) | ((v[i].x | v[i].y | v[i].z | v[i].w) ^ bit)) & looked_at) {
        v[i] = peek4(from[i]);
        missing = !patience.lost();
      }
    }
    if (!__any_sync(kAllLanes, missing)) return;
    --patience.left;
  }
}

// One word.
__device__ inline float get(const uint32_t* from, uint32_t bit, Patience& patience) {
  uint32_t v = peek(from);
  while (((v ^ bit) & 1) && !patience.lost()) {
    v = peek(from);
    --patience.left;
  }
  return number(v);
}

}  // namespace wick::cuda
