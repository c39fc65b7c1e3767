// A result that goes into a file. What goes wrong with it is an OutputError, a failure while running, and not a bad input file.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "wick/base/file.h"

namespace wick::apps {

// `path` holds all of the result or is as before. Only a regular file is replaced: not /dev/null.
class OutputFile {
 public:
  explicit OutputFile(const std::string& path);  // also Error(kInvalidArgument) for a name that cannot be one
  void append(std::string_view bytes);
  void commit();  // the last call on this object; without it nothing is left

 private:
  std::optional<AtomicFile> file_;
};

}  // namespace wick::apps
