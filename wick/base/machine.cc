#include "wick/base/machine.h"

#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__aarch64__)
#include <sys/auxv.h>
#endif
#include <sched.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <thread>
#include <vector>

#include "wick/base/cgroup.h"
#include "wick/base/error.h"
#include "wick/base/topology.h"

namespace wick {
namespace {

// "VmHWM:   1234 kB" → 1234 * 1024; 0 when the file has no such line.
uint64_t kilobytes_of(const char* path, const std::string& key) {
  std::ifstream in(path);
  std::string line;
  while (std::getline(in, line)) {
    if (line.rfind(key, 0) != 0) continue;
    std::istringstream rest(line.substr(key.size()));
    uint64_t value = 0;
    rest >> value;
    return value * 1024;
  }
  return 0;
}

int affinity_count() {
  for (int cpus = 1024; cpus <= 1 << 20; cpus *= 2) {
    const size_t bytes = CPU_ALLOC_SIZE(cpus);
    std::vector<unsigned long> mask(bytes / sizeof(unsigned long));
    auto* set = reinterpret_cast<cpu_set_t*>(mask.data());
    if (sched_getaffinity(0, bytes, set) == 0) return std::max(1, CPU_COUNT_S(bytes, set));
  }
  return std::max(1u, std::thread::hardware_concurrency());
}

#if defined(__x86_64__)
// Names that clang 14's __builtin_cpu_supports does not know.
bool has_f16c() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __get_cpuid(1, &a, &b, &c, &d) != 0 && (c >> 29 & 1) != 0;
}

bool has_avx512_bf16() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __get_cpuid_count(7, 1, &a, &b, &c, &d) != 0 && (a >> 5 & 1) != 0;
}

// Tiles and their bf16 product, and leave of the kernel to use them.
bool has_amx() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  constexpr unsigned kBf16 = 1u << 22, kTile = 1u << 24;
  if (__get_cpuid_count(7, 0, &a, &b, &c, &d) == 0 || (d & kBf16) == 0 || (d & kTile) == 0) return false;
  constexpr long kRequestPermission = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM and the number of that state
  static const bool granted = ::syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
  return granted;
}
#endif

}  // namespace

const char* isa_name(Isa isa) {
  switch (isa) {
    case Isa::kScalar: return "scalar";
    case Isa::kAvx2: return "avx2";
    case Isa::kAvx512: return "avx512";
    case Isa::kAvx512Vnni: return "avx512vnni";
    case Isa::kAvx512Bf16: return "avx512bf16";
    case Isa::kAvx512Amx: return "avx512amx";
    case Isa::kNeon: return "neon";
    case Isa::kNeonDot: return "neon_dot";
    case Isa::kNeonBf16: return "neon_bf16";
  }
  return "unknown";
}

std::optional<Isa> isa_from_name(std::string_view name) {
  for (const Isa isa : kIsas) {
    if (name == isa_name(isa)) return isa;
  }
  return std::nullopt;
}

bool isa_available(Isa isa) {
#if defined(__x86_64__)
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c();
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
                      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512cd");
  const bool vnni = avx512 && __builtin_cpu_supports("avx512vnni");
  const bool bf16 = vnni && has_avx512_bf16();
  switch (isa) {
    case Isa::kScalar: return true;
    case Isa::kAvx2: return avx2;
    case Isa::kAvx512: return avx512;
    case Isa::kAvx512Vnni: return vnni;
    case Isa::kAvx512Bf16: return bf16;
    case Isa::kAvx512Amx: return bf16 && has_amx();
    default: return false;
  }
#elif defined(__aarch64__)
  const bool dot = (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0;
  switch (isa) {
    case Isa::kScalar:
    case Isa::kNeon: return true;
    case Isa::kNeonDot: return dot;
    case Isa::kNeonBf16: return dot && (getauxval(AT_HWCAP2) & HWCAP2_BF16) != 0;
    default: return false;
  }
#else
  return isa == Isa::kScalar;
#endif
}

bool cpu_is_intel() {
#if defined(__x86_64__)
  static const bool intel = (__builtin_cpu_init(), __builtin_cpu_is("intel") != 0);
  return intel;
#else
  return false;
#endif
}

Isa default_isa() {
  if (const char* name = std::getenv("WICK_CPU"); name && *name) {
    const std::optional<Isa> isa = isa_from_name(name);
    constexpr const char* kNames = "scalar, avx2, avx512, avx512vnni, avx512bf16, avx512amx, neon, neon_dot or neon_bf16";
    if (!isa) fail(ErrorCode::kUnsupported, "WICK_CPU is '", name, "', expected ", kNames);
    if (!isa_available(*isa)) fail(ErrorCode::kUnsupported, "WICK_CPU is '", name, "', which this processor does not have");
    return *isa;
  }
  Isa best = Isa::kScalar;
  for (const Isa isa : kIsas) {
    const bool slow = isa == Isa::kAvx512Bf16 && cpu_is_intel();
    if (isa_available(isa) && !slow) best = isa;
  }
  return best;
}

int CpuLimits::threads() const {
  int threads = std::min(physical_cores, affinity);
  if (quota) threads = std::min(threads, static_cast<int>(std::ceil(*quota)));
  return std::max(1, threads);
}

CpuLimits cpu_limits() {
  const int online = static_cast<int>(std::max(1L, sysconf(_SC_NPROCESSORS_ONLN)));
  return {physical_core_count("").value_or(online), affinity_count(), cgroup_cpu_quota("")};
}

uint64_t memory_limit_bytes() {
  const uint64_t physical = static_cast<uint64_t>(std::max(1L, sysconf(_SC_PHYS_PAGES))) * static_cast<uint64_t>(sysconf(_SC_PAGE_SIZE));
  const auto group = cgroup_memory("");
  return group ? std::min(physical, group->limit) : physical;
}

uint64_t memory_available_bytes() {
  const uint64_t available = kilobytes_of("/proc/meminfo", "MemAvailable:");
  const auto group = cgroup_memory("");
  const uint64_t system = available ? available : memory_limit_bytes();
  return group ? std::min(system, group->available) : system;
}

uint64_t peak_rss_bytes() {
  if (const uint64_t peak = kilobytes_of("/proc/self/status", "VmHWM:")) return peak;
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<uint64_t>(usage.ru_maxrss) * 1024;
}

std::string cpu_model_name() {
  std::ifstream in("/proc/cpuinfo");
  std::string line;
  while (std::getline(in, line)) {
    if (line.rfind("model name", 0) != 0) continue;
    const size_t colon = line.find(':');
    if (colon != std::string::npos && colon + 2 < line.size()) return line.substr(colon + 2);
  }
  return "unknown";
}

}  // namespace wick
