#include "wick/text/bpe_tokenizer.h"

#include <algorithm>
#include <array>
#include <unordered_map>

#include "wick/base/error.h"
#include "wick/text/bpe.h"
#include "wick/text/pre_tokenizer.h"
#include "wick/text/special_tokens.h"
#include "wick/text/utf8.h"

namespace wick {
namespace {

// Byte-level vocabularies spell each byte as a printable character: the printable ones of Latin-1 as themselves, the other 68 as
// U+0100, U+0101, … in order.
bool spells_itself(int byte) { return (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae; }

std::array<std::string, 256> byte_spellings() {
  std::array<std::string, 256> spellings;
  char32_t next = 0x100;
  for (int byte = 0; byte < 256; ++byte) append_utf8(spells_itself(byte) ? static_cast<char32_t>(byte) : next++, spellings[static_cast<size_t>(byte)]);
  return spellings;
}

std::string shown(std::string_view text) { return utf8_replace_invalid(text.substr(0, 64)); }

class BpeTokenizer final : public Tokenizer {
 public:
  explicit BpeTokenizer(TokenizerConfig config)
      : config_(std::move(config)), pre_tokenizer_(config_.pre_tokenizer), merges_(config_.merges.size()) {
    check_ids();
    ids_.reserve(config_.tokens.size());
    for (size_t i = 0; i < config_.tokens.size(); ++i) ids_.emplace(config_.tokens[i], static_cast<int32_t>(i));
    const std::array<std::string, 256> spellings = byte_spellings();
    for (size_t byte = 0; byte < 256; ++byte) {
      const auto it = ids_.find(spellings[byte]);
      byte_ids_[byte] = it == ids_.end() ? config_.unknown : it->second;
      if (byte_ids_[byte] < 0) fail(ErrorCode::kInvalidFile, "the vocabulary has no token for byte ", byte, " and no unknown token");
    }
    add_merges();
    spell_pieces(spellings);
    ends_.assign(config_.tokens.size(), false);
    for (const int32_t id : config_.end_of_generation) ends_[static_cast<size_t>(id)] = true;
  }

  int32_t vocab_size() const override { return static_cast<int32_t>(config_.tokens.size()); }
  int32_t bos() const override { return config_.bos; }
  int32_t eos() const override { return config_.eos; }
  TokenKind kind(int32_t id) const override { return config_.kinds[index(id)]; }
  bool ends_generation(int32_t id) const override { return ends_[index(id)]; }
  std::string_view piece(int32_t id) const override { return pieces_[index(id)]; }

  std::string decode(const std::vector<int32_t>& ids, bool render_special) const override {
    std::string text;
    for (const int32_t id : ids) {
      if (render_special || kind(id) != TokenKind::kControl) text += piece(id);
    }
    return text;
  }

  std::vector<int32_t> encode(std::string_view text, const EncodeOptions& options) const override {
    std::vector<int32_t> ids;
    if (options.add_special && config_.add_bos && config_.bos >= 0) ids.push_back(config_.bos);
    const SpecialTokens& special = options.parse_special ? all_special_ : user_defined_;
    BpeMerger merger(merges_);
    size_t begin = 0;
    for (size_t at = 0; at < text.size() && !special.empty();) {
      const auto match = special.match(text.substr(at));
      if (!match) {
        ++at;
        continue;
      }
      encode_plain(text.substr(begin, at - begin), merger, ids);
      ids.push_back(match->id);
      at += match->length;
      begin = at;
    }
    encode_plain(text.substr(begin), merger, ids);
    if (options.add_special && config_.add_eos && config_.eos >= 0) ids.push_back(config_.eos);
    return ids;
  }

 private:
  size_t index(int32_t id) const {
    require(id >= 0 && id < vocab_size(), "token id ", id, " is outside the vocabulary of ", vocab_size());
    return static_cast<size_t>(id);
  }

  void check_ids() const {
    const size_t count = config_.tokens.size();
    if (count == 0 || count > static_cast<size_t>(INT32_MAX)) fail(ErrorCode::kInvalidFile, "the vocabulary has ", count, " tokens");
    if (config_.kinds.size() != count) fail(ErrorCode::kInvalidFile, "the vocabulary has ", count, " tokens and ", config_.kinds.size(), " token kinds");
    const auto check = [&](const char* name, int32_t id) {
      if (id < -1 || id >= static_cast<int64_t>(count)) fail(ErrorCode::kInvalidFile, name, " token ", id, " is outside the vocabulary of ", count);
    };
    check("beginning-of-sequence", config_.bos);
    check("end-of-sequence", config_.eos);
    check("unknown", config_.unknown);
    for (const int32_t id : config_.end_of_generation) check("end-of-generation", id < 0 ? -2 : id);
  }

  void add_merges() {
    std::string joined;
    for (size_t rank = 0; rank < config_.merges.size(); ++rank) {
      const std::string_view merge = config_.merges[rank];
      const size_t space = merge.find(' ', 1);  // a token may begin with a space only in vocabularies that are not byte-level
      if (space == std::string_view::npos || space + 1 == merge.size()) {
        fail(ErrorCode::kInvalidFile, "merge ", rank, ", '", shown(merge), "', is not a pair of tokens");
      }
      joined.assign(merge.substr(0, space));
      joined += merge.substr(space + 1);
      const auto left = ids_.find(merge.substr(0, space));
      const auto right = ids_.find(merge.substr(space + 1));
      const auto token = ids_.find(joined);
      if (left == ids_.end() || right == ids_.end() || token == ids_.end()) {
        fail(ErrorCode::kInvalidFile, "merge ", rank, ", '", shown(merge), "', names a token that is not in the vocabulary");
      }
      merges_.add(left->second, right->second, {static_cast<int32_t>(rank), token->second});
    }
    config_.merges = {};
  }

  // The bytes of every token, and which tokens are recognised in text.
  void spell_pieces(const std::array<std::string, 256>& spellings) {
    std::unordered_map<std::string_view, char> bytes;
    for (size_t byte = 0; byte < 256; ++byte) bytes.emplace(spellings[byte], static_cast<char>(byte));
    pieces_.reserve(config_.tokens.size());
    for (size_t i = 0; i < config_.tokens.size(); ++i) {
      const std::string& token = config_.tokens[i];
      const TokenKind kind = config_.kinds[i];
      if (kind == TokenKind::kControl || kind == TokenKind::kUserDefined) {
        pieces_.push_back(token);
        all_special_.add(token, static_cast<int32_t>(i));
        if (kind == TokenKind::kUserDefined) user_defined_.add(token, static_cast<int32_t>(i));
      } else {
        pieces_.push_back(unspell(token, bytes));
      }
    }
  }

  // Characters that spell a byte become it; what spells none stays as it is.
  static std::string unspell(std::string_view token, const std::unordered_map<std::string_view, char>& bytes) {
    std::string piece;
    while (!token.empty()) {
      const std::string_view character = token.substr(0, utf8_step(token).length);
      const auto it = bytes.find(character);
      if (it == bytes.end()) {
        piece += character;
      } else {
        piece += it->second;
      }
      token.remove_prefix(character.size());
    }
    return piece;
  }

  void encode_plain(std::string_view text, BpeMerger& merger, std::vector<int32_t>& ids) const {
    if (text.empty()) return;
    std::vector<int32_t> symbols;
    pre_tokenizer_.split(text, [&](std::string_view word) {
      if (pre_tokenizer_.ignores_merges()) {
        if (const int32_t whole = whole_word(word); whole >= 0) {
          ids.push_back(whole);
          return;
        }
      }
      symbols.clear();
      for (const char c : word) symbols.push_back(byte_ids_[static_cast<uint8_t>(c)]);
      merger.merge(symbols, ids);
    });
  }

  // The normal token with exactly these bytes, or -1.
  int32_t whole_word(std::string_view word) const {
    static const std::array<std::string, 256> spellings = byte_spellings();
    constexpr size_t kLongest = 256;  // no vocabulary has longer ones
    if (word.size() > kLongest) return -1;
    std::string spelled;
    for (const char c : word) spelled += spellings[static_cast<uint8_t>(c)];
    const auto it = ids_.find(spelled);
    return it != ids_.end() && config_.kinds[static_cast<size_t>(it->second)] == TokenKind::kNormal ? it->second : -1;
  }

  TokenizerConfig config_;
  PreTokenizer pre_tokenizer_;
  MergeTable merges_;
  std::unordered_map<std::string_view, int32_t> ids_;  // of the vocabulary's own spellings, which config_ holds
  std::array<int32_t, 256> byte_ids_{};
  std::vector<std::string> pieces_;
  std::vector<bool> ends_;
  SpecialTokens all_special_;
  SpecialTokens user_defined_;
};

}  // namespace

std::unique_ptr<Tokenizer> make_bpe_tokenizer(TokenizerConfig config) { return std::make_unique<BpeTokenizer>(std::move(config)); }

}  // namespace wick
