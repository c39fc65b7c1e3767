#include "wick/text/bpe_tokenizer.h"

#include <array>

#include "wick/base/error.h"
#include "wick/text/byte_level.h"

namespace wick {
namespace {

// Control and user-defined tokens are spelled as they are, the others in the byte-level alphabet.
bool is_spelled_plainly(TokenKind kind) { return kind == TokenKind::kControl || kind == TokenKind::kUserDefined; }

StringIndex index_of(const std::vector<std::string>& tokens) {
  StringIndex index(tokens.size());
  for (size_t i = 0; i < tokens.size(); ++i) index.insert(tokens[i], static_cast<int32_t>(i));
  return index;
}

std::vector<Bpe::Merge> resolve_merges(const std::vector<std::string>& merges, const StringIndex& tokens) {
  std::vector<Bpe::Merge> resolved;
  resolved.reserve(merges.size());
  std::string joined;
  for (size_t i = 0; i < merges.size(); ++i) {
    const std::string_view merge = merges[i];
    const size_t space = merge.find(' ');
    if (space == 0 || space >= merge.size() - 1 || merge.empty()) {
      fail(ErrorCode::kInvalidFile, "tokenizer: merge ", i, " is \"", merge, "\", expected two tokens with a space between");
    }
    const std::string_view left = merge.substr(0, space);
    const std::string_view right = merge.substr(space + 1);
    joined.assign(left).append(right);
    const Bpe::Merge ids{tokens.find(left), tokens.find(right), tokens.find(joined)};
    if (ids.left < 0 || ids.right < 0 || ids.merged < 0) {
      fail(ErrorCode::kInvalidFile, "tokenizer: merge ", i, " is \"", merge, "\", but \"", ids.left < 0 ? left : ids.right < 0 ? right : joined,
           "\" is not a token");
    }
    resolved.push_back(ids);
  }
  return resolved;
}

Bpe make_bpe(const TokenizerConfig& config) {
  const StringIndex tokens = index_of(config.tokens);
  std::array<int32_t, 256> byte_ids;
  for (size_t byte = 0; byte < byte_ids.size(); ++byte) {
    const int32_t id = tokens.find(spell_byte(static_cast<uint8_t>(byte)));
    byte_ids[byte] = id >= 0 ? id : config.unknown;
  }
  return Bpe(resolve_merges(config.merges, tokens), byte_ids);
}

}  // namespace

BpeTokenizer::BpeTokenizer(const TokenizerConfig& config)
    : kinds_(config.kinds),
      ends_generation_(config.tokens.size()),
      bos_(config.bos),
      eos_(config.eos),
      add_bos_(config.add_bos),
      add_eos_(config.add_eos),
      pre_tokenizer_(config.pre_tokenizer),
      special_(config.tokens, config.kinds),
      bpe_(make_bpe(config)) {
  for (const int32_t id : config.end_of_generation) ends_generation_[static_cast<size_t>(id)] = true;
  offsets_.reserve(config.tokens.size() + 1);
  offsets_.push_back(0);
  for (size_t i = 0; i < config.tokens.size(); ++i) {
    if (is_spelled_plainly(kinds_[i])) {
      bytes_ += config.tokens[i];
    } else {
      append_spelled_bytes(config.tokens[i], bytes_);
    }
    offsets_.push_back(bytes_.size());
  }
  if (!pre_tokenizer_.whole_words_first()) return;
  words_.emplace(kinds_.size());
  for (size_t i = 0; i < kinds_.size(); ++i) {
    if (kinds_[i] == TokenKind::kNormal) words_->insert(piece_at(i), static_cast<int32_t>(i));
  }
}

size_t BpeTokenizer::checked(int32_t id) const {
  require(id >= 0 && id < vocab_size(), "tokenizer: id ", id, " is not in the vocabulary of ", vocab_size());
  return static_cast<size_t>(id);
}

std::string_view BpeTokenizer::piece_at(size_t index) const {
  return std::string_view(bytes_).substr(offsets_[index], offsets_[index + 1] - offsets_[index]);
}

std::string_view BpeTokenizer::piece(int32_t id) const { return piece_at(checked(id)); }
TokenKind BpeTokenizer::kind(int32_t id) const { return kinds_[checked(id)]; }
bool BpeTokenizer::ends_generation(int32_t id) const { return ends_generation_[checked(id)]; }

std::vector<int32_t> BpeTokenizer::encode(std::string_view text, const EncodeOptions& options) const {
  std::vector<int32_t> ids;
  Bpe::Scratch scratch;
  if (options.add_special && add_bos_) ids.push_back(bos_);
  size_t at = 0;
  while (const auto match = special_.find(text, at, options.parse_special)) {
    encode_plain(text.substr(at, match->begin - at), scratch, ids);
    ids.push_back(match->id);
    at = match->begin + match->length;
  }
  encode_plain(text.substr(at), scratch, ids);
  if (options.add_special && add_eos_) ids.push_back(eos_);
  return ids;
}

void BpeTokenizer::encode_plain(std::string_view text, Bpe::Scratch& scratch, std::vector<int32_t>& ids) const {
  if (text.empty()) return;
  pre_tokenizer_.split(text, [&](std::string_view word) {
    const int32_t whole = words_ ? words_->find(word) : -1;
    if (whole >= 0) {
      ids.push_back(whole);
    } else {
      bpe_.encode(word, scratch, ids);
    }
  });
}

std::string BpeTokenizer::decode(const std::vector<int32_t>& ids, bool render_special) const {
  std::string text;
  for (const int32_t id : ids) {
    const size_t index = checked(id);
    if (render_special || kinds_[index] != TokenKind::kControl) text += piece_at(index);
  }
  return text;
}

}  // namespace wick
