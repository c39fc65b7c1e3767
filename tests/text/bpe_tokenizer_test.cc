#include "wick/text/bpe_tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <iterator>
#include <random>

#include "tests/text/vocabulary.h"
#include "wick/base/error.h"
#include "wick/text/utf8.h"

namespace wick {
namespace {

using namespace test;  // NOLINT(google-build-using-namespace)
using testing::ElementsAre;

// What Hugging Face `tokenizers` gives.
TEST(BpeTokenizer, MatchesTheGoldensOfEveryPreTokenizer) {
  const Golden golden;
  const std::vector<std::string> texts = golden.texts();
  for (const char* kind : kPreTokenizers) {
    const auto tokenizer = make_tokenizer(golden.config(kind));
    for (size_t i = 0; i < texts.size(); ++i) {
      EXPECT_EQ(tokenizer->encode(texts[i], {.parse_special = true}), golden.ids(kind, i))
          << kind << ": " << testing::PrintToString(texts[i]);
    }
  }
}

TEST(BpeTokenizer, DecodeGivesTheTextBack) {
  const Golden golden;
  std::vector<std::string> texts = golden.texts();
  for (const char* invalid : {"\xff", "a\xc3", "\xed\xa0\x80 surrogate", "\xf5\x80\x80\x80", "\xc0\xaf", "ok \xe2\x82 cut", "\x80\x80\x80"})
    texts.push_back(invalid);
  for (const char* kind : kPreTokenizers) {
    const auto tokenizer = make_tokenizer(golden.config(kind));
    for (const std::string& text : texts) {
      for (const bool parse : {false, true}) {
        EXPECT_EQ(tokenizer->decode(tokenizer->encode(text, {.parse_special = parse})), text)
            << kind << ": " << testing::PrintToString(text);
      }
    }
  }
}

TEST(BpeTokenizer, RandomBytesAndCutCharactersComeBack) {
  std::mt19937 random(11);
  const std::string parts[] = {"é",   "😀",          "\xe2\x82", "\xf0\x9f",          "\xff", "'ll", "  ", "\r\n", "12345",
                               "the", "<|im_end|>", "\u0301",   std::string(1, '\0')};
  const Golden golden;
  for (const char* kind : kPreTokenizers) {
    const auto tokenizer = make_tokenizer(golden.config(kind));
    for (int round = 0; round < 300; ++round) {
      std::string text;
      for (int i = 0; i < 20; ++i)
        text += random() % 4 == 0 ? std::string(1, static_cast<char>(random())) : parts[random() % std::size(parts)];
      for (const bool parse : {false, true}) ASSERT_EQ(tokenizer->decode(tokenizer->encode(text, {.parse_special = parse})), text) << kind;
    }
  }
}

TEST(BpeTokenizer, ControlTokensCountOnlyWhenAskedFor) {
  const auto tokenizer = make_tokenizer(byte_vocabulary());
  const int32_t end = 256;
  EXPECT_THAT(tokenizer->encode("a<|end|>b", {.parse_special = true}), ElementsAre('a', end, 'b'));
  EXPECT_EQ(tokenizer->encode("a<|end|>b").size(), 9u);
  EXPECT_EQ(tokenizer->decode({'a', end, 'b'}, false), "ab");
  EXPECT_EQ(tokenizer->decode({'a', end, 'b'}, true), "a<|end|>b");
  EXPECT_EQ(tokenizer->piece(end), "<|end|>");
  EXPECT_EQ(tokenizer->kind(end), TokenKind::kControl);
}

TEST(BpeTokenizer, UserDefinedTokensAlwaysCount) {
  TokenizerConfig config = byte_vocabulary({}, {}, {"<|a|>", "  "});
  config.kinds.back() = TokenKind::kUserDefined;
  const auto tokenizer = make_tokenizer(config);
  EXPECT_THAT(tokenizer->encode("x  y   z"), ElementsAre('x', 257, 'y', 257, ' ', 'z'));
}

TEST(BpeTokenizer, BeginAndEndAreAddedAsTheModelAsks) {
  TokenizerConfig config = byte_vocabulary();
  config.bos = 257;
  config.eos = 256;
  config.add_bos = config.add_eos = true;
  config.end_of_generation = {256, 258};
  const auto tokenizer = make_tokenizer(config);
  EXPECT_THAT(tokenizer->encode("hi"), ElementsAre(257, 'h', 'i', 256));
  EXPECT_THAT(tokenizer->encode(""), ElementsAre(257, 256));
  EXPECT_THAT(tokenizer->encode("hi", {.add_special = false}), ElementsAre('h', 'i'));
  // Spelled out they are not counted against those that are added.
  EXPECT_THAT(tokenizer->encode("<|im_start|>", {.parse_special = true}), ElementsAre(257, 257, 256));
  EXPECT_TRUE(tokenizer->ends_generation(256) && tokenizer->ends_generation(258) && !tokenizer->ends_generation(257));
  EXPECT_EQ(tokenizer->bos(), 257);
  EXPECT_EQ(tokenizer->eos(), 256);
}

TEST(BpeTokenizer, WordsThatAreTokensComeFirstForLlama3) {
  TokenizerConfig config = byte_vocabulary({"abc"});  // no merge leads to it
  EXPECT_THAT(make_tokenizer(config)->encode("abc"), ElementsAre('a', 'b', 'c'));
  config.pre_tokenizer = "llama-bpe";
  EXPECT_THAT(make_tokenizer(config)->encode("abc"), ElementsAre(256));
}

TEST(BpeTokenizer, BytesWithoutATokenBecomeUnknown) {
  TokenizerConfig config;
  config.model = "gpt2";
  config.pre_tokenizer = "gpt-2";
  config.tokens = {"a", "<unk>"};
  config.kinds = {TokenKind::kNormal, TokenKind::kUnknown};
  EXPECT_THROW(make_tokenizer(config)->encode("ab"), Error);
  config.unknown = 1;
  EXPECT_THAT(make_tokenizer(config)->encode("ab"), ElementsAre(0, 1));
}

TEST(BpeTokenizer, IdsOutsideTheVocabularyAreErrors) {
  const auto tokenizer = make_tokenizer(byte_vocabulary());
  for (const int32_t id : {-1, 259, INT32_MAX, INT32_MIN}) {
    EXPECT_THROW(tokenizer->decode({id}), Error);
    EXPECT_THROW(tokenizer->piece(id), Error);
    EXPECT_THROW(tokenizer->kind(id), Error);
    EXPECT_THROW(tokenizer->ends_generation(id), Error);
  }
}

// Empty, doubled and ill-formed tokens have no meaning but do no harm.
TEST(BpeTokenizer, StrangeTokensAreTolerated) {
  const auto tokenizer =
      make_tokenizer(byte_vocabulary({"", "a", "<0x-1>", "\xff\xfe", std::string(1, '\0')}, {}, {"", "<|end|>", "<|end|>"}));
  EXPECT_THAT(tokenizer->encode("a<|end|>", {.parse_special = true}), ElementsAre('a', 262));
  EXPECT_EQ(tokenizer->decode({256, 257, 258}), "a<0x-1>");
}

constexpr size_t kLong = 10'000'000;

std::string repeated(const std::string& part) {
  std::string text;
  while (text.size() < kLong) text += part;
  return text;
}

// Long runs and long texts without a space: linear time and a flat stack. A quadratic step would take hours here, so that the test ends is
// the point.
class LongTexts : public testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(BpeTokenizer, LongTexts, testing::ValuesIn(kPreTokenizers));

TEST_P(LongTexts, ComeBack) {
  std::mt19937 random(5);
  std::string letters, characters, bytes;
  while (letters.size() < kLong) letters += static_cast<char>('a' + random() % 26);
  while (characters.size() < kLong) append_utf8(0x4E00 + static_cast<char32_t>(random() % 0x5000), characters);
  while (bytes.size() < kLong) bytes += static_cast<char>(random());
  std::vector<std::string> texts = {letters, characters, bytes};
  for (const char* part : {"a", " ", "\n", "7", "\xff", "<", "'", "thetokenization", "\u0301"}) texts.push_back(repeated(part));
  const auto tokenizer = make_tokenizer(Golden().config(GetParam()));
  // Not ASSERT_EQ, which would print 10 MB.
  for (const std::string& text : texts)
    ASSERT_TRUE(tokenizer->decode(tokenizer->encode(text, {.parse_special = true})) == text) << text.substr(0, 20);
}

// One word of 10 MB in which every pair merges: in halves (aa, aaaa, …), and from the left (aa, aaa, …).
TEST(BpeTokenizer, LongWordsThatMergeAllTheWay) {
  for (const bool halves : {true, false}) {
    std::vector<std::string> tokens, merges;
    for (size_t left = 1; left <= 32; left = halves ? 2 * left : left + 1) {
      const size_t right = halves ? left : 1;
      tokens.push_back(std::string(left + right, 'a'));
      merges.push_back(std::string(left, 'a') + " " + std::string(right, 'a'));
    }
    const auto tokenizer = make_tokenizer(byte_vocabulary(tokens, merges));
    const std::string text(kLong, 'a');
    const std::vector<int32_t> ids = tokenizer->encode(text);
    EXPECT_LE(ids.size(), kLong / 2 + 1);
    ASSERT_TRUE(tokenizer->decode(ids) == text);
  }
}

}  // namespace
}  // namespace wick
