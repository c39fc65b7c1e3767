#include "wick/apps/json_output.h"

#include "wick/apps/terminal.h"
#include "wick/apps/values.h"
#include "wick/base/error.h"

namespace wick::apps {

void print_json(const Json& value) { write_output(value.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n"); }

Json parse_json(const std::string& text, int max_depth, const std::string& source) {
  const auto limit = [&](int depth, Json::parse_event_t, Json&) {
    if (depth > max_depth) fail(ErrorCode::kInvalidFile, source, ": more than ", max_depth, " nested levels");
    return true;
  };
  try {
    return Json::parse(text, limit);
  } catch (const Json::exception& error) {
    fail(ErrorCode::kInvalidFile, source, " is not JSON: ", shown(error.what(), 200));
  }
}

}  // namespace wick::apps
