// What a person at a terminal sees: conversations, Ctrl-C, colour, and no control characters of others.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/apps/wick_process.h"
#include "tests/apps/wick_session.h"
#include "tests/support/tiny_model.h"

namespace wick::test {
namespace {

using testing::HasSubstr;
using testing::Not;

// Answers "AAAA…" for seconds unless it is stopped.
TinyModel long_winded() {
  TinyModel tiny;
  tiny.context = 1 << 17;
  return tiny;
}
std::vector<std::string> endless(const std::string& command, const std::string& model) {
  return {command, "-m", model, "--temperature", "0", "--logit-bias", "65=1000", "--ignore-eos", "--no-color"};
}

TEST(Terminal, AConversation) {
  WICK_REQUIRE_TERMINAL();
  const TinyModelFile model;
  WickSession chat({"chat", "-m", model.path(), "--temperature", "0", "-n", "4", "--logit-bias", "65=1000"},
                   {.terminal = true, .environment = {{"TERM", "xterm"}}});
  ASSERT_TRUE(chat.wait_for("/help lists the commands"));
  ASSERT_TRUE(chat.wait_for("> "));
  chat.send("hello\n");
  ASSERT_TRUE(chat.wait_for("AAAA"));
  ASSERT_TRUE(chat.wait_for("> "));
  chat.send("/help\n");
  ASSERT_TRUE(chat.wait_for("/reset"));
  ASSERT_TRUE(chat.wait_for("> "));
  chat.send("\x03");
  ASSERT_TRUE(chat.wait_for("(Ctrl-D leaves)"));
  ASSERT_TRUE(chat.wait_for("> "));
  chat.send("\x04");
  EXPECT_EQ(chat.finish(), 0);
}

TEST(Terminal, RunWithoutAPromptIsAConversation) {
  WICK_REQUIRE_TERMINAL();
  const TinyModelFile model;
  WickSession chat({"run", "-m", model.path(), "--temperature", "0", "-n", "4", "--logit-bias", "65=1000"}, {.terminal = true});
  ASSERT_TRUE(chat.wait_for("> "));
  chat.send("hello\n");
  EXPECT_TRUE(chat.wait_for("AAAA"));
  chat.send("/exit\n");
  EXPECT_EQ(chat.finish(), 0);
}

TEST(Terminal, CtrlCStopsTheAnswerButNotTheConversation) {
  WICK_REQUIRE_TERMINAL();
  const TinyModelFile model(long_winded());
  WickSession chat(endless("chat", model.path()), {.terminal = true});
  for (int i = 0; i < 2; ++i) {
    ASSERT_TRUE(chat.wait_for("> "));
    chat.send("hello\n");
    ASSERT_TRUE(chat.wait_for("AAAA"));
    chat.send("\x03");
  }
  ASSERT_TRUE(chat.wait_for("> "));
  chat.send("/exit\n");
  EXPECT_EQ(chat.finish(), 0);
}

TEST(Terminal, AnInterruptStopsTheAnswerOfAPipeTooAndOnlyThatOne) {
  const TinyModelFile model(long_winded());
  constexpr int kTokens = 6000;
  std::vector<std::string> arguments = endless("chat", model.path());
  arguments.insert(arguments.end(), {"-n", std::to_string(kTokens)});
  const TemporaryFolder folder;
  WickSession chat(arguments, {.errors = folder.path() + "/errors"});
  chat.send("hello\n");
  ASSERT_TRUE(chat.wait_for("AAAA"));
  chat.interrupt();
  ASSERT_TRUE(chat.wait_for("\n"));
  chat.send("hello\n");
  EXPECT_TRUE(chat.wait_for(std::string(kTokens, 'A') + "\n"));
  chat.close_input();
  EXPECT_EQ(chat.finish(), 0);
}

TEST(Terminal, CtrlCEndsRunWith130) {
  WICK_REQUIRE_TERMINAL();
  const TinyModelFile model(long_winded());
  std::vector<std::string> arguments = endless("run", model.path());
  arguments.push_back("hello");
  for (const bool terminal : {false, true}) {
    WickSession run(arguments, {.terminal = terminal});
    ASSERT_TRUE(run.wait_for("AAAA"));
    terminal ? run.send("\x03") : run.interrupt();
    EXPECT_EQ(run.finish(), 130);
  }
}

TEST(Terminal, AReaderThatGoesAwayEndsTheCommandQuietly) {
  const TinyModelFile model(long_winded());
  const TemporaryFolder folder;
  for (const char* command : {"run", "chat"}) {
    std::vector<std::string> arguments = endless(command, model.path());
    if (command[0] == 'r') arguments.push_back("hello");
    const std::string errors = folder.path() + "/" + command;
    WickSession session(arguments, {.errors = errors});
    if (command[0] == 'c') session.send("hello\n");
    ASSERT_TRUE(session.wait_for("AAAA"));
    session.close_output();
    EXPECT_EQ(session.finish(), 1) << command;
    EXPECT_THAT(read_all(errors), Not(HasSubstr("error")));
  }
}

TEST(Terminal, ColourOnlyWhereItIsWanted) {
  WICK_REQUIRE_TERMINAL();
  const auto error = [](const std::vector<std::string>& more, const std::map<std::string, std::string>& environment) {
    std::vector<std::string> arguments = {"run", "-m", "/none.gguf", "-p", "x"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    std::map<std::string, std::string> all = {{"TERM", "xterm"}};
    for (const auto& [name, value] : environment) all[name] = value;
    WickSession run(arguments, {.terminal = true, .environment = all});
    EXPECT_EQ(run.finish(), 3);
    return run.output();
  };
  EXPECT_THAT(error({}, {}), HasSubstr("\x1b["));
  EXPECT_THAT(error({"--no-color"}, {}), Not(HasSubstr("\x1b")));
  EXPECT_THAT(error({}, {{"NO_COLOR", "1"}}), Not(HasSubstr("\x1b")));
  EXPECT_THAT(error({}, {{"WICK_NO_COLOR", "1"}}), Not(HasSubstr("\x1b")));
  EXPECT_THAT(error({}, {{"TERM", "dumb"}}), Not(HasSubstr("\x1b")));
}

// A model that answers with an escape sequence: whole to a pipe, harmless to a terminal.
TEST(Terminal, TheModelDoesNotSteerIt) {
  WICK_REQUIRE_TERMINAL();
  const TinyModelFile model;
  for (const char* bias : {"27=1000", "127=1000", "7=1000"}) {
    const std::vector<std::string> arguments = {"run",           "-m", model.path(),   "--raw", "-p",        "x", "-n", "3",
                                                "--temperature", "0",  "--logit-bias", bias,    "--no-color"};
    const WickResult piped = run_wick(arguments);
    EXPECT_GE(piped.out.size(), 4u);
    WickSession shown(arguments, {.terminal = true});
    EXPECT_EQ(shown.finish(), 0);
    EXPECT_THAT(shown.output(), HasSubstr("\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"));
    for (const char* bad : {"\x1b", "\x07", "\x7f"}) EXPECT_THAT(shown.output(), Not(HasSubstr(bad))) << bias;
  }
}

TEST(Terminal, NorDoesItsName) {
  WICK_REQUIRE_TERMINAL();
  TinyModel tiny;
  tiny.change_metadata = [](Metadata& metadata) {
    Metadata changed;
    for (const auto& [key, value] : metadata.values())
      changed.insert(key, key == "general.name" ? MetadataValue(std::string("\x1b]0;x\x07\xc2\x9b")) : value);
    metadata = changed;
  };
  const TinyModelFile model(tiny);
  WickSession chat({"chat", "-m", model.path(), "--no-color"}, {.terminal = true});
  ASSERT_TRUE(chat.wait_for("> "));
  chat.send("\x04");
  EXPECT_EQ(chat.finish(), 0);
  EXPECT_THAT(chat.output(), HasSubstr("\\x1b]0;x\\x07\\xc2\\x9b"));
  EXPECT_THAT(chat.output(), Not(HasSubstr("\x1b")));
}

}  // namespace
}  // namespace wick::test
