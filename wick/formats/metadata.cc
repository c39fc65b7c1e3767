#include "wick/formats/metadata.h"

#include <cmath>
#include <limits>

#include "wick/base/error.h"
#include "wick/formats/printable.h"

namespace wick {
namespace {

constexpr uint64_t kMaxSigned = static_cast<uint64_t>(std::numeric_limits<int64_t>::max());

const char* kind_name(const MetadataValue& value) {
  constexpr const char* kNames[] = {"a bool",
                                    "an integer",
                                    "an integer",
                                    "a floating number",
                                    "a string",
                                    "an array of bools",
                                    "an array of integers",
                                    "an array of integers",
                                    "an array of floating numbers",
                                    "an array of strings"};
  return kNames[value.index()];
}

template <class... Parts>
[[noreturn]] void refuse(std::string_view key, const Parts&... parts) {
  fail(ErrorCode::kInvalidFile, "key '", printable(key), "' ", parts...);
}

[[noreturn]] void refuse_type(std::string_view key, const MetadataValue& value, const std::string& expected) {
  refuse(key, "is ", kind_name(value), ", expected ", expected);
}

double finite(std::string_view key, double number) {
  if (!std::isfinite(number)) refuse(key, "holds ", number, ", expected a finite number");
  return number;
}

// The value if it has type T, null when the key is missing, else an Error.
template <class T>
const T* find_as(const Metadata& metadata, std::string_view key, const char* expected) {
  const MetadataValue* value = metadata.find(key);
  if (value == nullptr) return nullptr;
  if (const T* typed = std::get_if<T>(value)) return typed;
  refuse_type(key, *value, expected);
}

}  // namespace

bool Metadata::contains(std::string_view key) const { return values_.find(key) != values_.end(); }

bool Metadata::insert(std::string key, MetadataValue value) { return values_.emplace(std::move(key), std::move(value)).second; }

const MetadataValue* Metadata::find(std::string_view key) const {
  const auto it = values_.find(key);
  return it == values_.end() ? nullptr : &it->second;
}

std::optional<int64_t> Metadata::find_integer(std::string_view key, int64_t min, int64_t max) const {
  const MetadataValue* value = find(key);
  if (value == nullptr) return std::nullopt;
  const auto in_range = [&](auto found, bool fits) {
    if (!fits || static_cast<int64_t>(found) < min || static_cast<int64_t>(found) > max) {
      refuse(key, "is ", found, ", expected an integer from ", min, " to ", max);
    }
    return static_cast<int64_t>(found);
  };
  if (const auto* number = std::get_if<uint64_t>(value)) return in_range(*number, *number <= kMaxSigned);
  if (const auto* number = std::get_if<int64_t>(value)) return in_range(*number, true);
  refuse_type(key, *value, concat("an integer from ", min, " to ", max));
}

int64_t Metadata::integer(std::string_view key, int64_t min, int64_t max) const {
  if (const auto value = find_integer(key, min, max)) return *value;
  refuse(key, "is missing, expected an integer from ", min, " to ", max);
}

std::optional<double> Metadata::find_number(std::string_view key) const {
  const MetadataValue* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (const auto* number = std::get_if<double>(value)) return finite(key, *number);
  if (const auto* number = std::get_if<uint64_t>(value)) return static_cast<double>(*number);
  if (const auto* number = std::get_if<int64_t>(value)) return static_cast<double>(*number);
  refuse_type(key, *value, "a number");
}

std::optional<bool> Metadata::find_bool(std::string_view key) const {
  const bool* flag = find_as<bool>(*this, key, "a bool");
  return flag != nullptr ? std::optional<bool>(*flag) : std::nullopt;
}

const std::string* Metadata::find_string(std::string_view key) const { return find_as<std::string>(*this, key, "a string"); }

const std::string& Metadata::string(std::string_view key) const {
  if (const std::string* text = find_string(key)) return *text;
  refuse(key, "is missing, expected a string");
}

const std::vector<std::string>* Metadata::find_strings(std::string_view key) const {
  return find_as<std::vector<std::string>>(*this, key, "an array of strings");
}

std::optional<std::vector<int64_t>> Metadata::find_integers(std::string_view key) const {
  const MetadataValue* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (const auto* integers = std::get_if<std::vector<int64_t>>(value)) return *integers;
  const auto* naturals = std::get_if<std::vector<uint64_t>>(value);
  if (naturals == nullptr) refuse_type(key, *value, "an array of integers");
  std::vector<int64_t> result;
  result.reserve(naturals->size());
  for (const uint64_t element : *naturals) {
    if (element > kMaxSigned) refuse(key, "holds ", element, ", expected integers up to ", kMaxSigned);
    result.push_back(static_cast<int64_t>(element));
  }
  return result;
}

std::optional<std::vector<double>> Metadata::find_numbers(std::string_view key) const {
  const MetadataValue* value = find(key);
  if (value == nullptr) return std::nullopt;
  return std::visit(
      [&](const auto& elements) -> std::vector<double> {
        using T = std::decay_t<decltype(elements)>;
        std::vector<double> result;
        if constexpr (std::is_same_v<T, std::vector<double>> || std::is_same_v<T, std::vector<int64_t>> ||
                      std::is_same_v<T, std::vector<uint64_t>>) {
          result.reserve(elements.size());
          for (const auto element : elements) result.push_back(finite(key, static_cast<double>(element)));
        } else {
          refuse_type(key, *value, "an array of numbers");
        }
        return result;
      },
      *value);
}

}  // namespace wick
