#include "wick/engine/stop_filter.h"

#include <algorithm>

namespace wick {

StopFilter::StopFilter(std::vector<std::string> stops) : stops_(std::move(stops)) {
  stops_.erase(std::remove(stops_.begin(), stops_.end(), std::string()), stops_.end());
  size_t longest = 0;
  for (const std::string& stop : stops_) longest = std::max(longest, stop.size());
  held_.reserve(longest + 256);
}

bool StopFilter::push(std::string_view piece, std::string& out) {
  if (stops_.empty()) {
    out.append(piece);
    return false;
  }
  held_.append(piece);
  size_t first = std::string::npos;
  for (const std::string& stop : stops_) first = std::min(first, held_.find(stop));
  if (first != std::string::npos) {
    out.append(held_, 0, first);
    held_.clear();
    return true;
  }
  // The longest suffix that begins some stop string stays.
  size_t keep = 0;
  for (const std::string& stop : stops_) {
    for (size_t length = std::min(stop.size() - 1, held_.size()); length > keep; --length) {
      if (held_.compare(held_.size() - length, length, stop, 0, length) == 0) {
        keep = length;
        break;
      }
    }
  }
  out.append(held_, 0, held_.size() - keep);
  held_.erase(0, held_.size() - keep);
  return false;
}

void StopFilter::finish(std::string& out) {
  out.append(held_);
  held_.clear();
}

}  // namespace wick
