// What an op runs on: a device, its threads, the instruction set to use, and scratch memory. One caller at a time.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "wick/base/checked.h"
#include "wick/base/machine.h"
#include "wick/base/thread_pool.h"
#include "wick/tensor/device.h"

namespace wick {

class Context {
 public:
  struct Options {
    int threads = 0;           // 0: cpu_limits().threads()
    Isa isa = default_isa();   // kernels of this set are used; Error(kUnsupported) when this machine cannot run it
    // What an op makes of a row (linear, norms, softmax, attention) does not depend on the rows beside it, bit for bit. The CPU's are
    // always so; on a GPU it is slower.
    bool batch_invariant = false;
  };
  explicit Context(const Device& device = Device::cpu()) : Context(device, Options{}) {}
  Context(const Device& device, const Options& options);
  ~Context();
  Context(const Context&) = delete;
  Context& operator=(const Context&) = delete;

  const Device& device() const { return device_; }
  Isa isa() const { return isa_; }
  bool batch_invariant() const { return batch_invariant_; }
  int threads() const { return pool_.size(); }
  ThreadPool& pool() { return pool_; }
  DeviceStream* stream() { return stream_.get(); }  // null when kernels are done as they return

  // Copies between the CPU's memory and the device's in order with the kernels: at once on the CPU, else as DeviceStream::copy says.
  void copy(void* to, const void* from, uint64_t bytes);
  // Waits for the device. Throws the Error of what went wrong in the kernels since the last time.
  void synchronize() {
    if (stream_) stream_->synchronize();
  }

  // Scratch that lives until the enclosing ScratchScope ends; 64-byte aligned, uninitialised. Grows by whole blocks on first use and
  // is kept, so a step that has run once at its largest size allocates nothing. Error(kInvalidArgument) when count is negative or its
  // size does not fit, Error(kOutOfMemory).
  template <class T>
  std::span<T> scratch(int64_t count) {
    const int64_t bytes = mul_or_fail(count, static_cast<int64_t>(sizeof(T)), "scratch: bytes");
    return {static_cast<T*>(scratch_bytes(bytes)), static_cast<size_t>(count)};
  }

  // Makes room for so much scratch at once, where there is none yet. Error(kOutOfMemory).
  void reserve_scratch(uint64_t bytes);

  // Changes whenever scratch may lie elsewhere than before.
  uint64_t scratch_version() const;

 private:
  friend class ScratchScope;
  void* scratch_bytes(int64_t bytes);
  struct Scratch;
  Device device_;
  Isa isa_;
  bool batch_invariant_;
  ThreadPool pool_;
  std::unique_ptr<Scratch> scratch_;
  std::unique_ptr<DeviceStream> stream_;  // goes first, and waits for what uses the scratch
};

// Returns the scratch taken since its construction. Scopes nest.
class ScratchScope {
 public:
  explicit ScratchScope(Context& context);
  ~ScratchScope();
  ScratchScope(const ScratchScope&) = delete;
  ScratchScope& operator=(const ScratchScope&) = delete;

 private:
  Context& context_;
  int64_t mark_;
};

}  // namespace wick
