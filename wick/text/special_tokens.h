// Finds special tokens in text: the longest one at each position, through a trie, in one pass.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace wick {

class SpecialTokens {
 public:
  void add(std::string_view text, int32_t id);  // the first id of a text counts; empty texts are ignored

  struct Match {
    int32_t id;
    size_t length;
  };
  // The longest token that `text` begins with.
  std::optional<Match> match(std::string_view text) const;
  bool empty() const { return ids_.size() <= 1; }

 private:
  static uint64_t edge(int32_t node, char c) { return static_cast<uint64_t>(node) << 8 | static_cast<uint8_t>(c); }
  std::unordered_map<uint64_t, int32_t> edges_;
  std::vector<int32_t> ids_ = {-1};  // per node: the token that ends there
};

}  // namespace wick
