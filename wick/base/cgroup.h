// Limits that a control group sets, v1 or v2. Takes the root of the file system, so that tests can lay one out.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace wick {

// CPU time per wall time, the smallest of the process's group and its ancestors; nothing when unlimited.
std::optional<double> cgroup_cpu_quota(const std::string& root);
// Bytes, the smallest likewise, and what the group that sets it uses now.
struct CgroupMemory {
  uint64_t limit = 0;
  uint64_t usage = 0;
};
std::optional<CgroupMemory> cgroup_memory(const std::string& root);

// "0-3,8" → 5 processors. Nothing when it is not such a list.
std::optional<int> count_cpu_list(const std::string& list);

}  // namespace wick
