#include "wick/tensor/device.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstddef>
#include <cstdlib>
#include <list>
#include <mutex>

#include "wick/base/cgroup.h"
#include "wick/base/checked.h"
#include "wick/base/error.h"
#include "wick/base/machine.h"
#ifdef WICK_CUDA
#include "wick/tensor/cuda_device.h"
#endif

namespace wick {
namespace {

constexpr uint64_t kAlignment = 64;
constexpr uint64_t kHugePage = uint64_t{2} << 20;

constexpr uint64_t kLargest = uint64_t{1} << 56;           // above any address space; sums with it do not wrap
constexpr uint64_t kCheckedBytes = uint64_t{64} << 20;     // below this, looking the limit up would cost more than it prevents

// Whether the memory could be touched. The kernel refuses what exceeds the machine, but hands out more than the control group allows and
// ends the process when it is used.
bool fits(uint64_t bytes) {
  if (bytes < kCheckedBytes) return true;
  const auto group = cgroup_memory("");
  return bytes <= kLargest && (!group || bytes <= group->limit);
}

// A mapping that begins on a huge page: older kernels only align to small ones, so the ends of a longer one are given back.
void* map_aligned(uint64_t bytes) {
  const uint64_t page = static_cast<uint64_t>(sysconf(_SC_PAGE_SIZE));
  const uint64_t length = round_up(bytes, page);
  void* mapped = mmap(nullptr, length + kHugePage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapped == MAP_FAILED) return nullptr;
  std::byte* const begin = static_cast<std::byte*>(mapped);
  const uint64_t head = round_up(reinterpret_cast<uintptr_t>(begin), kHugePage) - reinterpret_cast<uintptr_t>(begin);
  if (head > 0) munmap(begin, head);
  if (head < kHugePage) munmap(begin + head + length, kHugePage - head);
  return begin + head;
}

// Large blocks that were given back, for whoever asks for as much next: their pages are there, where the system clears new ones first,
// which takes as long as most ops that write them take. The oldest make room; a process keeps at most kMost bytes like that.
class SpareBlocks {
 public:
  // Null: there is none of that length.
  void* take(uint64_t length) {
    const std::lock_guard lock(mutex_);
    for (size_t i = count_; i-- > 0;) {
      if (blocks_[i].length == length) return remove(i);
    }
    return nullptr;
  }

  // False: it is too large to be kept.
  bool keep(void* data, uint64_t length) {
    if (length > kMost) return false;
    const std::lock_guard lock(mutex_);
    while (bytes_ + length > kMost) {
      const uint64_t oldest = blocks_[0].length;
      munmap(remove(0), oldest);
    }
    blocks_[count_++] = {data, length};
    bytes_ += length;
    return true;
  }

 private:
  static constexpr uint64_t kMost = uint64_t{32} << 20;

  struct Block {
    void* data;
    uint64_t length;  // whole huge pages
  };

  void* remove(size_t i) {
    void* data = blocks_[i].data;
    bytes_ -= blocks_[i].length;
    std::copy(blocks_.begin() + i + 1, blocks_.begin() + count_, blocks_.begin() + i);
    --count_;
    return data;
  }

  std::mutex mutex_;
  std::array<Block, kMost / kHugePage> blocks_;  // the oldest first
  size_t count_ = 0;
  uint64_t bytes_ = 0;
};

SpareBlocks& spare_blocks() {
  static SpareBlocks* instance = new SpareBlocks;  // outlives every static that may still hold a tensor
  return *instance;
}

// Large blocks are mappings of their own: untouched pages cost nothing, and huge pages gave 3 to 5 % on plain reads.
void* allocate_cpu(int, uint64_t bytes) {
  if (bytes < kHugePage) return std::aligned_alloc(kAlignment, round_up(std::max<uint64_t>(bytes, 1), kAlignment));
  if (!fits(bytes)) return nullptr;
  const uint64_t length = round_up(bytes, kHugePage);
  if (void* spare = spare_blocks().take(length)) return spare;
  void* data = map_aligned(length);
  if (data) madvise(data, bytes, MADV_HUGEPAGE);
  return data;
}

void release_cpu(int, void* data, uint64_t bytes) {
  const uint64_t length = round_up(bytes, kHugePage);
  if (bytes < kHugePage) {
    std::free(data);
  } else if (!spare_blocks().keep(data, length)) {
    munmap(data, length);
  }
}

constexpr DeviceBackend kCpu = {"cpu", allocate_cpu, release_cpu, true};

struct Registry {
  std::mutex mutex;
  std::list<DeviceBackend> backends;  // addresses stay
};

Registry& registry() {
  static Registry* instance = [] {
    auto* made = new Registry;  // outlives every static that may still hold a tensor
#ifdef WICK_CUDA
    made->backends.push_back(cuda::backend());
#endif
    return made;
  }();
  return *instance;
}

}  // namespace

Device Device::cpu() { return Device(&kCpu, 0); }

bool Device::is_cpu() const { return backend_ == &kCpu; }

Device Device::parse(std::string_view name) {
  const size_t colon = name.find(':');
  const std::string_view kind = name.substr(0, colon);
  int index = 0;
  if (colon != std::string_view::npos) {
    const std::string_view digits = name.substr(colon + 1);
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), index);
    require(error == std::errc() && end == digits.data() + digits.size() && index >= 0, "device '", name.substr(0, 64), "': expected NAME or NAME:NUMBER");
  }
  if (kind == kCpu.name && index == 0) return cpu();
  std::string known = kCpu.name;
  const std::lock_guard lock(registry().mutex);
  for (const DeviceBackend& backend : registry().backends) {
    if (kind == backend.name) {
      const std::string refusal = backend.refusal ? backend.refusal(index) : "";
      if (!refusal.empty()) fail(ErrorCode::kUnsupported, "device '", name.substr(0, 64), "' is not available: ", refusal);
      return Device(&backend, index);
    }
    known += std::string(", ") + backend.name;
  }
  fail(ErrorCode::kUnsupported, "device '", name.substr(0, 64), "' is not available (available: ", known, ")");
}

std::vector<Device> Device::available() {
  constexpr int kMost = 64;  // of a backend that cannot say
  std::vector<Device> devices = {cpu()};
  const std::lock_guard lock(registry().mutex);
  for (const DeviceBackend& backend : registry().backends) {
    for (int index = 0; index < kMost && backend.refusal && backend.refusal(index).empty(); ++index) devices.push_back(Device(&backend, index));
  }
  return devices;
}

void Device::register_backend(const DeviceBackend& backend) {
  require(backend.name && backend.allocate && backend.release, "register_backend: a name, an allocator and a release function are needed");
  const std::string_view name = backend.name;
  require(!name.empty() && name.find(':') == std::string_view::npos, "register_backend: '", name, "' is not a name");
  const std::lock_guard lock(registry().mutex);
  bool taken = name == kCpu.name;
  for (const DeviceBackend& other : registry().backends) taken = taken || name == other.name;
  require(!taken, "register_backend: '", name, "' is registered already");
  registry().backends.push_back(backend);
}

DeviceMemory Device::memory() const {
  if (backend_->memory) return backend_->memory(index_);
  return {memory_available_bytes(), memory_limit_bytes(), 0};
}

std::string Device::description() const {
  if (is_cpu()) return cpu_model_name();
  return backend_->description ? backend_->description(index_) : name();
}

std::string Device::name() const { return is_cpu() ? "cpu" : concat(backend_->name, ":", index_); }

}  // namespace wick
