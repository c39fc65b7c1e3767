#include "wick/base/cgroup.h"

#include <algorithm>
#include <charconv>
#include <fstream>
#include <initializer_list>
#include <sstream>
#include <string_view>
#include <vector>

#include "wick/base/error.h"

namespace wick {
namespace {

std::string first_line(const std::string& path) {
  std::ifstream in(path);
  std::string line;
  std::getline(in, line);
  return line;
}

std::optional<int64_t> parse_integer(std::string_view text) {
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end == text.data()) return std::nullopt;
  return value;
}

std::optional<int64_t> read_integer(const std::string& path) { return parse_integer(first_line(path)); }

// The path of this process's group of `controller` ("" for v2) in its hierarchy; "" when there is none.
// Lines read "4:cpu,cpuacct:/path", of v2 "0::/path".
std::string group_path(const std::string& root, const std::string& controller) {
  std::ifstream in(root + "/proc/self/cgroup");
  std::string line;
  while (std::getline(in, line)) {
    const size_t first = line.find(':');
    const size_t second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string names = concat(",", line.substr(first + 1, second - first - 1), ",");
    if (names.find(concat(",", controller, ",")) == std::string::npos) continue;
    return line.substr(second + 1);
  }
  return "";
}

// The directories of this process's group of `controller`, from the group itself up to the mount, for each place it may be mounted at.
std::vector<std::string> group_directories(const std::string& root, const std::string& controller, std::initializer_list<const char*> mounts) {
  std::vector<std::string> directories;
  for (const char* mount : mounts) {
    const std::string top = root + "/sys/fs/cgroup" + mount;
    std::string group = group_path(root, controller);
    while (group.size() > 1 && group.front() == '/') {
      directories.push_back(top + group);
      group.erase(group.find_last_of('/'));
    }
    // Inside a container the group's path may be the host's: the mount itself is then the group.
    directories.push_back(top);
  }
  return directories;
}

std::vector<std::string> v2_directories(const std::string& root) { return group_directories(root, "", {"", "/unified"}); }

void keep_smaller(std::optional<double>& best, double value) {
  if (value > 0 && (!best || value < *best)) best = value;
}

// The sum of the numbers that the lines of memory.stat with these names hold.
uint64_t sum_of_stats(const std::string& path, const std::string& first, const std::string& second) {
  std::ifstream in(path);
  std::string name;
  uint64_t value = 0, sum = 0;
  while (in >> name >> value) {
    if (name == first || name == second) sum += value;
  }
  return sum;
}

void consider_group(std::optional<CgroupMemory>& best, std::optional<int64_t> limit, std::optional<int64_t> usage, uint64_t cached) {
  constexpr int64_t kUnlimited = int64_t{1} << 62;  // v1 writes a huge number for "no limit"
  if (!limit || *limit <= 0 || *limit >= kUnlimited) return;
  const uint64_t bytes = static_cast<uint64_t>(*limit);
  const uint64_t used = static_cast<uint64_t>(std::max<int64_t>(0, usage.value_or(0)));
  const uint64_t available = bytes - std::min(bytes, used - std::min(used, cached));
  best = best ? CgroupMemory{std::min(best->limit, bytes), std::min(best->available, available)} : CgroupMemory{bytes, available};
}

}  // namespace

std::optional<double> cgroup_cpu_quota(const std::string& root) {
  std::optional<double> best;
  for (const std::string& directory : v2_directories(root)) {
    std::istringstream line(first_line(directory + "/cpu.max"));
    std::string quota;
    double period = 0;
    if (!(line >> quota >> period) || period <= 0) continue;
    if (const auto value = parse_integer(quota)) keep_smaller(best, static_cast<double>(*value) / period);
  }
  for (const std::string& directory : group_directories(root, "cpu", {"/cpu", "/cpu,cpuacct", "/cpuacct,cpu"})) {
    const auto quota = read_integer(directory + "/cpu.cfs_quota_us");
    const auto period = read_integer(directory + "/cpu.cfs_period_us");
    if (quota && period && *period > 0) keep_smaller(best, static_cast<double>(*quota) / static_cast<double>(*period));
  }
  return best;
}

std::optional<CgroupMemory> cgroup_memory(const std::string& root) {
  std::optional<CgroupMemory> best;
  for (const std::string& directory : v2_directories(root)) {
    consider_group(best, read_integer(directory + "/memory.max"), read_integer(directory + "/memory.current"),
                   sum_of_stats(directory + "/memory.stat", "active_file", "inactive_file"));
  }
  for (const std::string& directory : group_directories(root, "memory", {"/memory"})) {
    consider_group(best, read_integer(directory + "/memory.limit_in_bytes"), read_integer(directory + "/memory.usage_in_bytes"),
                   sum_of_stats(directory + "/memory.stat", "total_active_file", "total_inactive_file"));
  }
  return best;
}

}  // namespace wick
