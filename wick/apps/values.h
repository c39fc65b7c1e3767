// Text from a flag or the environment to a value: all of it or an Error(kInvalidArgument) that shows the text and what was expected.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace wick::apps {

int64_t parse_integer(std::string_view text, int64_t min, int64_t max);
uint64_t parse_unsigned(std::string_view text);                     // any 64-bit value
double parse_number(std::string_view text, double min, double max);  // finite
bool parse_switch(std::string_view text);                           // 1 true yes on, 0 false no off
std::vector<int32_t> parse_ids(std::string_view text);              // "1, 2,3": at least one

// `text` for a message: control characters and bytes that are not UTF-8 as \n, \t or \x1b; cut, with an ellipsis, after at most max_bytes.
std::string shown(std::string_view text, size_t max_bytes = 80);
bool is_control(char32_t code_point);  // those of ASCII and of Latin-1, which terminals obey too

}  // namespace wick::apps
