// The tokenizer of byte-level BPE vocabularies ("gpt2" in model files).
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "wick/text/bpe.h"
#include "wick/text/pre_tokenizer.h"
#include "wick/text/special_tokens.h"
#include "wick/text/string_index.h"
#include "wick/text/tokenizer.h"

namespace wick {

// A byte without a token of its own becomes the unknown token; where there is none, encode() throws Error(kInvalidArgument).
// add_space_prefix has no meaning for this kind of vocabulary and is ignored.
class BpeTokenizer final : public Tokenizer {
 public:
  // Errors as make_tokenizer.
  explicit BpeTokenizer(const TokenizerConfig& config);

  int32_t vocab_size() const override { return static_cast<int32_t>(kinds_.size()); }
  std::vector<int32_t> encode(std::string_view text, const EncodeOptions& options) const override;
  std::string decode(const std::vector<int32_t>& ids, bool render_special) const override;
  std::string_view piece(int32_t id) const override;
  TokenKind kind(int32_t id) const override;
  bool ends_generation(int32_t id) const override;
  int32_t bos() const override { return bos_; }
  int32_t eos() const override { return eos_; }

 private:
  size_t checked(int32_t id) const;  // as an index, or Error(kInvalidArgument)
  std::string_view piece_at(size_t index) const;
  void encode_plain(std::string_view text, Bpe::Scratch& scratch, std::vector<int32_t>& ids) const;

  std::string bytes_;            // what the tokens stand for, one after the other
  std::vector<size_t> offsets_;  // of each token in bytes_, and the end
  std::vector<TokenKind> kinds_;
  std::vector<bool> ends_generation_;
  int32_t bos_, eos_;
  bool add_bos_, add_eos_;
  PreTokenizer pre_tokenizer_;
  SpecialTokens special_;
  Bpe bpe_;
  std::optional<StringIndex> words_;  // piece → id of normal tokens, when the pre-tokenizer asks for whole words
};

}  // namespace wick
