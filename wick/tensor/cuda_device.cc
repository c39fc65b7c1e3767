#include "wick/tensor/cuda_device.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <map>
#include <mutex>

#include "wick/base/checked.h"
#include "wick/base/error.h"

namespace wick::cuda {
namespace {

constexpr uint64_t kSmallest = 512;
constexpr uint64_t kLargePage = uint64_t{2} << 20;
constexpr uint64_t kLargest = uint64_t{1} << 48;

// Sizes that blocks come in: eight between powers of two, whole large pages where that would waste more.
uint64_t block_bytes(uint64_t bytes) {
  if (bytes <= kSmallest) return kSmallest;
  const uint64_t step = std::bit_floor(bytes - 1) / 8;
  return round_up(bytes, std::clamp(step, kSmallest, kLargePage));
}

// Freed blocks are kept for the next allocation of their size, as long as there is a stream: cudaMalloc and cudaFree wait for the device.
//
// A block may be freed while kernels that use it are still to run. With one stream on the device whoever gets it next uses it after them;
// with several, freeing waits. The token loop neither allocates nor frees.
class Pool {
 public:
  void* allocate(uint64_t bytes) {
    if (bytes > kLargest) return nullptr;
    const uint64_t size = block_bytes(bytes);
    const std::lock_guard lock(mutex_);
    if (const auto kept = free_.find(size); kept != free_.end()) {
      void* data = kept->second;
      free_.erase(kept);
      return data;
    }
    if (void* data = allocate_new(size)) return data;
    trim();
    return allocate_new(size);
  }

  void release(void* data, uint64_t bytes) {
    const std::lock_guard lock(mutex_);
    const uint64_t size = block_bytes(bytes);
    if (size >= kFreedAtOnce || streams_ == 0) return give_back(size, data);
    if (streams_ != 1) cudaDeviceSynchronize();
    free_.emplace(size, data);
  }

  void add_stream() {
    const std::lock_guard lock(mutex_);
    cudaDeviceSynchronize();
    ++streams_;
  }
  void remove_stream() {
    const std::lock_guard lock(mutex_);
    if (--streams_ == 0) trim();
  }

  // Adds what is kept to what the device says is free.
  DeviceMemory memory() {
    const std::lock_guard lock(mutex_);
    size_t available = 0, total = 0;
    check(cudaMemGetInfo(&available, &total), "memory");
    for (const auto& [size, data] : free_) available += size;
    return {available, total, peak_};
  }

 private:
  static constexpr uint64_t kFreedAtOnce = uint64_t{256} << 20;  // weights, caches: nothing that comes and goes

  // Null when there is none left; throws what else is wrong with the device.
  void* allocate_new(uint64_t size) {
    void* data = nullptr;
    const cudaError_t status = cudaMalloc(&data, size);
    if (status == cudaSuccess) {
      held_ += size;
      peak_ = std::max(peak_, held_);
      return data;
    }
    if (status != cudaErrorMemoryAllocation) check(status, "allocate");
    cudaGetLastError();  // it was this one
    return nullptr;
  }

  void give_back(uint64_t size, void* data) {
    cudaFree(data);
    held_ -= size;
  }

  void trim() {
    for (const auto& [size, data] : free_) give_back(size, data);
    free_.clear();
  }

