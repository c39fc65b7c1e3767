// Results for programs: one JSON object on standard output.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

namespace wick::apps {

using Json = nlohmann::ordered_json;

// Writes `value` and a newline; bytes that are not UTF-8 become U+FFFD. Throws OutputError.
void print_json(const Json& value);

// Parses JSON of at most `max_depth` nested arrays and objects. Error(kInvalidFile) naming `source`.
Json parse_json(const std::string& text, int max_depth, const std::string& source);

}  // namespace wick::apps
