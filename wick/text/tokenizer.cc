#include "wick/text/tokenizer.h"

#include <limits>

#include "wick/base/error.h"
#include "wick/text/bpe_tokenizer.h"

namespace wick {
namespace {

void check_id(const char* what, int32_t id, size_t tokens, int32_t lowest) {
  if (id < lowest || id >= static_cast<int64_t>(tokens)) {
    fail(ErrorCode::kInvalidFile, "tokenizer: ", what, " is ", id, ", expected ", lowest, " to ", tokens - 1);
  }
}

void check(const TokenizerConfig& config) {
  const size_t tokens = config.tokens.size();
  if (tokens == 0) fail(ErrorCode::kInvalidFile, "tokenizer: the vocabulary is empty");
  if (tokens > std::numeric_limits<int32_t>::max() || config.merges.size() > std::numeric_limits<int32_t>::max()) {
    fail(ErrorCode::kLimitExceeded, "tokenizer: ", tokens, " tokens and ", config.merges.size(), " merges, at most 2^31 - 1 of each");
  }
  if (config.kinds.size() != tokens) fail(ErrorCode::kInvalidFile, "tokenizer: ", config.kinds.size(), " token kinds for ", tokens, " tokens");
  check_id("bos", config.bos, tokens, -1);
  check_id("eos", config.eos, tokens, -1);
  check_id("unknown", config.unknown, tokens, -1);
  for (const int32_t id : config.end_of_generation) check_id("an end of generation", id, tokens, 0);
  if (config.add_bos && config.bos < 0) fail(ErrorCode::kInvalidFile, "tokenizer: a bos token is to be added, but there is none");
  if (config.add_eos && config.eos < 0) fail(ErrorCode::kInvalidFile, "tokenizer: an eos token is to be added, but there is none");
}

}  // namespace

std::unique_ptr<Tokenizer> make_tokenizer(TokenizerConfig config) {
  if (config.model != "gpt2") fail(ErrorCode::kUnsupported, "tokenizer: unknown model \"", config.model, "\"; known: gpt2");
  check(config);
  return std::make_unique<BpeTokenizer>(config);
}

}  // namespace wick
