// CUDA devices: pooled memory, streams, and how their failures become Errors. For wick/kernels/cuda; others see Device and DeviceStream only.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "wick/tensor/context.h"
#include "wick/tensor/device.h"

namespace wick::cuda {

const DeviceBackend& backend();

// Throws Error(kOutOfMemory | kUnsupported | kInternal) naming `what` unless the call succeeded.
void check(cudaError_t status, const char* what);

// What a kernel found wrong with its input: one word that the CPU sees too, 0 for nothing. The last one written counts.
enum class Fault : uint64_t { kNone, kEmbeddingId };
inline constexpr int kFaultShift = 56;  // the kind stands above, the offending value below

class CudaStream final : public DeviceStream {
 public:
  explicit CudaStream(int index);
  ~CudaStream() override;
  CudaStream(const CudaStream&) = delete;
  CudaStream& operator=(const CudaStream&) = delete;

  void copy(void* to, const void* from, uint64_t bytes) override;
  void synchronize() override;
  double seconds_of(FunctionRef<void()> work) override;

  // The stream, its device made the calling thread's current one.
  cudaStream_t use() const;
  uint64_t* fault() const { return fault_; }
  int multiprocessors() const { return multiprocessors_; }

 private:
  void destroy();

  int index_;
  int multiprocessors_ = 0;
  cudaStream_t stream_ = nullptr;
  cudaEvent_t begin_ = nullptr, end_ = nullptr;  // of seconds_of
  uint64_t* fault_ = nullptr;
};

inline CudaStream& stream_of(Context& ctx) { return static_cast<CudaStream&>(*ctx.stream()); }

}  // namespace wick::cuda
