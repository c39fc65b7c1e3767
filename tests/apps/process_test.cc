#include "wick/apps/process.h"

#include <gtest/gtest.h>

#include <csignal>

#include "wick/base/error.h"

namespace wick::apps {
namespace {

TEST(Process, CapturesBothOutputsAndTheExitCode) {
  const ProcessResult result = run_process({"sh", "-c", "echo out; echo err >&2; exit 7"});
  EXPECT_EQ(result.exit_code, 7);
  EXPECT_EQ(result.output, "out\nerr\n");
}

TEST(Process, ArgumentsAreNotForAShell) { EXPECT_EQ(run_process({"printf", "%s", "$HOME; `x` 'y'"}).output, "$HOME; `x` 'y'"); }

TEST(Process, StandardInputIsEmpty) { EXPECT_EQ(run_process({"cat"}).output, ""); }

TEST(Process, KeepsTheEndOfALongOutput) {
  const std::string output = run_process({"sh", "-c", "i=0; while [ $i -lt 40000 ]; do echo 123456789; i=$((i+1)); done; echo end"}).output;
  EXPECT_LE(output.size(), size_t{131072});
  EXPECT_EQ(output.substr(output.size() - 4), "end\n");
}

TEST(Process, ASignalAndAMissingProgram) {
  EXPECT_EQ(run_process({"sh", "-c", "kill -9 $$"}).exit_code, 137);
  try {
    run_process({"no-such-program-here"});
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kNotFound);
  }
}

TEST(LineProcess, AnswersLineByLine) {
  LineProcess process({"sh", "-c", "while read -r line; do echo \"got $line\"; done"}, true);
  EXPECT_EQ(process.ask("one"), "got one");
  EXPECT_EQ(process.ask("two $HOME"), "got two $HOME");
}

TEST(LineProcess, AProgramThatEndsIsAnError) {
  std::signal(SIGPIPE, SIG_IGN);  // as the command does
  LineProcess process({"sh", "-c", "read -r line; echo $line"}, true);
  EXPECT_EQ(process.ask("first"), "first");
  EXPECT_THROW(process.ask("second"), Error);
  EXPECT_THROW(LineProcess({"no-such-program-here"}, true), Error);
}

}  // namespace
}  // namespace wick::apps
