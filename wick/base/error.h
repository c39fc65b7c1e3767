// The one exception of the library, and the helpers that raise it.
//
// Everything a user, a file or a request can cause is reported as an Error: a code for programs and one line for people that names the
// op, tensor or key, with what was expected and what was found. Not for our own bugs: those are asserts.
#pragma once

#include <sstream>
#include <stdexcept>
#include <string>
#include <utility>

namespace wick {

enum class ErrorCode {
  kInvalidArgument,  // the caller's fault: shape, dtype, range, combination
  kNotFound,         // a file or a named thing does not exist
  kInvalidFile,      // a file that cannot be what it claims to be
  kIo,               // the system refused: permission, disk full, short read
  kUnsupported,      // well formed, but not something this build or device can do
  kOutOfMemory,      // memory of host or device
  kLimitExceeded,    // a configured or stated limit: context, queue, budget
  kCancelled,        // the caller asked for it
  kInternal,         // a failure inside the engine that ended one request
};

// "invalid_argument", "not_found", …: stable names for logs and JSON.
const char* error_code_name(ErrorCode code);

class Error : public std::runtime_error {
 public:
  Error(ErrorCode code, const std::string& message) : std::runtime_error(message), code_(code) {}
  ErrorCode code() const { return code_; }

 private:
  ErrorCode code_;
};

// Joins its arguments as operator<< writes them: concat("rope: rank ", 3).
template <class... Parts>
std::string concat(const Parts&... parts) {
  std::ostringstream out;
  out.imbue(std::locale::classic());
  (out << ... << parts);
  return std::move(out).str();
}

template <class... Parts>
[[noreturn]] void fail(ErrorCode code, const Parts&... parts) {
  throw Error(code, concat(parts...));
}

// Throws Error(kInvalidArgument) with the joined parts unless `condition` holds.
template <class... Parts>
void require(bool condition, const Parts&... parts) {
  if (!condition) fail(ErrorCode::kInvalidArgument, parts...);
}

}  // namespace wick
