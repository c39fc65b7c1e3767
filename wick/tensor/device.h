// Where memory lives and kernels run. An open set: a backend is a name, an allocator and a folder of kernels, and nothing outside
// wick/tensor switches over the devices there are.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace wick {

// How a backend gets and gives back memory. Registered once, never unregistered.
struct DeviceBackend {
  const char* name;                                 // "cpu", "cuda": no colon; kept, not copied
  void* (*allocate)(int index, uint64_t bytes);     // 64-byte aligned, nullptr when there is none left
  void (*release)(int index, void* data, uint64_t bytes);
  bool host_accessible;                             // the CPU may read and write it directly
};

class Device {
 public:
  static Device cpu();
  // "cpu", "cuda", "cuda:1". Throws Error(kUnsupported) naming the devices there are for one that this build or machine lacks.
  static Device parse(std::string_view name);
  static void register_backend(const DeviceBackend& backend);  // by name; Error(kInvalidArgument) when it is taken

  const DeviceBackend& backend() const { return *backend_; }
  int index() const { return index_; }
  std::string name() const;  // "cpu", "cuda:0"
  bool is_cpu() const;
  bool operator==(const Device& other) const { return backend_ == other.backend_ && index_ == other.index_; }

 private:
  Device(const DeviceBackend* backend, int index) : backend_(backend), index_(index) {}
  const DeviceBackend* backend_;
  int index_;
};

}  // namespace wick
