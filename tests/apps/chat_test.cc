#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/apps/wick_process.h"
#include "tests/support/tiny_model.h"

namespace wick::test {
namespace {

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
