// The order in which a device does its work, behind the caller's back. A Context has one, unless its device is done when a kernel returns.
#pragma once

#include <cstdint>

#include "wick/base/function_ref.h"

namespace wick {

class DeviceStream {
 public:
  virtual ~DeviceStream() = default;
  // Copies within the device's memory, or between it and the CPU's, after the work given before. Staging memory (Tensor::staging) has to
  // stay as it is until synchronize(); with other memory of the CPU the call may wait.
  virtual void copy(void* to, const void* from, uint64_t bytes) = 0;
  // Waits until all work given is done. Throws the Error of what went wrong since the last time.
  virtual void synchronize() = 0;
  // A point in the order of work; wait(mark()) is synchronize() that does not wait for what is given afterwards. Only the latest few marks are
  // kept, and waiting for an older one waits for more.
  virtual uint64_t mark() = 0;
  virtual void wait(uint64_t mark) = 0;
  // Does `work`, or what it was when it was last done under this key, without the calls: for a step that is the same every time but for the
  // contents of memory. All that `work` gives the device, addresses and sizes too, must follow from the key; it must not wait, and copies
  // from the CPU's memory must be from staging memory. Does it plainly the first time.
  virtual void replay(uint64_t key, FunctionRef<void()> work) = 0;
  // Seconds that the device takes for what `work` gives it, by its own clock; waits for it.
  virtual double seconds_of(FunctionRef<void()> work) = 0;
};

}  // namespace wick
