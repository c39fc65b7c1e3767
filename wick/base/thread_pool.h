// A fixed team of threads with a parallel-for that costs about a microsecond, for loops that run thousands of times per second.
// Not a task queue: one loop at a time, the caller takes part, and the call returns when every index is done.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>

#include "wick/base/function_ref.h"

namespace wick {

class ThreadPool {
 public:
  static constexpr int kMaxThreads = 4096;
  // A team of `threads` including the calling thread (threads - 1 are started). 1 to kMaxThreads, else Error(kInvalidArgument);
  // Error(kOutOfMemory) when the system refuses so many.
  // Workers inherit the caller's affinity and floating-point mode at construction time; they block all signals.
  explicit ThreadPool(int threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int size() const;

  static constexpr std::chrono::microseconds kPatience{20};
  // How long workers spin for the next loop from now on: for callers that know it will come soon. Any thread may say so.
  void set_patience(std::chrono::microseconds patience);

  // Calls body(begin, end, worker) for disjoint ranges that cover [0, n); `worker` in [0, size()) is unique among concurrent calls.
  // Ranges hold at least `grain` indices but the last (grain >= 1). Each thread begins with a share of its own, takes it front to back, so
  // that it reads on where it was, and then helps others: nothing may depend on which worker gets which. Runs inline when n <= grain, when
  // size() is 1, or when called from inside a body. n is at most 2^48, else Error(kInvalidArgument).
  // No allocation. When a body throws, remaining ranges are skipped and the first exception is rethrown here after all workers have left.
  // One caller at a time: a second concurrent caller gets Error(kInvalidArgument).
  // Idle workers spin for at most 20 µs, or their patience, and then sleep; so does the caller while it waits, for 20 µs.
  void parallel_for(int64_t n, int64_t grain, FunctionRef<void(int64_t begin, int64_t end, int worker)> body);

 private:
  void stop();
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace wick
