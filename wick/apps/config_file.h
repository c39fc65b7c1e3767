// The file behind --config: flags by their long names, in a plain subset of TOML. Not a general TOML reader.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace wick::apps {

// `key = value` or `key = [value, …]`, under the last [table] before it.
struct ConfigEntry {
  std::string table;  // empty: before the first [table]
  std::string key;
  std::vector<std::string> values;  // as they would stand on the command line
  bool list = false;
  std::string where;  // "F.toml:3"
};

// Strings ("…" with escapes, '…'), numbers, booleans, arrays of these and comments are understood; nested tables, dates and multi-line
// strings are not. Throws Error(kInvalidFile) that names the line, also for a key that stands twice in a table. Linear in the text.
std::vector<ConfigEntry> parse_config(std::string_view text, const std::string& source);

// Error(kNotFound | kIo | kInvalidFile | kLimitExceeded).
std::vector<ConfigEntry> read_config(const std::string& path);

}  // namespace wick::apps
