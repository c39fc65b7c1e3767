#include "wick/apps/values.h"

#include <charconv>
#include <cmath>
#include <limits>

#include "wick/base/error.h"
#include "wick/text/utf8.h"

namespace wick::apps {
namespace {

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && text.front() == ' ') text.remove_prefix(1);
  while (!text.empty() && text.back() == ' ') text.remove_suffix(1);
  return text;
}

// The whole of `text` as a number; the error tells "no number" from "too large".
template <class T>
T parse_all(std::string_view text, const char* kind) {
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  const bool whole = end == text.data() + text.size() && !text.empty();
  if (whole && error == std::errc()) return value;
  require(!(whole && error == std::errc::result_out_of_range), "'", shown(text), "' is too large or too small for ", kind);
  fail(ErrorCode::kInvalidArgument, "'", shown(text), "' is not ", kind);
}

}  // namespace

int64_t parse_integer(std::string_view text, int64_t min, int64_t max) {
  const int64_t value = parse_all<int64_t>(text, "a whole number");
  if (max == std::numeric_limits<int64_t>::max()) {
    require(value >= min, value, " is out of range, expected ", min, " or more");
  } else {
    require(value >= min && value <= max, value, " is out of range, expected ", min, " to ", max);
  }
  return value;
}

uint64_t parse_unsigned(std::string_view text) { return parse_all<uint64_t>(text, "a whole number from 0 to 2^64 - 1"); }

double parse_number(std::string_view text, double min, double max) {
  const double value = parse_all<double>(text, "a number");
  require(std::isfinite(value) && value >= min && value <= max, shown(text), " is out of range, expected ", min, " to ", max);
  return value;
}

bool parse_switch(std::string_view text) {
  for (const char* yes : {"1", "true", "yes", "on"}) {
    if (text == yes) return true;
  }
  for (const char* no : {"0", "false", "no", "off"}) {
    if (text == no) return false;
  }
  fail(ErrorCode::kInvalidArgument, "'", shown(text), "' is neither true nor false");
}

std::vector<int32_t> parse_ids(std::string_view text) {
  std::vector<int32_t> ids;
  while (true) {
    const size_t comma = text.find(',');
    const std::string_view item = trimmed(text.substr(0, comma));
    ids.push_back(static_cast<int32_t>(parse_integer(item, 0, std::numeric_limits<int32_t>::max())));
    if (comma == std::string_view::npos) return ids;
    text.remove_prefix(comma + 1);
  }
}

std::string shown(std::string_view text, size_t max_bytes) {
  static const char* const kHex = "0123456789abcdef";
  std::string out;
  for (size_t at = 0; at < text.size();) {
    const Utf8Char character = next_utf8(text, at);
    if (at + character.length > max_bytes) return out + "…";
    const std::string_view bytes = text.substr(at, character.length);
    at += character.length;
    if (bytes == "\n") {
      out += "\\n";
    } else if (bytes == "\t") {
      out += "\\t";
    } else if (character.status == Utf8Status::kValid && !is_control(character.code_point)) {
      out += bytes;
    } else {
      for (const char c : bytes) (out += "\\x").append({kHex[static_cast<unsigned char>(c) >> 4], kHex[static_cast<unsigned char>(c) & 15]});
    }
  }
  return out;
}

bool is_control(char32_t code_point) { return code_point < 0x20 || (code_point >= 0x7f && code_point < 0xa0); }

}  // namespace wick::apps
