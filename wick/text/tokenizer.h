// Text to token ids and back.
//
// Made from plain values, not from a file: formats reads, engine connects. Immutable after construction and safe to share between threads.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace wick {

enum class TokenKind : uint8_t { kNormal = 1, kUnknown = 2, kControl = 3, kUserDefined = 4, kUnused = 5, kByte = 6 };

struct TokenizerConfig {
  std::string model;          // "gpt2": byte-level BPE
  std::string pre_tokenizer;  // "smollm", "gpt-2", "llama-bpe", "qwen2", …
  std::vector<std::string> tokens;  // in the vocabulary's own spelling (byte-level characters for gpt2)
  std::vector<TokenKind> kinds;     // one per token
  std::vector<std::string> merges;  // "left right", best first
  int32_t bos = -1, eos = -1, unknown = -1;  // -1: none
  std::vector<int32_t> end_of_generation;    // every id that ends an answer (eos, <|im_end|>, <|eot_id|>, …)
  bool add_bos = false, add_eos = false, add_space_prefix = false;
};

struct EncodeOptions {
  bool add_special = true;     // the BOS/EOS that the model asks for
  bool parse_special = false;  // "<|im_start|>" in the text becomes that token instead of its letters
};

class Tokenizer {
 public:
  virtual ~Tokenizer() = default;
  virtual int32_t vocab_size() const = 0;
  // Any bytes are accepted: invalid UTF-8 is tokenized byte by byte and decodes to the same bytes.
  // Linear time in the input. Error(kLimitExceeded) when the pattern matcher gives up.
  virtual std::vector<int32_t> encode(std::string_view text, const EncodeOptions& options = {}) const = 0;
  // The exact bytes of the ids, joined. Control tokens are written only when `render_special`. Error(kInvalidArgument) for an id outside the vocabulary.
  virtual std::string decode(const std::vector<int32_t>& ids, bool render_special = true) const = 0;
  // The bytes that one token stands for (control tokens: their name). Valid as long as the tokenizer. Error as decode.
  virtual std::string_view piece(int32_t id) const = 0;
  virtual TokenKind kind(int32_t id) const = 0;
  virtual bool ends_generation(int32_t id) const = 0;
  virtual int32_t bos() const = 0;
  virtual int32_t eos() const = 0;
};

// Throws Error(kUnsupported) for a model or pre-tokenizer that wick does not know (naming those it does), Error(kInvalidFile) for a
// vocabulary that contradicts itself: sizes, merges of unknown tokens, special ids out of range.
std::unique_ptr<Tokenizer> make_tokenizer(TokenizerConfig config);

// Turns a stream of tokens into text that is valid UTF-8 at every step: an incomplete character at the end is held back until the
// rest comes; a sequence that can no longer become valid is replaced by U+FFFD.
class StreamDecoder {
 public:
  // With `tokenizer` alive as long as the decoder.
  explicit StreamDecoder(const Tokenizer& tokenizer, bool render_special = false);
  void push(int32_t id, std::string& out);  // appends the text that became certain
  void finish(std::string& out);            // appends what is held back, incomplete characters replaced

 private:
  const Tokenizer* tokenizer_;
  bool render_special_;
  std::string pending_;
};

}  // namespace wick
