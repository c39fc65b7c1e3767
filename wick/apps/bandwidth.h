// How fast a device reads its memory: the ceiling of decoding. On the CPU measured with as many threads as the model has.
#pragma once

#include <cstdint>
#include <memory>

#include "wick/tensor/context.h"
#include "wick/tensor/tensor.h"

namespace wick::apps {

class ReadBandwidth {
 public:
  // A buffer of 1 GiB, or of half the memory that is free where that is less. Error(kOutOfMemory) below 16 MiB.
  ReadBandwidth(const Device& device, int threads);

  double measure();  // GB/s (1e9) of one pass over the buffer, by the device's own clock where it has one
  uint64_t bytes() const { return buffer_->bytes(); }
  static constexpr uint64_t kWantedBytes = uint64_t{1} << 30;

 private:
  double measure_here();
  double measure_there();

  Context ctx_;
  std::shared_ptr<Storage> buffer_;
};

}  // namespace wick::apps
