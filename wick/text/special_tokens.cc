#include "wick/text/special_tokens.h"

namespace wick {

void SpecialTokens::add(std::string_view text, int32_t id) {
  if (text.empty()) return;
  int32_t node = 0;
  for (const char c : text) {
    const auto [it, added] = edges_.emplace(edge(node, c), static_cast<int32_t>(ids_.size()));
    if (added) ids_.push_back(-1);
    node = it->second;
  }
  if (ids_[static_cast<size_t>(node)] < 0) ids_[static_cast<size_t>(node)] = id;
}

std::optional<SpecialTokens::Match> SpecialTokens::match(std::string_view text) const {
  std::optional<Match> best;
  int32_t node = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    const auto it = edges_.find(edge(node, text[i]));
    if (it == edges_.end()) break;
    node = it->second;
    if (const int32_t id = ids_[static_cast<size_t>(node)]; id >= 0) best = Match{id, i + 1};
  }
  return best;
}

}  // namespace wick
