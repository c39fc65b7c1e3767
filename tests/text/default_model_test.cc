// The vocabulary and the template of the default model, where the machine has it: WICK_TEST_MODEL.
#include <gtest/gtest.h>

#include "tests/support/reference.h"
#include "tests/text/vocabulary.h"
#include "wick/engine/vocabulary.h"
#include "wick/formats/gguf.h"

namespace wick {
namespace {

class DefaultModel : public testing::Test {
 protected:
  void SetUp() override {
    if (test::default_model_path().empty()) GTEST_SKIP() << "WICK_TEST_MODEL names no model file";
    file_ = GgufFile::open(test::default_model_path());
    tokenizer_ = tokenizer_from_metadata(file_->metadata());
  }

  std::string streamed(const std::vector<int32_t>& ids) const {
    StreamDecoder decoder(*tokenizer_, true);
    std::string text;
    for (const int32_t id : ids) decoder.push(id, text);
    decoder.finish(text);
    return text;
  }

  std::shared_ptr<const GgufFile> file_;
  std::unique_ptr<Tokenizer> tokenizer_;
};

TEST_F(DefaultModel, PromptsHaveTheIdsThatTransformersGives) {
  const auto prompts = test::reference_prompts();
  ASSERT_GT(prompts.size(), 1u);
  for (const auto& prompt : prompts) {
    EXPECT_EQ(tokenizer_->encode(prompt.prompt, {.parse_special = true}), prompt.prompt_ids) << prompt.prompt;
    EXPECT_EQ(tokenizer_->decode(prompt.prompt_ids), prompt.prompt);
    EXPECT_EQ(streamed(prompt.prompt_ids), prompt.prompt);
  }
}

TEST_F(DefaultModel, TextsAndTheirStreamsComeBack) {
  for (const std::string& text : test::Golden().texts()) {
    const std::vector<int32_t> ids = tokenizer_->encode(text, {.parse_special = true});
    EXPECT_EQ(tokenizer_->decode(ids), text);
    EXPECT_EQ(streamed(ids), text);
  }
}

TEST_F(DefaultModel, ItsTemplateIsUnderstood) {
  const auto chat = chat_template_from_metadata(file_->metadata(), *tokenizer_);
  const std::string prompt = chat->render({{"user", "Hi"}});
  EXPECT_EQ(
      prompt,
      "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"
      "<|im_start|>assistant\n");
  const std::vector<int32_t> ids = tokenizer_->encode(prompt, {.parse_special = true});
  EXPECT_EQ(ids.front(), 1);  // one token, not its letters
  EXPECT_TRUE(tokenizer_->ends_generation(2));
}

}  // namespace
}  // namespace wick
