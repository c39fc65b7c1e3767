#include "wick/base/topology.h"

#include <charconv>
#include <cstdint>
#include <fstream>
#include <set>
#include <string_view>
#include <utility>
#include <vector>

namespace wick {
namespace {

constexpr int kMaxProcessors = 1 << 20;

std::string first_line(const std::string& path) {
  std::ifstream in(path);
  std::string line;
  std::getline(in, line);
  return line;
}

std::optional<int> parse_processor(std::string_view text) {
  int value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < 0 || value >= kMaxProcessors) return std::nullopt;
  return value;
}

// First and last processor of each range; empty when the text is not a list.
std::vector<std::pair<int, int>> parse_cpu_list(std::string_view list) {
  std::vector<std::pair<int, int>> ranges;
  int before = -1;
  while (true) {
    const size_t comma = list.find(',');
    const std::string_view range = list.substr(0, comma);
    const size_t dash = range.find('-');
    const auto first = parse_processor(range.substr(0, dash));
    const auto last = dash == std::string_view::npos ? first : parse_processor(range.substr(dash + 1));
    if (!first || !last || *first <= before || *last < *first) return {};
    ranges.emplace_back(*first, *last);
    before = *last;
    if (comma == std::string_view::npos) return ranges;
    list.remove_prefix(comma + 1);
  }
}

}  // namespace

std::optional<int> count_cpu_list(const std::string& list) {
  int count = 0;
  for (const auto& [first, last] : parse_cpu_list(list)) count += last - first + 1;
  if (count == 0) return std::nullopt;
  return count;
}

std::optional<int> physical_core_count(const std::string& root) {
  const std::string cpus = root + "/sys/devices/system/cpu/";
  const std::string online = first_line(cpus + "online");
  std::set<std::string> cores;
  for (const auto& [first, last] : parse_cpu_list(online)) {
    for (int cpu = first; cpu <= last; ++cpu) {
      std::string siblings = first_line(cpus + "cpu" + std::to_string(cpu) + "/topology/thread_siblings_list");
      if (siblings.empty()) return count_cpu_list(online);
      cores.insert(std::move(siblings));
    }
  }
  if (cores.empty()) return std::nullopt;
  return static_cast<int>(cores.size());
}

}  // namespace wick
