// What tells that copies into shared memory have arrived, boxes of a matrix among them, and the memories of a cluster's blocks (PTX ISA:
// mbarrier, cp.async.bulk.tensor, barrier.cluster).
#pragma once

#include <cuda.h>

#include <array>

#include "wick/kernels/cuda/tensor_core.cuh"

namespace wick::cuda {

// Tells in turns that all who are to say so have arrived, with the bytes that they announced.
class Arrival {
 public:
  __device__ void init(unsigned count) { asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(address()), "r"(count) : "memory"); }
  __device__ void arrive() { asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(address()) : "memory"); }
  // Announces so many bytes, before they are asked for.
  __device__ void arrive_with(unsigned bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(address()), "r"(bytes) : "memory");
  }
  // Arrives as soon as all copies that the thread has begun with copy16() have.
  __device__ void arrive_after_copies() {
    asm volatile("cp.async.mbarrier.arrive.noinc.shared::cta.b64 [%0];" ::"r"(address()) : "memory");
  }
  // Arrives in a block of the cluster: what the caller wrote before is seen by whoever waits there.
  __device__ void arrive_in(int block) const {
    asm volatile(
        "{\n.reg .b32 there;\nmapa.shared::cluster.u32 there, %0, %1;\nmbarrier.arrive.release.cluster.shared::cluster.b64 _, "
        "[there];\n}" ::"r"(address()),
        "r"(block)
        : "memory");
  }
  // Waits for the turn of that number. Nobody may be two turns behind.
  __device__ void wait(unsigned turn) {
    asm volatile(
        "{\n.reg .pred done;\nagain:\nmbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n@!done bra again;\n}" ::"r"(address()),
        "r"(turn % 2)
        : "memory");
  }
  // The same for what blocks of the cluster wrote before they arrived.
  __device__ void wait_in_cluster(unsigned turn) {
    asm volatile(
        "{\n.reg .pred done;\nagain:\nmbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 done, [%0], %1;\n@!done bra again;\n}" ::"r"(
            address()),
        "r"(turn % 2)
        : "memory");
  }
  __device__ unsigned address() const { return shared_address(&word_); }

 private:
  uint64_t word_;
};

// A place in a ring of stages, and how often it has come around.
struct RingPlace {
  int slot = 0;
  unsigned turn = 0;

  __device__ void skip(int count, int stages) {
    for (slot += count; slot >= stages; ++turn) slot -= stages;
  }
  __device__ void step(int stages) {
    const bool around = ++slot == stages;
    slot = around ? 0 : slot;
    turn += around;
  }
};

// The cluster and the copies of boxes see what init() did.
__device__ inline void show_arrivals() {
  asm volatile("fence.mbarrier_init.release.cluster;\nfence.proxy.async.shared::cta;" ::: "memory");
}

// A box of the tensor whose first element is at this place of its dimensions, the one of neighbours first.
template <class T>
__device__ void copy_box(T* to, const CUtensorMap& from, int2 at, Arrival& arrival) {
  asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3}], [%4];" ::"r"(
                   shared_address(to)),
               "l"(&from), "r"(at.x), "r"(at.y), "r"(arrival.address())
               : "memory");
}
template <class T>
__device__ void copy_box(T* to, const CUtensorMap& from, int4 at, Arrival& arrival) {
  asm volatile("cp.async.bulk.tensor.4d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3, %4, %5}], [%6];" ::"r"(
                   shared_address(to)),
               "l"(&from), "r"(at.x), "r"(at.y), "r"(at.z), "r"(at.w), "r"(arrival.address())
               : "memory");
}

template <size_t kRank>
using TensorSizes = std::array<int64_t, kRank>;

// How a tensor of 16-bit elements lies in memory, for copies of boxes of it: sizes of its dimensions, the one of neighbours first, and
// bytes from one to the next in the others, multiples of 16. In a box, which is 64 elements wide, words change places as panels have them;
// what is outside the tensor are zeros. False where the driver does not know how, or not of such a tensor.
template <size_t kRank>
bool describe_tensor(CUtensorMap& map, DType type, const void* data, const TensorSizes<kRank>& sizes, const TensorSizes<kRank - 1>& apart,
                     cuuint32_t rows_of_box) {
  static const auto encode = [] {
    void* function = nullptr;
    cudaDriverEntryPointQueryResult found = cudaDriverEntryPointSymbolNotFound;
    const bool asked =
        cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function, 12000, cudaEnableDefault, &found) == cudaSuccess;
    return asked && found == cudaDriverEntryPointSuccess ? reinterpret_cast<decltype(&cuTensorMapEncodeTiled)>(function) : nullptr;
  }();
  if (!encode) return false;
  cuuint64_t all[kRank], bytes[kRank - 1];
  cuuint32_t box[kRank], steps[kRank];
  for (size_t i = 0; i < kRank; ++i) {
    all[i] = static_cast<cuuint64_t>(sizes[i]);
    box[i] = i == 0 ? 64 : i == 1 ? rows_of_box : 1;
    steps[i] = 1;
    if (i > 0) bytes[i - 1] = sizes[i] > 1 ? static_cast<cuuint64_t>(apart[i - 1]) : 16;  // of one nobody looks at it
  }
  return encode(&map, type == DType::kF16 ? CU_TENSOR_MAP_DATA_TYPE_FLOAT16 : CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, kRank,
                const_cast<void*>(data), all, bytes, box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
                CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE) == CUDA_SUCCESS;
}

// All threads of a cluster call it: what any of them wrote before is there after it.
__device__ inline void meet_cluster() {
  asm volatile("barrier.cluster.arrive.release.aligned;\nbarrier.cluster.wait.acquire.aligned;" ::: "memory");
}
// The address of p in the memory of a block of the cluster, and a store there.
__device__ inline unsigned address_in(int block, const void* p) {
  unsigned address;
  asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(address) : "r"(shared_address(p)), "r"(block));
  return address;
}
__device__ inline void store_in_cluster(unsigned address, float a, float b) {
  asm volatile("st.shared::cluster.v2.f32 [%0], {%1, %2};" ::"r"(address), "f"(a), "f"(b) : "memory");
}

}  // namespace wick::cuda
