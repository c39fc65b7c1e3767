// A text given as -p TEXT, -f FILE or on standard input.
#pragma once

#include <optional>
#include <string>

#include "wick/apps/flags.h"

namespace wick::apps {

inline constexpr uint64_t kMaxTextBytes = uint64_t{256} << 20;

class TextInput {
 public:
  void declare(Flags& flags);
  bool given(const Flags& flags) const;      // by a flag of the command line
  bool any() const { return text_ || file_; }
  bool from_file() const { return !text_; }  // or from standard input
  // Exact bytes. Without a flag from standard input, unless that is a terminal: then Error(kInvalidArgument).
  // Error(kNotFound | kIo | kLimitExceeded) for the file.
  std::string read() const;

 private:
  std::optional<std::string> text_, file_;
};

}  // namespace wick::apps
