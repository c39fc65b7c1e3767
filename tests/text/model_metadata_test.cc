// Tokenizers and chat templates from the metadata of model files: files that cannot be right are refused, naming the key.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <optional>

#include "tests/support/tiny_model.h"
#include "wick/base/error.h"
#include "wick/engine/vocabulary.h"
#include "wick/formats/gguf.h"

namespace wick {
namespace {

using testing::HasSubstr;

constexpr char kPrefix[] = "tokenizer.ggml.";

// The metadata of the tiny model through a file and back, with one key changed or, without a value, left out.
Metadata changed(const std::string& key, const std::optional<MetadataValue>& new_value) {
  Metadata metadata;
  if (new_value) metadata.insert(key, *new_value);
  const Metadata tiny = test::tiny_metadata({});
  for (const auto& [name, value] : tiny.values()) {
    if (name != key) metadata.insert(name, value);
  }
  return GgufFile::parse(GgufWriter(metadata).to_string())->metadata();
}

std::vector<std::string> tokens_with(size_t at, const std::string& token) {
  std::vector<std::string> tokens = test::tiny_tokens();
  tokens.at(at) = token;
  return tokens;
}

TEST(ModelMetadata, TheTinyModelIsFine) {
  const auto tokenizer = tokenizer_from_metadata(changed("x", {}));
  EXPECT_EQ(tokenizer->decode(tokenizer->encode("hello")), "hello");
  EXPECT_TRUE(tokenizer->ends_generation(test::kTinyEnd));
  EXPECT_TRUE(tokenizer->ends_generation(test::kTinyVocab - 1));  // <|im_end|>, which no key names
}

TEST(ModelMetadata, TokenizersThatCannotBe) {
  const auto kinds = [](size_t count, int64_t last) {
    std::vector<int64_t> result(count, 1);
    result.back() = last;
    return result;
  };
  using Strings = std::vector<std::string>;
  const struct {
    std::string key;
    std::optional<MetadataValue> value;
    const char* text;
    ErrorCode code;
  } cases[] = {
      {"tokens", {}, "has no tokenizer", ErrorCode::kUnsupported},
      {"tokens", Strings{}, "tokenizer.ggml.tokens 0", ErrorCode::kInvalidFile},
      {"tokens", int64_t{4}, "tokenizer.ggml.tokens", ErrorCode::kInvalidFile},
      {"tokens", std::vector<double>(test::kTinyVocab, 1.5), "tokenizer.ggml.tokens", ErrorCode::kInvalidFile},
      {"model", {}, "has no tokenizer", ErrorCode::kUnsupported},
      {"model", std::string("bert"), "\"bert\"; known: gpt2", ErrorCode::kUnsupported},
      {"model", true, "tokenizer.ggml.model", ErrorCode::kInvalidFile},
      {"pre", std::string("\n\xff"), "known: gpt-2", ErrorCode::kUnsupported},
      {"pre", 2.5, "tokenizer.ggml.pre", ErrorCode::kInvalidFile},
      {"merges", Strings{"h e", "q zzz"}, "merge 1 is \"q zzz\", but \"zzz\" is not a token", ErrorCode::kInvalidFile},
      {"merges", Strings{"x y"}, "\"xy\" is not a token", ErrorCode::kInvalidFile},
      {"merges", Strings{"hell"}, "expected two tokens with a space between", ErrorCode::kInvalidFile},
      {"merges", std::vector<int64_t>{1, 2}, "tokenizer.ggml.merges", ErrorCode::kInvalidFile},
      {"merges", std::string("h e"), "tokenizer.ggml.merges", ErrorCode::kInvalidFile},
      {"token_type", kinds(2, 1), "tokenizer.ggml.token_type has 2 entries", ErrorCode::kInvalidFile},
      {"token_type", kinds(test::kTinyVocab + 1, 1), "tokenizer.ggml.token_type has 263", ErrorCode::kInvalidFile},
      {"token_type", kinds(test::kTinyVocab, 7), "tokenizer.ggml.token_type of token 261 is 7", ErrorCode::kInvalidFile},
      {"token_type", kinds(test::kTinyVocab, -1), "tokenizer.ggml.token_type of token 261 is -1", ErrorCode::kInvalidFile},
      {"token_type", Strings(test::kTinyVocab), "tokenizer.ggml.token_type", ErrorCode::kInvalidFile},
      {"bos_token_id", int64_t{test::kTinyVocab}, "bos is 262, expected -1 to 261", ErrorCode::kInvalidFile},
      {"eos_token_id", int64_t{-2}, "tokenizer.ggml.eos_token_id", ErrorCode::kInvalidFile},
      {"eos_token_id", UINT64_MAX, "tokenizer.ggml.eos_token_id", ErrorCode::kInvalidFile},
      {"unknown_token_id", int64_t{1} << 31, "tokenizer.ggml.unknown_token_id", ErrorCode::kInvalidFile},
      {"eot_token_id", int64_t{100000}, "an end of generation is 100000", ErrorCode::kInvalidFile},
      {"eom_token_id", std::string("1"), "tokenizer.ggml.eom_token_id", ErrorCode::kInvalidFile},
      {"add_bos_token", true, "a bos token is to be added", ErrorCode::kInvalidFile},
      {"add_eos_token", int64_t{1}, "tokenizer.ggml.add_eos_token", ErrorCode::kInvalidFile},
  };
  for (const auto& c : cases) {
    try {
      tokenizer_from_metadata(changed(kPrefix + c.key, c.value));
      ADD_FAILURE() << c.key << ": no error, expected: " << c.text;
    } catch (const Error& error) {
      EXPECT_THAT(error.what(), HasSubstr(c.text));
      EXPECT_EQ(error.code(), c.code) << c.key << ": " << c.text;
    }
  }
}

// What is merely odd is taken: text goes in and comes out.
TEST(ModelMetadata, OddVocabulariesAreTolerated) {
  const struct {
    std::string key;
    std::optional<MetadataValue> value;
  } cases[] = {
      {"tokens", tokens_with(test::kTinyEnd, "")},
      {"tokens", tokens_with(test::kTinyEnd, "he")},
      {"tokens", tokens_with(test::kTinyEnd, "\xff\xfe not UTF-8")},
      {"tokens", tokens_with(test::kTinyEnd, std::string("a\0b", 3))},
      {"tokens", tokens_with(test::kTinyEnd, std::string(100, ' '))},
      {"merges", {}},
      {"merges", std::vector<std::string>{}},
      {"merges", std::vector<std::string>{"h e", "h e", "he ll"}},
      {"token_type", {}},
      {"token_type", std::vector<int64_t>(test::kTinyVocab, 0)},
      {"pre", {}},
      {"scores", std::vector<double>{1}},  // of other kinds of vocabulary
      {"eos_token_id", int64_t{-1}},
  };
  const std::string text = "hello h\u00e9 \xff\xfe<|im_end|> 12";
  for (const auto& c : cases) {
    const auto tokenizer = tokenizer_from_metadata(changed(kPrefix + c.key, c.value));
    for (const bool parse : {false, true}) EXPECT_EQ(tokenizer->decode(tokenizer->encode(text, {.parse_special = parse})), text) << c.key;
  }
}

// Control and user-defined tokens stand for their spelling, also those spelled like a byte: here the text changes, but that is all.
TEST(ModelMetadata, VocabulariesWithoutNormalTokensDoNoHarm) {
  for (const int64_t kind : {3, 4}) {
    const auto tokenizer = tokenizer_from_metadata(changed("tokenizer.ggml.token_type", std::vector<int64_t>(test::kTinyVocab, kind)));
    EXPECT_EQ(tokenizer->decode(tokenizer->encode("hell o", {.parse_special = true})), "hell\u0120o");
  }
}

TEST(ModelMetadata, ChatTemplates) {
  const auto tokenizer = tokenizer_from_metadata(test::tiny_metadata({}));
  const auto render = [&](const std::optional<MetadataValue>& source) {
    return chat_template_from_metadata(changed("tokenizer.chat_template", source), *tokenizer)->render({{"user", "x"}});
  };
  EXPECT_EQ(chat_template_from_metadata(test::tiny_metadata({}), *tokenizer)->render({{"user", "x"}}),
            "<|im_start|>user\nx<|im_end|>\n<|im_start|>assistant\n");
  const struct {
    std::optional<MetadataValue> source;
    const char* text;
    ErrorCode code;
  } cases[] = {
      {{}, "--raw", ErrorCode::kUnsupported},
      {std::string(), "--raw", ErrorCode::kUnsupported},
      {std::string("{{ messages.__class__ }}"), "--raw", ErrorCode::kUnsupported},
      {int64_t{1}, "tokenizer.chat_template", ErrorCode::kInvalidFile},
  };
  for (const auto& c : cases) {
    try {
      render(c.source);
      ADD_FAILURE() << c.text;
    } catch (const Error& error) {
      EXPECT_THAT(error.what(), HasSubstr(c.text));
      EXPECT_EQ(error.code(), c.code);
    }
  }
}

}  // namespace
}  // namespace wick
