#include "wick/apps/bandwidth.h"

#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <chrono>

#include "wick/base/error.h"
#include "wick/base/machine.h"

namespace wick::apps {
namespace {

constexpr int64_t kBlockWords = int64_t{1} << 17;  // 1 MiB: what one worker reads before it asks for more

// Independent sums, so that the loop waits for memory and not for the additions.
uint64_t sum_block(const uint64_t* data, int64_t words) {
  constexpr int kLanes = 16;
  uint64_t sums[kLanes] = {};
  for (int64_t i = 0; i < words; i += kLanes) {
    for (int lane = 0; lane < kLanes; ++lane) sums[lane] += data[i + lane];
  }
  uint64_t sum = 0;
  for (const uint64_t each : sums) sum += each;
  return sum;
}

}  // namespace

ReadBandwidth::ReadBandwidth(int threads) : pool_(threads) {
  constexpr uint64_t kLeast = uint64_t{16} << 20;
  constexpr uint64_t kBlockBytes = kBlockWords * sizeof(uint64_t);
  bytes_ = std::min(kWantedBytes, memory_available_bytes() / 2) / kBlockBytes * kBlockBytes;
  if (bytes_ < kLeast) fail(ErrorCode::kOutOfMemory, "too little free memory to measure its bandwidth: ", bytes_ * 2, " bytes");
  void* memory = ::mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) fail(ErrorCode::kOutOfMemory, "no ", bytes_, " bytes to measure the memory bandwidth with");
  ::madvise(memory, bytes_, MADV_HUGEPAGE);  // a hint: its failure changes nothing
  data_ = static_cast<uint64_t*>(memory);
  // Written, or every page would be the one page of zeros.
  const int64_t blocks = static_cast<int64_t>(bytes_ / kBlockBytes);
  pool_.parallel_for(blocks, 1, [&](int64_t begin, int64_t end, int) { std::fill(data_ + begin * kBlockWords, data_ + end * kBlockWords, uint64_t{1}); });
}

ReadBandwidth::~ReadBandwidth() { ::munmap(data_, bytes_); }

double ReadBandwidth::measure() {
  std::atomic<uint64_t> sum{0};
  const int64_t blocks = static_cast<int64_t>(bytes_ / sizeof(uint64_t)) / kBlockWords;
  const auto start = std::chrono::steady_clock::now();
  pool_.parallel_for(blocks, 4, [&](int64_t begin, int64_t end, int) {
    sum.fetch_add(sum_block(data_ + begin * kBlockWords, (end - begin) * kBlockWords), std::memory_order_relaxed);
  });
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  if (sum.load() != bytes_ / sizeof(uint64_t)) fail(ErrorCode::kInternal, "memory bandwidth: the sum of the buffer is wrong");
  return static_cast<double>(bytes_) / seconds * 1e-9;
}

}  // namespace wick::apps
