#include "bench/kv_cache_bench.h"

#include <malloc.h>

#include <algorithm>
#include <fstream>
#include <string>

#include "bench/naive_ops.h"
#include "bench/op_timing.h"
#include "wick/wick.h"

namespace wick::bench {
namespace {

constexpr int64_t kHeads = 8, kHeadDim = 64;
constexpr int64_t kChunk = 256;
constexpr int64_t kSamples = 64;

Tensor positions(int64_t count) { return Tensor::zeros({1, kHeads, count, kHeadDim}, DType::kBF16); }

uint64_t status_bytes(const std::string& key) {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with(key + ":")) return std::stoull(line.substr(key.size() + 1)) * 1024;
  }
  return 0;
}

// How far the resident memory rises above its present size while `body` runs.
template <class Body>
uint64_t peak_of(Body&& body) {
  ::malloc_trim(0);
  std::ofstream("/proc/self/clear_refs") << "5";  // the highest size is the present one
  const uint64_t before = status_bytes("VmRSS");
  body();
  const uint64_t peak = status_bytes("VmHWM");
  return peak > before ? peak - before : 0;
}

}  // namespace

KvCacheComparison compare_kv_cache(Context& ctx, int64_t tokens) {
  KvCacheComparison result;
  const Tensor token = positions(1);
  const auto append_all = [&] {
    nn::KvCache cache(2, kChunk);
    for (int64_t i = 0; i < tokens; ++i) cache.append(ctx, token, token);
  };
  append_all();
  result.cache.seconds = timed("", append_all).run(0, 1) / static_cast<double>(tokens);
  result.cache.peak_bytes = peak_of(append_all);

  double seconds = 0;
  for (int64_t i = 0; i < kSamples; ++i) {
    Tensor k = positions(tokens * (2 * i + 1) / (2 * kSamples));
    Tensor v = positions(k.dim(2));
    const auto append = [&] {
      k = naive::concat(k, token, 2);
      v = naive::concat(v, token, 2);
    };
    append();
    seconds += timed("", append).run(0, 2) / 2;
  }
  result.concatenation.seconds = seconds / static_cast<double>(kSamples);
  result.concatenation.peak_bytes = peak_of([&] {
    Tensor k = positions(tokens - 1);
    Tensor v = positions(tokens - 1);
    k = naive::concat(k, token, 2);
    v = naive::concat(v, token, 2);
  });
  return result;
}

}  // namespace wick::bench
