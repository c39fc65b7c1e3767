#include "wick/apps/bandwidth.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <vector>

#include "wick/base/error.h"
#include "wick/kernels/sum_words.h"
#include "wick/ops/device.h"

namespace wick::apps {
namespace {

constexpr int64_t kBlockWords = int64_t{1} << 17;  // 1 MiB: what one worker reads before it asks for more
constexpr uint64_t kBlockBytes = kBlockWords * sizeof(uint64_t);

// Independent sums, so that the loop waits for memory and not for the additions; asked for ahead, as the kernels do: without it Zen 3 reads a
// sixth less.
uint64_t sum_block(const uint64_t* data, int64_t words) {
  constexpr int kLanes = 16;
  constexpr int64_t kAhead = 2048 / sizeof(uint64_t);
  uint64_t sums[kLanes] = {};
  for (int64_t i = 0; i < words; i += kLanes) {
    for (int64_t ahead = 0; ahead < kLanes; ahead += 8) __builtin_prefetch(data + i + kAhead + ahead);
    for (int lane = 0; lane < kLanes; ++lane) sums[lane] += data[i + lane];
  }
  uint64_t sum = 0;
  for (const uint64_t each : sums) sum += each;
  return sum;
}

std::shared_ptr<Storage> allocate(const Device& device) {
  constexpr uint64_t kLeast = uint64_t{16} << 20;
  const uint64_t bytes = std::min(ReadBandwidth::kWantedBytes, device.memory().available / 2) / kBlockBytes * kBlockBytes;
  if (bytes < kLeast) fail(ErrorCode::kOutOfMemory, "too little free memory to measure its bandwidth: ", bytes * 2, " bytes");
  return Storage::allocate(device, bytes);
}

}  // namespace

ReadBandwidth::ReadBandwidth(const Device& device, int threads) : ctx_(device, {.threads = threads}), buffer_(allocate(device)) {
  // Written, or every page would be the one page of zeros.
  std::vector<uint64_t> ones(kBlockWords, 1);
  const int64_t blocks = static_cast<int64_t>(bytes() / kBlockBytes);
  std::byte* const data = buffer_->data();
  if (device.is_cpu()) {
    ctx_.pool().parallel_for(blocks, 1, [&](int64_t begin, int64_t end, int) {
      std::fill_n(reinterpret_cast<uint64_t*>(data) + begin * kBlockWords, (end - begin) * kBlockWords, uint64_t{1});
    });
    return;
  }
  for (int64_t i = 0; i < blocks; ++i) ctx_.copy(data + i * static_cast<int64_t>(kBlockBytes), ones.data(), kBlockBytes);
  ctx_.synchronize();
}

double ReadBandwidth::measure() { return ctx_.device().is_cpu() ? measure_here() : measure_there(); }

double ReadBandwidth::measure_here() {
  std::atomic<uint64_t> sum{0};
  const auto* data = reinterpret_cast<const uint64_t*>(buffer_->data());
  const int64_t blocks = static_cast<int64_t>(bytes() / kBlockBytes);
  const auto start = std::chrono::steady_clock::now();
  ctx_.pool().parallel_for(blocks, 4, [&](int64_t begin, int64_t end, int) {
    sum.fetch_add(sum_block(data + begin * kBlockWords, (end - begin) * kBlockWords), std::memory_order_relaxed);
  });
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  if (sum.load() != bytes() / sizeof(uint64_t)) fail(ErrorCode::kInternal, "memory bandwidth: the sum of the buffer is wrong");
  return static_cast<double>(bytes()) / seconds * 1e-9;
}

double ReadBandwidth::measure_there() {
  constexpr int kPasses = 4;  // one alone would count its launch
  ops::require_kernels(ctx_, "memory bandwidth");
  const Tensor sum = Tensor::zeros({1}, DType::kI64).to(ctx_.device());
  const int64_t words = static_cast<int64_t>(bytes() / sizeof(uint64_t));
  double seconds = 0;
  if constexpr (ops::kHasCuda) {
    seconds = ctx_.stream()->seconds_of([&] {
      for (int i = 0; i < kPasses; ++i)
        cuda::sum_words(ctx_, reinterpret_cast<const uint64_t*>(buffer_->data()), words, reinterpret_cast<uint64_t*>(sum.raw()));
    });
  }
  const int64_t expected = kPasses * words;
  if (*sum.to(Device::cpu()).data<int64_t>() != expected) fail(ErrorCode::kInternal, "memory bandwidth: the sum of the buffer is wrong");
  return kPasses * static_cast<double>(bytes()) / seconds * 1e-9;
}

}  // namespace wick::apps
