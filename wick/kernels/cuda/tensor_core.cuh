// Instructions of the tensor cores, and the copies that feed them (PTX ISA: mma, ldmatrix, cp.async).
#pragma once

#include "wick/kernels/cuda/device.cuh"

namespace wick::cuda {

// Two neighbours of an operand, as a register has them.
template <class T>
__device__ unsigned pair_of(float a, float b) {
  const Pack<T, 2> pack = {{from_float<T>(a), from_float<T>(b)}};
  return *reinterpret_cast<const unsigned*>(&pack);
}

__device__ inline unsigned shared_address(const void* p) { return static_cast<unsigned>(__cvta_generic_to_shared(p)); }

// 16 bytes to shared memory, zeros where there is nothing to read. Copies up to end_stage() arrive together.
template <class T>
__device__ void copy16(T* to, const T* from, bool inside) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(to)), "l"(from), "r"(inside ? 16 : 0));
}
// The same of what is read once: it leaves the cache before other things do. `policy` from read_once().
__device__ inline uint64_t read_once() {
  uint64_t policy;
  asm volatile("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy));
  return policy;
}
template <class T>
__device__ void copy16(T* to, const T* from, bool inside, uint64_t policy) {
  asm volatile("cp.async.cg.shared.global.L2::cache_hint [%0], [%1], 16, %2, %3;" ::"r"(shared_address(to)), "l"(from),
               "r"(inside ? 16 : 0), "l"(policy));
}
// copy16 for 4 or 8 bytes.
template <class T>
__device__ void copy_word(T* to, const void* from, bool inside) {
  static_assert(sizeof(T) == 4 || sizeof(T) == 8);
  asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(shared_address(to)), "l"(from), "n"(sizeof(T)),
               "r"(inside ? static_cast<int>(sizeof(T)) : 0));
}
// The same where `wanted`; else nothing is written.
template <class T>
__device__ void copy_word_if(bool wanted, T* to, const void* from, bool inside) {
  static_assert(sizeof(T) == 4 || sizeof(T) == 8);
  asm volatile("{ .reg .pred p; setp.ne.u32 p, %4, 0; @p cp.async.ca.shared.global [%0], [%1], %2, %3; }" ::"r"(shared_address(to)),
               "l"(from), "n"(sizeof(T)), "r"(inside ? static_cast<int>(sizeof(T)) : 0), "r"(static_cast<unsigned>(wanted)));
}
__device__ inline void end_stage() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int kPending>
__device__ void wait_stages() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

// Four squares of 8 x 8, each lane with the address of one row.
template <class T>
__device__ void load_matrices(unsigned (&to)[4], const T* from) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"(shared_address(from)));
}
template <class T>
__device__ void load_matrices_transposed(unsigned (&to)[4], const T* from) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"(shared_address(from)));
}

// c += a b:  16 x 8, 16 deep.
template <class T>
__device__ void multiply(float (&c)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
  if constexpr (std::is_same_v<T, __half>) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
  } else {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
  }
}

// c += a b:  16 x 8, 32 deep, signed bytes.
__device__ inline void multiply(int (&c)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
  asm("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

}  // namespace wick::cuda
