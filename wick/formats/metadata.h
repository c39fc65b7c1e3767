// The key-values of a model file, typed and checked at each use: a key of the wrong type is an Error that names it, not a guess.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace wick {

// Integers keep their value as i64 or u64; an array is homogeneous. Nested arrays do not occur in files that wick accepts.
using MetadataValue = std::variant<bool, int64_t, uint64_t, double, std::string, std::vector<bool>, std::vector<int64_t>,
                                   std::vector<uint64_t>, std::vector<double>, std::vector<std::string>>;

class Metadata {
 public:
  bool contains(std::string_view key) const;
  const std::map<std::string, MetadataValue, std::less<>>& values() const { return values_; }
  const MetadataValue* find(std::string_view key) const;  // null when missing
  bool insert(std::string key, MetadataValue value);      // false when the key is there already; the first value stays

  // Each throws Error(kInvalidFile) naming the key and what was found when the key has another type or lies outside [min, max]. A missing
  // key is an Error too, unless the function returns an optional or a pointer. Integers may be stored signed or unsigned.
  int64_t integer(std::string_view key, int64_t min, int64_t max) const;
  std::optional<int64_t> find_integer(std::string_view key, int64_t min, int64_t max) const;
  std::optional<double> find_number(std::string_view key) const;  // integer or floating, finite
  std::optional<bool> find_bool(std::string_view key) const;
  const std::string& string(std::string_view key) const;
  const std::string* find_string(std::string_view key) const;
  const std::vector<std::string>* find_strings(std::string_view key) const;
  std::optional<std::vector<int64_t>> find_integers(std::string_view key) const;  // any integer array whose elements fit
  std::optional<std::vector<double>> find_numbers(std::string_view key) const;    // any integer or floating array, finite

 private:
  std::map<std::string, MetadataValue, std::less<>> values_;
};

}  // namespace wick
