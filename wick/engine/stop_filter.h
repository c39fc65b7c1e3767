// Ends a text before the first stop string, though it comes in pieces: what may be the beginning of a stop string is held back.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace wick {

class StopFilter {
 public:
  explicit StopFilter(std::vector<std::string> stops);
  // Takes the next piece and appends to `out` what is certain to be shown. True when a stop string was found: the text ends there.
  bool push(std::string_view piece, std::string& out);
  // Appends what is still held back: the text ended without a stop string.
  void finish(std::string& out);

 private:
  std::vector<std::string> stops_;
  std::string held_;
};

}  // namespace wick