  std::mutex mutex_;
  std::multimap<uint64_t, void*> free_;
  uint64_t held_ = 0, peak_ = 0;
  int streams_ = 0;
};

Pool& pool(int index) {
  static std::mutex mutex;
  static auto* pools = new std::map<int, Pool>;  // outlives every static that may still hold a tensor
  const std::lock_guard lock(mutex);
  return (*pools)[index];
}

void* allocate(int index, uint64_t bytes) {
  check(cudaSetDevice(index), "allocate");
  return pool(index).allocate(bytes);
}

void release(int index, void* data, uint64_t bytes) {
  if (cudaSetDevice(index) == cudaSuccess) pool(index).release(data, bytes);
}

void* allocate_staging(int index, uint64_t bytes) {
  void* data = nullptr;
  if (cudaSetDevice(index) == cudaSuccess && cudaHostAlloc(&data, std::max<uint64_t>(bytes, 1), cudaHostAllocPortable) == cudaSuccess)
    return data;
  cudaGetLastError();
  return nullptr;
}

void release_staging(int, void* data, uint64_t) { cudaFreeHost(data); }

std::string refusal(int index) {
  int count = 0;
  const cudaError_t status = cudaGetDeviceCount(&count);
  if (status != cudaSuccess) {
    cudaGetLastError();
    return cudaGetErrorString(status);
  }
  return index < count ? "" : concat("this machine has ", count);
}

std::unique_ptr<DeviceStream> open_stream(int index) { return std::make_unique<CudaStream>(index); }

void copy(int index, void* to, const void* from, uint64_t bytes) {
  check(cudaSetDevice(index), "copy");
  check(cudaDeviceSynchronize(), "copy");
  check(cudaMemcpy(to, from, bytes, cudaMemcpyDefault), "copy");
  // From ordinary memory it may return before the device has it all, and other streams do not wait for that.
  check(cudaStreamSynchronize(nullptr), "copy");
}

std::string description(int index) {
  cudaDeviceProp properties;
  check(cudaGetDeviceProperties(&properties, index), "device");
  return properties.name;
}

DeviceMemory memory(int index) {
  check(cudaSetDevice(index), "memory");
  return pool(index).memory();
}

}  // namespace

const DeviceBackend& backend() {
  static constexpr DeviceBackend kCuda = {"cuda", allocate,         release,         false,  refusal,    open_stream,
                                          copy,   allocate_staging, release_staging, memory, description, block_bytes};
  return kCuda;
}

namespace {

// After these every call of the process fails: the driver keeps the device's state for nobody.
bool is_final(cudaError_t status) {
  switch (status) {
    case cudaErrorIllegalAddress:
    case cudaErrorLaunchFailure:
    case cudaErrorLaunchTimeout:
    case cudaErrorIllegalInstruction:
    case cudaErrorMisalignedAddress:
    case cudaErrorInvalidAddressSpace:
    case cudaErrorInvalidPc:
    case cudaErrorHardwareStackError:
    case cudaErrorAssert:
    case cudaErrorECCUncorrectable: return true;
    default: return false;
  }
}

}  // namespace

void check(cudaError_t status, const char* what) {
  if (status == cudaSuccess) return;
  cudaGetLastError();
  const bool memory = status == cudaErrorMemoryAllocation;
  const bool build = status == cudaErrorNoKernelImageForDevice || status == cudaErrorInsufficientDriver;
  fail(memory  ? ErrorCode::kOutOfMemory
       : build ? ErrorCode::kUnsupported
               : ErrorCode::kInternal,
       "cuda: ", what, ": ", cudaGetErrorString(status), is_final(status) ? "; this process cannot use the device any more, start it anew" : "");
}

StagingRing::~StagingRing() {
  for (const Slot& slot : slots_) {
    if (slot.done) cudaEventDestroy(slot.done);
  }
}

std::byte* StagingRing::begin(const Device& device, uint64_t bytes) {
  current_ = (current_ + 1) % kSlots;
  Slot& slot = slots_[current_];
  if (slot.done) {
    check(cudaEventSynchronize(slot.done), "staging");
  } else {
    check(cudaEventCreateWithFlags(&slot.done, cudaEventDisableTiming), "staging");
  }
  if (!slot.here || slot.here->bytes() < bytes) {
    slot.here = Storage::allocate_staging(device, bytes);
    slot.there.reset();
  }
  return slot.here->data();
}

std::byte* StagingRing::on_device(const Device& device) {
  Slot& slot = slots_[current_];
  if (!slot.there) slot.there = Storage::allocate(device, slot.here->bytes());
  return slot.there->data();
}

void StagingRing::end(CudaStream& stream) { check(cudaEventRecord(slots_[current_].done, stream.use()), "staging"); }

CudaStream::CudaStream(int index) : index_(index) {
  check(cudaSetDevice(index), "device");
  check(cudaDeviceGetAttribute(&multiprocessors_, cudaDevAttrMultiProcessorCount, index), "device");
  check(cudaDeviceGetAttribute(&shared_bytes_, cudaDevAttrMaxSharedMemoryPerBlockOptin, index), "device");
  check(cudaDeviceGetAttribute(&compute_major_, cudaDevAttrComputeCapabilityMajor, index), "device");
  check(cudaDeviceGetAttribute(&can_run_together_, cudaDevAttrCooperativeLaunch, index), "device");
  void* fault = nullptr;
  check(cudaHostAlloc(&fault, sizeof(uint64_t), cudaHostAllocPortable | cudaHostAllocMapped), "stream");
  fault_ = static_cast<uint64_t*>(fault);
  *fault_ = 0;
  cudaError_t status = cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking);
  for (cudaEvent_t* event : {&begin_, &end_}) {
    if (status == cudaSuccess) status = cudaEventCreate(event);
  }
  for (cudaEvent_t& event : marks_) {
    if (status == cudaSuccess) status = cudaEventCreateWithFlags(&event, cudaEventDisableTiming);
  }
  if (status != cudaSuccess) destroy();
  check(status, "stream");
  pool(index).add_stream();
}

