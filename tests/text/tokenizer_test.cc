#include "wick/text/tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>

#include "tests/text/vocabulary.h"
#include "wick/base/error.h"

namespace wick {
namespace {

using testing::HasSubstr;

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
      {"an end of generation is -1, expected 0", ErrorCode::kInvalidFile,
       [](auto& c) {
         c.end_of_generation = {0, -1};
       }},
      {"a bos token is to be added", ErrorCode::kInvalidFile, [](auto& c) { c.add_bos = true; }},
      {"an eos token is to be added", ErrorCode::kInvalidFile, [](auto& c) { c.add_eos = true; }},
      {"special token 258 has 257 bytes", ErrorCode::kUnsupported, [](auto& c) { c.tokens.back() = std::string(257, 'x'); }},
  };
  for (const auto& c : cases) {
    TokenizerConfig config = test::byte_vocabulary();
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

}  // namespace
}  // namespace wick
