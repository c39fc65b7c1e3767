#include "wick/text/tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>

#include "tests/text/vocabulary.h"
#include "wick/base/error.h"

namespace wick {
namespace {

using namespace test;  // NOLINT(google-build-using-namespace)
using testing::ElementsAre;
using testing::HasSubstr;

// What Hugging Face `tokenizers` gives.
TEST(Tokenizer, MatchesTheGoldensOfEveryPreTokenizer) {
  const Golden golden;
  const std::vector<std::string> texts = golden.texts();
  for (const char* kind : kPreTokenizers) {
    const auto tokenizer = make_tokenizer(golden.config(kind));
    for (size_t i = 0; i < texts.size(); ++i) {
      EXPECT_EQ(tokenizer->encode(texts[i], {.parse_special = true}), golden.ids(kind, i)) << kind << ": " << testing::PrintToString(texts[i]);
    }
  }
}

TEST(Tokenizer, DecodeGivesTheTextBack) {
  const Golden golden;
  std::vector<std::string> texts = golden.texts();
  for (const char* invalid : {"\xff", "a\xc3", "\xed\xa0\x80 surrogate", "\xf5\x80\x80\x80", "\xc0\xaf", "ok \xe2\x82 cut", "\x80\x80\x80"}) texts.push_back(invalid);
  for (const char* kind : kPreTokenizers) {
    const auto tokenizer = make_tokenizer(golden.config(kind));
    for (const std::string& text : texts) {
      for (const bool parse : {false, true}) {
        EXPECT_EQ(tokenizer->decode(tokenizer->encode(text, {.parse_special = parse})), text) << kind << ": " << testing::PrintToString(text);
      }
    }
  }
}

TEST(Tokenizer, ControlTokensCountOnlyWhenAskedFor) {
  const auto tokenizer = make_tokenizer(byte_vocabulary());
  const int32_t end = 256;
  EXPECT_THAT(tokenizer->encode("a<|end|>b", {.parse_special = true}), ElementsAre('a', end, 'b'));
  EXPECT_EQ(tokenizer->encode("a<|end|>b").size(), 9u);
  EXPECT_EQ(tokenizer->decode({'a', end, 'b'}, false), "ab");
  EXPECT_EQ(tokenizer->decode({'a', end, 'b'}, true), "a<|end|>b");
  EXPECT_EQ(tokenizer->piece(end), "<|end|>");
  EXPECT_EQ(tokenizer->kind(end), TokenKind::kControl);
}

TEST(Tokenizer, UserDefinedTokensAlwaysCount) {
  TokenizerConfig config = byte_vocabulary({}, {}, {"<|a|>", "  "});
  config.kinds.back() = TokenKind::kUserDefined;
  const auto tokenizer = make_tokenizer(config);
  EXPECT_THAT(tokenizer->encode("x  y   z"), ElementsAre('x', 257, 'y', 257, ' ', 'z'));
}

TEST(Tokenizer, BeginAndEndAreAddedAsTheModelAsks) {
  TokenizerConfig config = byte_vocabulary();
  config.bos = 257;
  config.eos = 256;
  config.add_bos = config.add_eos = true;
  config.end_of_generation = {256, 258};
  const auto tokenizer = make_tokenizer(config);
  EXPECT_THAT(tokenizer->encode("hi"), ElementsAre(257, 'h', 'i', 256));
  EXPECT_THAT(tokenizer->encode(""), ElementsAre(257, 256));
  EXPECT_THAT(tokenizer->encode("hi", {.add_special = false}), ElementsAre('h', 'i'));
  EXPECT_TRUE(tokenizer->ends_generation(256) && tokenizer->ends_generation(258) && !tokenizer->ends_generation(257));
  EXPECT_EQ(tokenizer->bos(), 257);
  EXPECT_EQ(tokenizer->eos(), 256);
}

TEST(Tokenizer, WordsThatAreTokensComeFirstForLlama3) {
  TokenizerConfig config = byte_vocabulary({"abc"});  // no merge leads to it
  EXPECT_THAT(make_tokenizer(config)->encode("abc"), ElementsAre('a', 'b', 'c'));
  config.pre_tokenizer = "llama-bpe";
  EXPECT_THAT(make_tokenizer(config)->encode("abc"), ElementsAre(256));
}

TEST(Tokenizer, BytesWithoutATokenBecomeUnknown) {
  TokenizerConfig config;
  config.model = "gpt2";
  config.pre_tokenizer = "gpt-2";
  config.tokens = {"a", "<unk>"};
  config.kinds = {TokenKind::kNormal, TokenKind::kUnknown};
  EXPECT_THROW(make_tokenizer(config)->encode("ab"), Error);
  config.unknown = 1;
  EXPECT_THAT(make_tokenizer(config)->encode("ab"), ElementsAre(0, 1));
}

TEST(Tokenizer, IdsOutsideTheVocabularyAreErrors) {
  const auto tokenizer = make_tokenizer(byte_vocabulary());
  for (const int32_t id : {-1, 259, INT32_MAX, INT32_MIN}) {
    EXPECT_THROW(tokenizer->decode({id}), Error);
    EXPECT_THROW(tokenizer->piece(id), Error);
    EXPECT_THROW(tokenizer->kind(id), Error);
    EXPECT_THROW(tokenizer->ends_generation(id), Error);
  }
}

// Every way a vocabulary can contradict itself: an Error that names it, when it is made.
TEST(Tokenizer, VocabulariesThatCannotBe) {
  const struct {
    const char* text;
    ErrorCode code;
    std::function<void(TokenizerConfig&)> change;
  } cases[] = {
      {"unknown model \"spm\"", ErrorCode::kUnsupported, [](auto& c) { c.model = "spm"; }},
      {"unknown pre-tokenizer \"mine\"", ErrorCode::kUnsupported, [](auto& c) { c.pre_tokenizer = "mine"; }},
      {"the vocabulary is empty", ErrorCode::kInvalidFile, [](auto& c) { c.tokens.clear(), c.kinds.clear(); }},
      {"258 token kinds for 259 tokens", ErrorCode::kInvalidFile, [](auto& c) { c.kinds.pop_back(); }},
      {"merge 0 is \"ab\"", ErrorCode::kInvalidFile, [](auto& c) { c.merges = {"ab"}; }},
      {"merge 0 is \"\"", ErrorCode::kInvalidFile, [](auto& c) { c.merges = {""}; }},
      {"merge 0 is \" b\"", ErrorCode::kInvalidFile, [](auto& c) { c.merges = {" b"}; }},
      {"merge 0 is \"a \"", ErrorCode::kInvalidFile, [](auto& c) { c.merges = {"a "}; }},
      {"\"xx\" is not a token", ErrorCode::kInvalidFile, [](auto& c) { c.merges = {"a xx"}; }},
      {"\"ab\" is not a token", ErrorCode::kInvalidFile, [](auto& c) { c.merges = {"a b"}; }},
      {"bos is 259, expected -1 to 258", ErrorCode::kInvalidFile, [](auto& c) { c.bos = 259; }},
      {"eos is -2", ErrorCode::kInvalidFile, [](auto& c) { c.eos = -2; }},
      {"unknown is 2147483647", ErrorCode::kInvalidFile, [](auto& c) { c.unknown = INT32_MAX; }},
      {"an end of generation is -1, expected 0", ErrorCode::kInvalidFile, [](auto& c) { c.end_of_generation = {0, -1}; }},
      {"a bos token is to be added", ErrorCode::kInvalidFile, [](auto& c) { c.add_bos = true; }},
      {"an eos token is to be added", ErrorCode::kInvalidFile, [](auto& c) { c.add_eos = true; }},
      {"special token 258 has 257 bytes", ErrorCode::kUnsupported, [](auto& c) { c.tokens.back() = std::string(257, 'x'); }},
  };
  for (const auto& c : cases) {
    TokenizerConfig config = byte_vocabulary();
    c.change(config);
    try {
      make_tokenizer(config);
      ADD_FAILURE() << "no error, expected: " << c.text;
    } catch (const Error& error) {
      EXPECT_THAT(error.what(), HasSubstr(c.text));
      EXPECT_EQ(error.code(), c.code) << c.text;
    }
  }
}

// Empty, doubled and ill-formed tokens have no meaning but do no harm.
TEST(Tokenizer, StrangeTokensAreTolerated) {
  const auto tokenizer = make_tokenizer(byte_vocabulary({"", "a", "<0x-1>", "\xff\xfe", std::string(1, '\0')}, {}, {"", "<|end|>", "<|end|>"}));
  EXPECT_THAT(tokenizer->encode("a<|end|>", {.parse_special = true}), ElementsAre('a', 262));
  EXPECT_EQ(tokenizer->decode({256, 257, 258}), "a<0x-1>");
}

// Runs of 10 MB: linear time and a flat stack. A quadratic step would take hours here, so that the test ends is the point.
TEST(Tokenizer, LongRuns) {
  const Golden golden;
  std::string marks, mixed;
  while (marks.size() < 10'000'000) marks += "\u0301";
  while (mixed.size() < 10'000'000) mixed += "ab";
  for (const char* kind : kPreTokenizers) {
    const auto tokenizer = make_tokenizer(golden.config(kind));
    for (const std::string& text : {std::string(10'000'000, 'a'), std::string(10'000'000, ' '), std::string(10'000'000, '\n'), std::string(10'000'000, '7'),
                                    std::string(10'000'000, '\xff'), std::string(10'000'000, '<'), marks, mixed}) {
      const std::vector<int32_t> ids = tokenizer->encode(text, {.parse_special = true});
      ASSERT_EQ(tokenizer->decode(ids), text) << kind;
    }
  }
}

}  // namespace
}  // namespace wick
