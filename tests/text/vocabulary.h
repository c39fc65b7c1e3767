// Vocabularies for tests of tokenizers: the golden one of tests/data/tokenizer, and one of single bytes.
#pragma once

#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "wick/base/file.h"
#include "wick/text/byte_level.h"
#include "wick/text/tokenizer.h"

namespace wick::test {

// The 256 bytes, the given tokens and merges, and control tokens at the end.
inline TokenizerConfig byte_vocabulary(const std::vector<std::string>& more = {}, const std::vector<std::string>& merges = {},
                                       const std::vector<std::string>& control = {"<|end|>", "<|im_start|>", "<|im_end|>"}) {
  TokenizerConfig config;
  config.model = "gpt2";
  config.pre_tokenizer = "gpt-2";
  for (int byte = 0; byte < 256; ++byte) config.tokens.push_back(spell_byte(static_cast<uint8_t>(byte)));
  config.tokens.insert(config.tokens.end(), more.begin(), more.end());
  config.kinds.assign(config.tokens.size(), TokenKind::kNormal);
  for (const std::string& token : control) {
    config.tokens.push_back(token);
    config.kinds.push_back(TokenKind::kControl);
  }
  config.merges = merges;
  return config;
}

struct Golden {
  nlohmann::json json = nlohmann::json::parse(read_file(WICK_TEST_DATA "/tokenizer/bpe.json", 1 << 20));

  TokenizerConfig config(const std::string& pre_tokenizer) const {
    TokenizerConfig config;
    config.model = "gpt2";
    config.pre_tokenizer = pre_tokenizer;
    config.tokens = json["tokens"].get<std::vector<std::string>>();
    config.merges = json["merges"].get<std::vector<std::string>>();
    config.kinds.assign(config.tokens.size(), TokenKind::kNormal);
    for (size_t i = config.tokens.size() - json["special"].get<size_t>(); i < config.tokens.size(); ++i)
      config.kinds[i] = TokenKind::kControl;
    return config;
  }
  std::vector<std::string> texts() const { return json["texts"].get<std::vector<std::string>>(); }
  std::vector<int32_t> ids(const std::string& pre_tokenizer, size_t text) const {
    return json["ids"][pre_tokenizer][text].get<std::vector<int32_t>>();
  }
};

inline constexpr const char* kPreTokenizers[] = {"gpt-2", "smollm", "llama-bpe", "qwen2"};

}  // namespace wick::test
