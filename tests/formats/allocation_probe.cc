#include "allocation_probe.h"

#include <malloc.h>

#include <algorithm>
#include <cstdlib>
#include <new>

namespace {

thread_local int64_t live_bytes = 0;
thread_local int64_t peak_bytes = 0;
thread_local int64_t countdown = -1;  // allocations that still succeed; -1 when none shall fail
thread_local bool failed = false;

}  // namespace

void* operator new(size_t size) {
  if (countdown == 0) {
    countdown = -1;
    failed = true;
    throw std::bad_alloc();
  }
  if (countdown > 0) --countdown;
  void* memory = std::malloc(size);
  if (memory == nullptr) throw std::bad_alloc();
  live_bytes += static_cast<int64_t>(malloc_usable_size(memory));
  peak_bytes = std::max(peak_bytes, live_bytes);
  return memory;
}

void operator delete(void* memory) noexcept {
  if (memory != nullptr) live_bytes -= static_cast<int64_t>(malloc_usable_size(memory));
  std::free(memory);
}

void operator delete(void* memory, size_t) noexcept { operator delete(memory); }

namespace wick::test {

PeakProbe::PeakProbe() : begin_(live_bytes) { peak_bytes = live_bytes; }
uint64_t PeakProbe::bytes() const { return static_cast<uint64_t>(peak_bytes - begin_); }

FailingAllocation::FailingAllocation(int64_t index) {
  failed = false;
  countdown = index;
}
FailingAllocation::~FailingAllocation() { countdown = -1; }
bool FailingAllocation::happened() const { return failed; }

}  // namespace wick::test
