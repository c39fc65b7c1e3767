// CUDA devices: pooled memory, streams, and how their failures become Errors. For wick/kernels/cuda; others see Device and DeviceStream
// only.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <memory>
#include <unordered_map>

#include "wick/tensor/context.h"
#include "wick/tensor/device.h"
#include "wick/tensor/tensor.h"

namespace wick::cuda {

const DeviceBackend& backend();

// Throws Error(kOutOfMemory | kUnsupported | kInternal) naming `what` unless the call succeeded.
void check(cudaError_t status, const char* what);

// What a kernel found wrong with its input: one word that the CPU sees too, 0 for nothing. The last one written counts.
enum class Fault : uint64_t { kNone, kEmbeddingId, kLostStep };
inline constexpr int kFaultShift = 56;  // the kind stands above, the offending value below

class CudaStream;

// Memory in which bytes from elsewhere wait for their way to the device: slots take turns, each with a part that the CPU fills and one on
// the device.
class StagingRing {
 public:
  static constexpr int kSlots = 4;
  StagingRing() = default;
  ~StagingRing();
  StagingRing(const StagingRing&) = delete;
  StagingRing& operator=(const StagingRing&) = delete;

  // The CPU's part of the next slot, of so many bytes. Waits until what was given to the device when it was last used is done.
  std::byte* begin(const Device& device, uint64_t bytes);
  std::byte* on_device(const Device& device);  // the same slot's part there
  void end(CudaStream& stream);                // all that reads the slot has been given to `stream`

 private:
  struct Slot {
    std::shared_ptr<Storage> here, there;
    cudaEvent_t done = nullptr;
  };
  Slot slots_[kSlots];
  int current_ = 0;
};

class CudaStream final : public DeviceStream {
 public:
  explicit CudaStream(int index);
  ~CudaStream() override;
  CudaStream(const CudaStream&) = delete;
  CudaStream& operator=(const CudaStream&) = delete;

  void copy(void* to, const void* from, uint64_t bytes) override;
  void synchronize() override;
  uint64_t mark() override;
  void wait(uint64_t mark) override;
  void replay(uint64_t key, FunctionRef<void()> work) override;
  double seconds_of(FunctionRef<void()> work) override;

  // The stream, its device made the calling thread's current one.
  cudaStream_t use() const;
  uint64_t* fault() const { return fault_; }
  StagingRing& staging() { return staging_; }
  uint64_t faults() const { return faults_; }  // how many have been thrown
  int multiprocessors() const { return multiprocessors_; }
  int shared_bytes() const { return shared_bytes_; }  // the most that a block may have
  int compute_major() const { return compute_major_; }              // the compute capability's first number
  bool can_run_together() const { return can_run_together_ != 0; }  // blocks of a kernel that wait for each other

 private:
  static constexpr size_t kMarks = 4;

  void destroy();
  void throw_fault();
  void capture(FunctionRef<void()> work, cudaGraphExec_t& graph);
  void drop_graphs();

  int index_;
  int multiprocessors_ = 0, shared_bytes_ = 0, compute_major_ = 0, can_run_together_ = 0;
  cudaStream_t stream_ = nullptr;
  cudaEvent_t begin_ = nullptr, end_ = nullptr;  // of seconds_of
  cudaEvent_t marks_[kMarks] = {};                        // of the latest marks, in turn
  uint64_t marked_ = 0;
  uint64_t* fault_ = nullptr;
  StagingRing staging_;
  uint64_t faults_ = 0;
  std::unordered_map<uint64_t, cudaGraphExec_t> graphs_;  // null: done once, not captured yet
};

inline CudaStream& stream_of(Context& ctx) { return static_cast<CudaStream&>(*ctx.stream()); }

}  // namespace wick::cuda
