// Where memory lives and kernels run. An open set: a backend is a name, an allocator and a folder of kernels, and nothing outside
// wick/tensor switches over the devices there are.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "wick/tensor/device_stream.h"

namespace wick {

struct DeviceMemory {
  uint64_t available = 0;  // bytes that an allocation may take now
  uint64_t limit = 0;      // bytes there are at all
  uint64_t peak = 0;       // the most that this process has held at a time; 0 where nobody counts
};

// How a backend gets and gives back memory. Registered once, never unregistered. What follows host_accessible may be null.
struct DeviceBackend {
  const char* name;                                 // "cpu", "cuda": no colon; kept, not copied
  void* (*allocate)(int index, uint64_t bytes);     // 64-byte aligned, nullptr when there is none left
  void (*release)(int index, void* data, uint64_t bytes);
  bool host_accessible;                             // the CPU may read and write it directly

  std::string (*refusal)(int index) = nullptr;                    // why there is no such device on this machine; empty when there is. Null: it is not listed
  std::unique_ptr<DeviceStream> (*open_stream)(int index) = nullptr;    // for devices that work behind the caller's back
  // Copies between memories of the device and the CPU, when all work of the device is done. May throw Error.
  void (*copy)(int index, void* to, const void* from, uint64_t bytes) = nullptr;
  // Memory of the CPU that the device reads and writes without help; nullptr when there is none left.
  void* (*allocate_staging)(int index, uint64_t bytes) = nullptr;
  void (*release_staging)(int index, void* data, uint64_t bytes) = nullptr;
  DeviceMemory (*memory)(int index) = nullptr;
  std::string (*description)(int index) = nullptr;    // its maker's name for it
  uint64_t (*block_bytes)(uint64_t bytes) = nullptr;  // what an allocation of so many bytes takes; null: as many
};

class Device {
 public:
  static Device cpu();
  // "cpu", "cuda", "cuda:1". Throws Error(kUnsupported) naming the devices there are for one that this build or machine lacks.
  static Device parse(std::string_view name);
  static std::vector<Device> available();  // that this machine has, the CPU first
  static void register_backend(const DeviceBackend& backend);  // by name; Error(kInvalidArgument) when it is taken

  const DeviceBackend& backend() const { return *backend_; }
  int index() const { return index_; }
  std::string name() const;  // "cpu", "cuda:0"
  std::string description() const;  // "AMD EPYC 9B45", "NVIDIA H200"
  DeviceMemory memory() const;
  uint64_t block_bytes(uint64_t bytes) const { return backend_->block_bytes ? backend_->block_bytes(bytes) : bytes; }
  bool is_cpu() const;
  bool operator==(const Device& other) const { return backend_ == other.backend_ && index_ == other.index_; }

 private:
  Device(const DeviceBackend* backend, int index) : backend_(backend), index_(index) {}
  const DeviceBackend* backend_;
  int index_;
};

}  // namespace wick
