// Counts what a test program allocates with operator new, and makes single allocations fail. Each thread counts its own.
#pragma once

#include <cstdint>

namespace wick::test {

// The largest number of bytes that was allocated at once since the probe was made, beyond what was allocated then.
class PeakProbe {
 public:
  PeakProbe();
  uint64_t bytes() const;

 private:
  int64_t begin_;
};

// While it lives, allocation number `index` (from 0) throws std::bad_alloc.
class FailingAllocation {
 public:
  explicit FailingAllocation(int64_t index);
  ~FailingAllocation();
  bool happened() const;
};

}  // namespace wick::test
