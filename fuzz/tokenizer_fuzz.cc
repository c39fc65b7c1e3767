// Fuzz target: any vocabulary, merges and text. Making a tokenizer works or throws Error; one that was made gives every text back, in whole
// and streamed, when it has a token for each byte.
//
// Input: a byte of flags, then lines: "t TOKEN", "c CONTROL", "u USER DEFINED", "m MERGE"; after an empty line the text, to the end.
#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

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

Case read_case(std::string_view input) {
  Case result;
  const auto flags = static_cast<uint8_t>(input[0]);
  input.remove_prefix(1);
  result.config.model = "gpt2";
  result.config.pre_tokenizer = kKinds[flags & 3];
  result.whole_alphabet = flags & 4;
  if (result.whole_alphabet) {
    for (int byte = 0; byte < 256; ++byte) add(result.config, wick::spell_byte(static_cast<uint8_t>(byte)), wick::TokenKind::kNormal);
  }
  while (!input.empty() && input[0] != '\n') {
    const size_t end = std::min(input.find('\n'), input.size());
    const std::string value(input.substr(std::min<size_t>(2, end), end - std::min<size_t>(2, end)));
    switch (input[0]) {
      case 't': add(result.config, value, wick::TokenKind::kNormal); break;
      case 'c': add(result.config, value, wick::TokenKind::kControl); break;
      case 'u': add(result.config, value, wick::TokenKind::kUserDefined); break;
      case 'm': result.config.merges.push_back(value); break;
      default: break;
    }
    input.remove_prefix(std::min(end + 1, input.size()));
  }
  if (flags & 8) result.config.bos = static_cast<int32_t>(flags >> 4);
  if (flags & 16) result.config.unknown = 0;
  result.config.add_bos = flags & 32;
  result.text = input.empty() ? input : input.substr(1);
  return result;
}

void check(const Case& c, const wick::Tokenizer& tokenizer, bool parse_special) {
  const std::vector<int32_t> ids = tokenizer.encode(c.text, {.add_special = false, .parse_special = parse_special});
  if (c.whole_alphabet && tokenizer.decode(ids) != c.text) __builtin_trap();
  wick::StreamDecoder decoder(tokenizer, true);
  std::string streamed;
  for (const int32_t id : ids) decoder.push(id, streamed);
  decoder.finish(streamed);
  if (wick::valid_utf8_prefix(streamed) != streamed.size()) __builtin_trap();
  if (c.whole_alphabet && wick::valid_utf8_prefix(c.text) == c.text.size() && streamed != c.text) __builtin_trap();
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
    check(c, *tokenizer, false);
    check(c, *tokenizer, true);
  } catch (const wick::Error&) {
    // With a token for every byte no text is refused.
    if (tokenizer && c.whole_alphabet) __builtin_trap();
  }
  return 0;
}
