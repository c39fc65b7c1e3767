#include "wick/engine/vocabulary.h"

#include <algorithm>
#include <limits>

#include "wick/base/error.h"

namespace wick {
namespace {

int32_t special_id(const Metadata& metadata, const char* key) {
  return static_cast<int32_t>(metadata.find_integer(key, -1, std::numeric_limits<int32_t>::max()).value_or(-1));
}

std::vector<TokenKind> token_kinds(const Metadata& metadata, size_t count) {
  std::vector<TokenKind> kinds(count, TokenKind::kNormal);
  const auto stored = metadata.find_integers("tokenizer.ggml.token_type");
  if (!stored) return kinds;
  if (stored->size() != count) {
    fail(ErrorCode::kInvalidFile, "tokenizer.ggml.token_type has ", stored->size(), " entries, tokenizer.ggml.tokens ", count);
  }
  for (size_t i = 0; i < count; ++i) {
    const int64_t kind = (*stored)[i];
    if (kind < 0 || kind > 6) fail(ErrorCode::kInvalidFile, "tokenizer.ggml.token_type of token ", i, " is ", kind, ", expected 0 to 6");
    kinds[i] = kind == 0 ? TokenKind::kNormal : static_cast<TokenKind>(kind);
  }
  return kinds;
}

// Files name one end-of-sequence token, but chat models end their turns with others too.
std::vector<int32_t> end_of_generation(const Metadata& metadata, const TokenizerConfig& config) {
  constexpr std::string_view kEndings[] = {"<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<|end_of_text|>", "<|endoftext|>", "<end_of_turn>", "<|end|>", "</s>"};
  std::vector<int32_t> ids;
  const auto add = [&](int32_t id) {
    if (id >= 0 && std::find(ids.begin(), ids.end(), id) == ids.end()) ids.push_back(id);
  };
  add(config.eos);
  add(special_id(metadata, "tokenizer.ggml.eot_token_id"));
  add(special_id(metadata, "tokenizer.ggml.eom_token_id"));
  for (size_t i = 0; i < config.tokens.size(); ++i) {
    if (config.kinds[i] != TokenKind::kControl) continue;
    if (std::find(std::begin(kEndings), std::end(kEndings), config.tokens[i]) != std::end(kEndings)) add(static_cast<int32_t>(i));
  }
  return ids;
}

}  // namespace

std::unique_ptr<Tokenizer> tokenizer_from_metadata(const Metadata& metadata) {
  const std::string* model = metadata.find_string("tokenizer.ggml.model");
  const std::vector<std::string>* tokens = metadata.find_strings("tokenizer.ggml.tokens");
  if (!model || !tokens) fail(ErrorCode::kUnsupported, "the model file has no tokenizer");
  TokenizerConfig config;
  config.model = *model;
  const std::string* pre = metadata.find_string("tokenizer.ggml.pre");
  config.pre_tokenizer = pre ? *pre : "gpt-2";
  config.tokens = *tokens;
  config.kinds = token_kinds(metadata, tokens->size());
  if (const auto* merges = metadata.find_strings("tokenizer.ggml.merges")) config.merges = *merges;
  config.bos = special_id(metadata, "tokenizer.ggml.bos_token_id");
  config.eos = special_id(metadata, "tokenizer.ggml.eos_token_id");
  config.unknown = special_id(metadata, "tokenizer.ggml.unknown_token_id");
  config.add_bos = metadata.find_bool("tokenizer.ggml.add_bos_token").value_or(false);
  config.add_eos = metadata.find_bool("tokenizer.ggml.add_eos_token").value_or(false);
  config.add_space_prefix = metadata.find_bool("tokenizer.ggml.add_space_prefix").value_or(false);
  config.end_of_generation = end_of_generation(metadata, config);
  return make_tokenizer(std::move(config));
}

std::unique_ptr<ChatTemplate> chat_template_from_metadata(const Metadata& metadata, const Tokenizer& tokenizer) {
  const std::string* source = metadata.find_string("tokenizer.chat_template");
  if (!source) fail(ErrorCode::kUnsupported, "the model file has no chat template; use --raw for plain completion");
  const auto name = [&](int32_t id) { return id >= 0 ? tokenizer.piece(id) : std::string_view(); };
  return make_chat_template(*source, name(tokenizer.bos()), name(tokenizer.eos()));
}

}  // namespace wick
