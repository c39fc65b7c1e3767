#include "wick/text/pre_tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <thread>
#include <vector>

#include "tests/text/vocabulary.h"
#include "wick/base/error.h"

namespace wick {
namespace {

using testing::ElementsAre;

std::vector<std::string> words(const PreTokenizer& pre_tokenizer, std::string_view text) {
  std::vector<std::string> result;
  pre_tokenizer.split(text, [&](std::string_view word) { result.emplace_back(word); });
  return result;
}

TEST(PreTokenizer, CutsAsItsModelWasTrained) {
  EXPECT_THAT(words(PreTokenizer("gpt-2"), "I'm 1234  years\n\nold!"),
              ElementsAre("I", "'m", " 1234", " ", " years", "\n", "\n", "old", "!"));
  EXPECT_THAT(words(PreTokenizer("smollm"), "in 1234   5"), ElementsAre("in", " ", "1", "2", "3", "4", "   ", "5"));
  EXPECT_THAT(words(PreTokenizer("llama-bpe"), "I'M 1234567!\n\n x"), ElementsAre("I", "'M", " ", "123", "456", "7", "!\n\n", " x"));
  EXPECT_THAT(words(PreTokenizer("qwen2"), "a12  \n b"), ElementsAre("a", "1", "2", "  \n", " b"));
}

// In any case for the newer kinds, and U+017F is an s.
TEST(PreTokenizer, ContractionsOfEachKind) {
  for (const char* kind : {"llama-bpe", "qwen2"}) {
    EXPECT_THAT(words(PreTokenizer(kind), "I'MX'llx it'\u017ft"), ElementsAre("I", "'M", "X", "'ll", "x", " it", "'\u017f", "t")) << kind;
  }
  for (const char* kind : {"gpt-2", "smollm"}) {
    EXPECT_THAT(words(PreTokenizer(kind), "I'MX'llx"), ElementsAre("I", "'", "MX", "'ll", "x")) << kind;
  }
}

TEST(PreTokenizer, AliasesAreTheSame) {
  const std::string text = "It's 12345 words,  isn't it?\r\n";
  EXPECT_EQ(words(PreTokenizer("llama3"), text), words(PreTokenizer("llama-bpe"), text));
  EXPECT_EQ(words(PreTokenizer("starcoder"), text), words(PreTokenizer("smollm"), text));
  EXPECT_TRUE(PreTokenizer("llama-v3").whole_words_first());
  EXPECT_FALSE(PreTokenizer("qwen2").whole_words_first());
}

TEST(PreTokenizer, WordsTogetherAreTheText) {
  for (const char* kind : test::kPreTokenizers) {
    const PreTokenizer pre_tokenizer(kind);
    for (const std::string& text : test::Golden().texts()) {
      std::string joined;
      for (const std::string& word : words(pre_tokenizer, text)) {
        EXPECT_FALSE(word.empty());
        joined += word;
      }
      EXPECT_EQ(joined, text);
    }
  }
}

TEST(PreTokenizer, InvalidBytesAreWordsOfTheirOwn) {
  EXPECT_THAT(words(PreTokenizer("gpt-2"),
                    "ab\xff\xfe"
                    "cd\xe2\x82"),
              ElementsAre("ab", "\xff", "\xfe", "cd", "\xe2", "\x82"));
}

// U+180E was a space once; PCRE2 still says so.
TEST(PreTokenizer, MongolianVowelSeparatorIsNoSpace) { EXPECT_THAT(words(PreTokenizer("gpt-2"), "a\u180e!"), ElementsAre("a", "\u180e!")); }

TEST(PreTokenizer, UnknownNamesAreRefusedNamingTheKnown) {
  try {
    PreTokenizer("deepseek-v9");
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kUnsupported);
    EXPECT_THAT(error.what(), testing::HasSubstr("known: gpt-2, smollm, llama-bpe, qwen2"));
  }
}

TEST(PreTokenizer, MayBeSharedByThreads) {
  const PreTokenizer pre_tokenizer("llama-bpe");
  const std::string text = "Hello, world! 12345 it's\n\n";
  const auto expected = words(pre_tokenizer, text);
  std::vector<std::thread> threads;
  std::vector<int> wrong(4);
  for (int& count : wrong) {
    threads.emplace_back([&] {
      for (int i = 0; i < 200; ++i) count += words(pre_tokenizer, text) != expected;
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_THAT(wrong, ElementsAre(0, 0, 0, 0));
}

}  // namespace
}  // namespace wick
