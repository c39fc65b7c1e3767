// Finds the tokens that text may spell out, "<|im_start|>", in one pass over the text.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "wick/text/pair_table.h"
#include "wick/text/tokenizer.h"

namespace wick {

class SpecialTokens {
 public:
  // Longer spellings are refused with Error(kUnsupported): the bound is what keeps the search linear whatever the vocabulary.
  static constexpr size_t kMaxLength = 256;

  struct Match {
    size_t begin;
    size_t length;
    int32_t id;
  };

  // Of a vocabulary, the tokens of kinds kControl and kUserDefined with a spelling. The first of two that are spelled alike counts.
  SpecialTokens(const std::vector<std::string>& tokens, const std::vector<TokenKind>& kinds);

  // The first match at or after byte `from`, the longest of those that begin there. User-defined tokens always count, control tokens
  // only with `control`.
  std::optional<Match> find(std::string_view text, size_t from, bool control) const;

 private:
  struct Node {
    int32_t id = -1;  // of the token that ends here
    bool control = false;
  };

  void insert(std::string_view spelling, int32_t id, bool control);
  std::optional<Match> longest_at(std::string_view text, size_t begin, bool control) const;

  PairTable edges_;  // (node, byte) → node: a trie
  std::vector<Node> nodes_{1};
  std::array<bool, 256> first_bytes_{};
};

}  // namespace wick
