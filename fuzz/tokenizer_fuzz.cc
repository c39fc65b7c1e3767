// Fuzz target: any vocabulary, merges and text. Making a tokenizer works or throws Error; one that was made gives every text back, in whole
// and streamed, when it has a token for each byte.
//
// Input: a byte of flags, then lines: "t TOKEN", "c CONTROL", "u USER DEFINED", "m MERGE", and special ids of one byte: "b BOS", "e EOS",
// "n UNKNOWN", "g END OF GENERATION"; "k" leaves out the kind of a token. After an empty line the text, to the end.
#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "wick/base/error.h"
#include "wick/text/byte_level.h"
#include "wick/text/chat_template.h"
#include "wick/text/tokenizer.h"
#include "wick/text/utf8.h"

namespace {

constexpr const char* kKinds[] = {"gpt-2", "smollm", "llama-bpe", "qwen2"};

struct Case {
  wick::TokenizerConfig config;
  std::string_view text;
  bool whole_alphabet;
};

void add(wick::TokenizerConfig& config, std::string token, wick::TokenKind kind) {
  config.tokens.push_back(std::move(token));
  config.kinds.push_back(kind);
}

void add_line(wick::TokenizerConfig& config, char what, const std::string& value) {
  const int32_t id = value.empty() ? -1 : static_cast<int8_t>(value[0]) + 127;
  switch (what) {
    case 't': add(config, value, wick::TokenKind::kNormal); break;
    case 'c': add(config, value, wick::TokenKind::kControl); break;
    case 'u': add(config, value, wick::TokenKind::kUserDefined); break;
    case 'm': config.merges.push_back(value); break;
    case 'b': config.bos = id; break;
    case 'e': config.eos = id; break;
    case 'n': config.unknown = id; break;
    case 'g': config.end_of_generation.push_back(id); break;
    case 'k':
      if (!config.kinds.empty()) config.kinds.pop_back();
      break;
    default: break;
  }
}

Case read_case(std::string_view input) {
  Case result;
  const auto flags = static_cast<uint8_t>(input[0]);
  input.remove_prefix(1);
  result.config.model = "gpt2";
  result.config.pre_tokenizer = kKinds[flags & 3];
  result.whole_alphabet = flags & 4;
  result.config.add_bos = flags & 8;
  result.config.add_eos = flags & 16;
  if (result.whole_alphabet) {
    for (int byte = 0; byte < 256; ++byte) add(result.config, wick::spell_byte(static_cast<uint8_t>(byte)), wick::TokenKind::kNormal);
  }
  while (!input.empty() && input[0] != '\n') {
    const size_t end = std::min(input.find('\n'), input.size());
    const size_t begin = std::min<size_t>(2, end);
    add_line(result.config, input[0], std::string(input.substr(begin, end - begin)));
    input.remove_prefix(std::min(end + 1, input.size()));
  }
  result.text = input.empty() ? input : input.substr(1);
  return result;
}

// What a stream must give: `bytes` with U+FFFD for each maximal subpart that is not UTF-8.
std::string replaced(std::string_view bytes) {
  std::string text;
  for (size_t at = 0; at < bytes.size();) {
    const wick::Utf8Char c = wick::next_utf8(bytes, at);
    text += c.status == wick::Utf8Status::kValid ? bytes.substr(at, c.length) : "\xEF\xBF\xBD";
    at += c.length;
  }
  return text;
}

void check_decoding(const wick::Tokenizer& tokenizer, const std::vector<int32_t>& ids, bool render_special) {
  wick::StreamDecoder decoder(tokenizer, render_special);
  std::string streamed;
  for (const int32_t id : ids) {
    decoder.push(id, streamed);
    tokenizer.ends_generation(id);
  }
  decoder.finish(streamed);
  if (streamed != replaced(tokenizer.decode(ids, render_special))) __builtin_trap();
}

void check(const Case& c, const wick::Tokenizer& tokenizer, bool parse_special) {
  const std::vector<int32_t> ids = tokenizer.encode(c.text, {.add_special = false, .parse_special = parse_special});
  if (c.whole_alphabet && tokenizer.decode(ids) != c.text) __builtin_trap();
  check_decoding(tokenizer, ids, true);
  const size_t added = size_t{c.config.add_bos} + size_t{c.config.add_eos};
  if (tokenizer.encode(c.text, {.parse_special = parse_special}).size() != ids.size() + added) __builtin_trap();
}

// Ids that no text leads to.
void check_any_ids(const Case& c, const wick::Tokenizer& tokenizer) {
  std::vector<int32_t> ids;
  for (const char byte : c.text) ids.push_back((tokenizer.vocab_size() - 1) * static_cast<uint8_t>(byte) / 255);
  check_decoding(tokenizer, ids, false);
  check_decoding(tokenizer, ids, true);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const Case c = read_case({reinterpret_cast<const char*>(data), size});
  try {
    wick::make_chat_template(c.text, "<s>", "</s>")->render({{"user", std::string(c.text)}});
  } catch (const wick::Error&) {
  }
  std::unique_ptr<wick::Tokenizer> tokenizer;
  try {
    tokenizer = wick::make_tokenizer(c.config);
    check_any_ids(c, *tokenizer);
    check(c, *tokenizer, false);
    check(c, *tokenizer, true);
  } catch (const wick::Error&) {
    // With a token for every byte no text is refused.
    if (tokenizer && c.whole_alphabet) __builtin_trap();
  }
  return 0;
}
