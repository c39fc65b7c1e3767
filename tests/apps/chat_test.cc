#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>

#include "tests/apps/wick_process.h"
#include "tests/support/tiny_model.h"

namespace wick::test {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::vector<std::string> chat(const std::string& model, const std::vector<std::string>& more = {}) {
  std::vector<std::string> all = {"chat", "-m", model, "--temperature", "0", "-n", "4"};
  all.insert(all.end(), more.begin(), more.end());
  return all;
}

TEST(Chat, AnswersUntilTheInputEnds) {
  const TinyModelFile model;
  const WickResult one = run_wick(chat(model.path(), {"--logit-bias", "65=1000"}), {.input = "hello\n"});
  EXPECT_EQ(one.exit_code, 0) << one.err;
  EXPECT_THAT(one.out, HasSubstr("AAAA"));
  const WickResult two = run_wick(chat(model.path(), {"--logit-bias", "65=1000"}), {.input = "hello\nagain\n"});
  EXPECT_EQ(std::count(two.out.begin(), two.out.end(), 'A'), 8);
  EXPECT_EQ(run_wick(chat(model.path()), {.input = ""}).exit_code, 0);
}

TEST(Chat, CommandsAreNotForTheModel) {
  const TinyModelFile model;
  const WickResult result = run_wick(chat(model.path(), {"--logit-bias", "65=1000"}), {.input = "/help\n/nonsense\n"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(std::count(result.out.begin(), result.out.end(), 'A'), 0) << result.out;
  EXPECT_THAT(result.out + result.err, HasSubstr("/help"));
}

// The tokens of each prompt, as the log tells them.
std::vector<int> prompt_tokens(const std::string& log) {
  std::vector<int> counts;
  const std::string key = "prompt ";
  for (size_t at = log.find("wick: " + key); at != std::string::npos; at = log.find("wick: " + key, at + 1)) {
    counts.push_back(std::atoi(log.c_str() + at + 6 + key.size()));
  }
  return counts;
}

std::vector<int> prompts_of(const std::string& input, const std::vector<std::string>& more = {}) {
  const TinyModelFile model;
  std::vector<std::string> arguments = chat(model.path(), {"--logit-bias", "65=1000", "--log-level", "info"});
  arguments.insert(arguments.end(), more.begin(), more.end());
  const WickResult result = run_wick(arguments, {.input = input});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  return prompt_tokens(result.err);
}

// The template of the tiny model: <|im_start|>, role, newline, text, <|im_end|>, newline; at the end <|im_start|>assistant and a newline.
TEST(Chat, TheConversationIsRemembered) {
  constexpr int kUser = 1 + 4 + 1 + 2 + 1 + 1, kBegin = 1 + 9 + 1, kAnswer = kBegin + 4 + 1 + 1;  // "user", "hi", "assistant", "AAAA"
  EXPECT_THAT(prompts_of("hi\nhi\nhi\n"), ElementsAre(kUser + kBegin, 2 * kUser + kAnswer + kBegin, 3 * kUser + 2 * kAnswer + kBegin));
  EXPECT_THAT(prompts_of("hi\n/reset\nhi\n"), ElementsAre(kUser + kBegin, kUser + kBegin));
  constexpr int kSystem = 1 + 6 + 1 + 1 + 1 + 1;  // "system", "S"
  EXPECT_THAT(prompts_of("hi\n/system S\nhi\n/reset\nhi\n/system\nhi\n"),
              ElementsAre(kUser + kBegin, kSystem + kUser + kBegin, kSystem + kUser + kBegin, kUser + kBegin));
  EXPECT_THAT(prompts_of("hi\n", {"--system", "S"}), ElementsAre(kSystem + kUser + kBegin));
}

TEST(Chat, LinesAndTheEndOfTheInput) {
  EXPECT_EQ(prompts_of("hi").size(), 1u);               // no newline at the end
  EXPECT_EQ(prompts_of("\n  \n\t\n").size(), 0u);       // nothing was said
  EXPECT_EQ(prompts_of("hi\n/exit\nhi\n").size(), 1u);  // what follows is not read
  const std::vector<int> one = prompts_of("hi\\\nhi\n"), two = prompts_of("hi\n");
  ASSERT_EQ(one.size(), 1u);
  EXPECT_EQ(one[0], two[0] + 3);  // a newline and "hi"
  EXPECT_EQ(prompts_of(std::string(100, '\\') + "\n" + std::string("\xff\x1b\0", 3) + "\n").size(), 1u);
}

// What came before is part of the prompt, so that at some point it no longer fits; that is said, and the program goes on or ends cleanly.
TEST(Chat, ALongConversationReachesTheContext) {
  const TinyModelFile model;
  std::string input;
  for (int i = 0; i < 12; ++i) input += std::string(60, 'x') + "\n";
  const WickResult result = run_wick(chat(model.path(), {"--logit-bias", "65=1000"}), {.input = input});
  EXPECT_LT(result.exit_code, 126);
  EXPECT_THAT(result.out, HasSubstr("AAAA"));
  EXPECT_THAT(result.err, HasSubstr("512"));
}

// Waiting for the user costs nothing.
TEST(Chat, IdleUsesNoProcessor) {
  const TinyModelFile model;
  const WickResult busy = run_wick(chat(model.path()), {.input = "hello\n"});
  const WickResult idle = run_wick(chat(model.path()), {.input = "hello\n", .idle_milliseconds = 3000, .input_before = "hello\n"});
  EXPECT_EQ(idle.exit_code, 0);
  EXPECT_LE(idle.cpu_seconds, 2 * busy.cpu_seconds + 0.03) << "of 3 s";  // 1 % of a core
}

}  // namespace
}  // namespace wick::test
