// Limits that a control group sets, v1 or v2. Takes the root of the file system, so that tests can lay one out.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace wick {

// CPU time per wall time, the smallest of the process's group and its ancestors; nothing when unlimited.
std::optional<double> cgroup_cpu_quota(const std::string& root);

// Bytes, the smallest likewise: what the groups allow, and what they leave now. Cached file contents count as free: the kernel drops them
// when a group needs room.
struct CgroupMemory {
  uint64_t limit = 0;
  uint64_t available = 0;
};
std::optional<CgroupMemory> cgroup_memory(const std::string& root);

}  // namespace wick
