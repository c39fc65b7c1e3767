#include "wick/text/special_tokens.h"

#include <algorithm>

#include "wick/base/error.h"

namespace wick {
namespace {

bool is_special(TokenKind kind) { return kind == TokenKind::kControl || kind == TokenKind::kUserDefined; }

}  // namespace

SpecialTokens::SpecialTokens(const std::vector<std::string>& tokens, const std::vector<TokenKind>& kinds) {
  size_t bytes = 0;
  for (size_t i = 0; i < tokens.size(); ++i) {
    if (!is_special(kinds[i])) continue;
    if (tokens[i].size() > kMaxLength) {
      fail(ErrorCode::kUnsupported, "tokenizer: special token ", i, " has ", tokens[i].size(), " bytes, at most ", kMaxLength, " are supported");
    }
    bytes += tokens[i].size();
  }
  edges_ = PairTable(bytes);
  for (size_t i = 0; i < tokens.size(); ++i) {
    if (is_special(kinds[i]) && !tokens[i].empty()) insert(tokens[i], static_cast<int32_t>(i), kinds[i] == TokenKind::kControl);
  }
}

void SpecialTokens::insert(std::string_view spelling, int32_t id, bool control) {
  first_bytes_[static_cast<uint8_t>(spelling[0])] = true;
  uint32_t node = 0;
  for (const char c : spelling) {
    const auto byte = static_cast<uint8_t>(c);
    uint32_t child = edges_.find(node, byte);
    if (child == PairTable::kMissing) {
      child = static_cast<uint32_t>(nodes_.size());
      nodes_.emplace_back();
      edges_.insert(node, byte, child);
    }
    node = child;
  }
  if (nodes_[node].id < 0) nodes_[node] = {id, control};
}

std::optional<SpecialTokens::Match> SpecialTokens::longest_at(std::string_view text, size_t begin, bool control) const {
  std::optional<Match> best;
  uint32_t node = 0;
  for (size_t at = begin; at < text.size(); ++at) {
    node = edges_.find(node, static_cast<uint8_t>(text[at]));
    if (node == PairTable::kMissing) break;
    const Node& end = nodes_[node];
    if (end.id >= 0 && (control || !end.control)) best = Match{begin, at + 1 - begin, end.id};
  }
  return best;
}

std::optional<SpecialTokens::Match> SpecialTokens::find(std::string_view text, size_t from, bool control) const {
  if (nodes_.size() == 1) return std::nullopt;
  for (size_t begin = from; begin < text.size(); ++begin) {
    if (!first_bytes_[static_cast<uint8_t>(text[begin])]) continue;
    if (auto match = longest_at(text, begin, control)) return match;
  }
  return std::nullopt;
}

}  // namespace wick
