// How fast this machine reads memory: the ceiling of decoding, measured with as many threads.
#pragma once

#include <cstdint>

#include "wick/base/thread_pool.h"

namespace wick::apps {

class ReadBandwidth {
 public:
  // A buffer of 1 GiB, or of half the memory that is free where that is less. Error(kOutOfMemory) below 16 MiB.
  explicit ReadBandwidth(int threads);
  ~ReadBandwidth();
  ReadBandwidth(const ReadBandwidth&) = delete;
  ReadBandwidth& operator=(const ReadBandwidth&) = delete;

  double measure();  // GB/s (1e9) of one pass over the buffer
  uint64_t bytes() const { return bytes_; }
  static constexpr uint64_t kWantedBytes = uint64_t{1} << 30;

 private:
  ThreadPool pool_;
  uint64_t bytes_ = 0;
  uint64_t* data_ = nullptr;
};

}  // namespace wick::apps
