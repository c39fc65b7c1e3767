#include "wick/kernels/sum_words.h"

#include "wick/kernels/cuda/device.cuh"

namespace wick::cuda {
namespace {

constexpr unsigned kThreads = 512;
constexpr int kInFlight = 8;  // loads of 16 bytes
constexpr int64_t kPart = int64_t{kThreads} * kInFlight;

__global__ void __launch_bounds__(kThreads) sum_kernel(const ulonglong2* data, int64_t pairs, const uint64_t* rest, int words, uint64_t* sum) {
  begin_kernel();
  uint64_t own = 0;
  for (int64_t first = int64_t{blockIdx.x} * kPart + threadIdx.x; first < pairs; first += gridDim.x * kPart) {
    ulonglong2 values[kInFlight] = {};
#pragma unroll
    for (int j = 0; j < kInFlight; ++j) {
      if (const int64_t i = first + int64_t{j} * kThreads; i < pairs) values[j] = __ldcs(data + i);
    }
#pragma unroll
    for (int j = 0; j < kInFlight; ++j) own += values[j].x + values[j].y;
  }
  if (blockIdx.x == 0 && static_cast<int>(threadIdx.x) < words) own += rest[threadIdx.x];
  own = row_sum<kThreads>(own);
  if (threadIdx.x == 0) atomicAdd(reinterpret_cast<unsigned long long*>(sum), static_cast<unsigned long long>(own));
}

}  // namespace

void sum_words(Context& ctx, const uint64_t* data, int64_t words, uint64_t* sum) {
  const int64_t pairs = words / 2;
  const int64_t most = 4 * stream_of(ctx).multiprocessors();  // as many blocks as there is room for
  const unsigned blocks = static_cast<unsigned>(std::clamp<int64_t>((pairs + kPart - 1) / kPart, 1, most));
  launch(ctx, "sum_words", sum_kernel, blocks, kThreads, 0, reinterpret_cast<const ulonglong2*>(data), pairs, data + 2 * pairs,
         static_cast<int>(words % 2), sum);
}

}  // namespace wick::cuda