CudaStream::~CudaStream() {
  cudaSetDevice(index_);
  cudaStreamSynchronize(stream_);
  pool(index_).remove_stream();
  destroy();
}

void CudaStream::destroy() {
  drop_graphs();
  for (cudaEvent_t event : {begin_, end_}) {
    if (event) cudaEventDestroy(event);
  }
  for (cudaEvent_t event : marks_) {
    if (event) cudaEventDestroy(event);
  }
  if (stream_) cudaStreamDestroy(stream_);
  cudaFreeHost(fault_);
}

void CudaStream::drop_graphs() {
  for (const auto& [key, graph] : graphs_) {
    if (graph) cudaGraphExecDestroy(graph);
  }
  graphs_.clear();
}

void CudaStream::capture(FunctionRef<void()> work, cudaGraphExec_t& graph) {
  check(cudaStreamBeginCapture(use(), cudaStreamCaptureModeThreadLocal), "capture");
  cudaGraph_t captured = nullptr;
  try {
    work();
  } catch (...) {
    cudaStreamEndCapture(stream_, &captured);
    if (captured) cudaGraphDestroy(captured);
    cudaGetLastError();
    throw;
  }
  check(cudaStreamEndCapture(stream_, &captured), "capture");
  const cudaError_t status = cudaGraphInstantiate(&graph, captured, 0);
  cudaGraphDestroy(captured);
  check(status, "capture");
}

void CudaStream::replay(uint64_t key, FunctionRef<void()> work) {
  constexpr size_t kMostGraphs = 256;  // sizes of batches, each with several sizes of cache and two buffers
  const auto known = graphs_.find(key);
  if (known == graphs_.end()) {
    if (graphs_.size() == kMostGraphs) {
      check(cudaStreamSynchronize(use()), "step");  // one may be running
      drop_graphs();
    }
    work();
    graphs_.emplace(key, nullptr);
    return;
  }
  if (!known->second) capture(work, known->second);
  check(cudaGraphLaunch(known->second, use()), "step");
}

double CudaStream::seconds_of(FunctionRef<void()> work) {
  check(cudaEventRecord(begin_, use()), "timing");
  work();
  check(cudaEventRecord(end_, use()), "timing");
  synchronize();
  float milliseconds = 0;
  check(cudaEventElapsedTime(&milliseconds, begin_, end_), "timing");
  return milliseconds * 1e-3;
}

cudaStream_t CudaStream::use() const {
  check(cudaSetDevice(index_), "device");
  return stream_;
}

void CudaStream::copy(void* to, const void* from, uint64_t bytes) {
  if (bytes > 0) check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, use()), "copy");
}

uint64_t CudaStream::mark() {
  check(cudaEventRecord(marks_[marked_ % kMarks], use()), "step");
  return marked_++;
}

void CudaStream::wait(uint64_t mark) {
  check(cudaSetDevice(index_), "device");
  check(cudaEventSynchronize(marks_[mark % kMarks]), "step");
  throw_fault();
}

void CudaStream::synchronize() {
  check(cudaStreamSynchronize(use()), "step");
  throw_fault();
}

void CudaStream::throw_fault() {
  // In one go: the next step may be on its way, and its fault must not be lost.
  const uint64_t word = std::atomic_ref<uint64_t>(*fault_).exchange(0);
  if (word == 0) return;
  ++faults_;
  const uint64_t value = word & ((uint64_t{1} << kFaultShift) - 1);
  if (static_cast<Fault>(word >> kFaultShift) == Fault::kEmbeddingId) {
    fail(ErrorCode::kInvalidArgument, "embedding: id ", static_cast<int32_t>(value), " is outside the table");
  }
  fail(ErrorCode::kInternal, "cuda: step: a block waited in vain for another one's results");
}

}  // namespace wick::cuda
