#include "wick/base/cgroup.h"

#include <charconv>
#include <fstream>
#include <sstream>
#include <vector>

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

// The directories of this process's group of `controller` ("" for v2) from the group itself up to the mount.
std::vector<std::string> group_directories(const std::string& root, const std::string& controller) {
  std::ifstream in(root + "/proc/self/cgroup");
  std::string line, group;
  bool found = false;
  while (!found && std::getline(in, line)) {
    const size_t first = line.find(':');
    const size_t second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) continue;
    std::istringstream names(line.substr(first + 1, second - first - 1));
    std::string name;
    if (controller.empty()) found = second == first + 1;
    while (!found && std::getline(names, name, ',')) found = name == controller;
    if (found) group = line.substr(second + 1);
  }
  std::vector<std::string> directories;
  const std::string mount = root + "/sys/fs/cgroup" + (controller.empty() ? "" : "/" + controller);
  while (found && !group.empty() && group != "/") {
    directories.push_back(mount + group);
    group.erase(group.find_last_of('/'));
  }
  // Inside a container the group's path may be the host's: the mount itself is then the group.
  directories.push_back(mount);
  return directories;
}

void keep_smaller(std::optional<double>& best, double value) {
  if (!best || value < *best) best = value;
}

}  // namespace

std::optional<double> cgroup_cpu_quota(const std::string& root) {
  std::optional<double> best;
  for (const std::string& directory : group_directories(root, "")) {
    std::istringstream line(first_line(directory + "/cpu.max"));
    std::string quota;
    double period = 0;
    if (!(line >> quota >> period) || period <= 0) continue;
    if (const auto value = parse_integer(quota)) keep_smaller(best, static_cast<double>(*value) / period);
  }
  for (const char* controller : {"cpu", "cpu,cpuacct"}) {
    for (const std::string& directory : group_directories(root, controller)) {
      const auto quota = read_integer(directory + "/cpu.cfs_quota_us");
      const auto period = read_integer(directory + "/cpu.cfs_period_us");
      if (quota && period && *quota > 0 && *period > 0) keep_smaller(best, static_cast<double>(*quota) / static_cast<double>(*period));
    }
  }
  return best;
}

std::optional<CgroupMemory> cgroup_memory(const std::string& root) {
  std::optional<CgroupMemory> best;
  const auto consider = [&](std::optional<int64_t> limit, std::optional<int64_t> usage) {
    constexpr int64_t kUnlimited = int64_t{1} << 62;  // v1 writes a huge number for "no limit"
    if (!limit || *limit <= 0 || *limit >= kUnlimited) return;
    if (!best || static_cast<uint64_t>(*limit) < best->limit) best = CgroupMemory{static_cast<uint64_t>(*limit), static_cast<uint64_t>(usage.value_or(0))};
  };
  for (const std::string& directory : group_directories(root, "")) {
    consider(read_integer(directory + "/memory.max"), read_integer(directory + "/memory.current"));
  }
  for (const std::string& directory : group_directories(root, "memory")) {
    consider(read_integer(directory + "/memory.limit_in_bytes"), read_integer(directory + "/memory.usage_in_bytes"));
  }
  return best;
}

std::optional<int> count_cpu_list(const std::string& list) {
  int64_t count = 0;
  std::istringstream ranges(list);
  std::string range;
  while (std::getline(ranges, range, ',')) {
    const size_t dash = range.find('-');
    const auto first = parse_integer(range);
    const auto last = dash == std::string::npos ? first : parse_integer(std::string_view(range).substr(dash + 1));
    if (!first || !last || *first < 0 || *last < *first || *last > 1 << 20) return std::nullopt;
    count += *last - *first + 1;
  }
  if (count < 1 || count > 1 << 20) return std::nullopt;
  return static_cast<int>(count);
}

}  // namespace wick
