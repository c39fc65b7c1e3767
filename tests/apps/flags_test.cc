#include "wick/apps/flags.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>

#include "wick/base/error.h"

namespace wick::apps {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

class FlagsTest : public testing::Test {
 protected:
  FlagsTest() {
    flags.positional("MODEL", model, "a model");
    flags.positional("PROMPT", prompt, "a prompt");
    flags.integer("-t,--test-count", "N", 1, 10, count, "how many");
    flags.number("--test-heat,--heat", "T", 0, 2, heat, "how hot");
    flags.text("-p,--test-text", "TEXT", text, "what");
    flags.choice("--test-kind", "KIND", {"a", "b"}, kind, "which");
    flags.toggle("--test-on", on, "whether");
    flags.custom("--stop", "S", [this](const std::string& value) { stops.push_back(value); }, "where", true);
  }
  ~FlagsTest() override {
    for (const char* name : {"WICK_TEST_COUNT", "WICK_HEAT", "WICK_TEST_ON", "WICK_TEST_KIND"}) ::unsetenv(name);
  }

  std::string failure(std::vector<std::string> arguments) {
    try {
      flags.parse(std::move(arguments));
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
      return error.what();
    }
    return "";
  }

  Flags flags{"wick test", "For tests"};
  std::optional<std::string> model, prompt, text, kind;
  std::optional<int64_t> count;
  std::optional<double> heat;
  std::vector<std::string> stops;
  bool on = false;
};

TEST_F(FlagsTest, FillsEveryKind) {
  ASSERT_TRUE(flags.parse({"m", "-t", "3", "--heat=0.5", "--test-on", "--stop", "x", "--stop=y", "hello there", "--test-kind", "b"}));
  EXPECT_EQ(model, "m");
  EXPECT_EQ(prompt, "hello there");
  EXPECT_EQ(count, 3);
  EXPECT_EQ(heat, 0.5);
  EXPECT_TRUE(on);
  EXPECT_THAT(stops, ElementsAre("x", "y"));
  EXPECT_EQ(kind, "b");
  EXPECT_TRUE(flags.on_command_line("--test-count"));
  EXPECT_FALSE(flags.on_command_line("--test-text"));
}

TEST_F(FlagsTest, NothingGivenLeavesTargetsAlone) {
  ASSERT_TRUE(flags.parse({}));
  EXPECT_FALSE(model || prompt || text || count || heat || on);
}

TEST_F(FlagsTest, TheLastOfARepeatedScalarWins) {
  ASSERT_TRUE(flags.parse({"-t", "3", "-t", "4", "--test-on", "--test-on"}));
  EXPECT_EQ(count, 4);
  EXPECT_TRUE(on);
}

TEST_F(FlagsTest, TextsMayLookLikeAnything) {
  for (const char* value : {"--test-on", "-t", "- item", "[1,2]", "{}", "", "a,b", "%%", "'quoted'", "/slash", "--"}) {
    text.reset();
    Flags fresh("wick test", "");
    fresh.text("-p,--test-text", "TEXT", text, "");
    ASSERT_TRUE(fresh.parse({"-p", value})) << value;
    EXPECT_EQ(text, value);
  }
}

TEST_F(FlagsTest, PositionalsMayLookLikeListsAndNeedTwoDashesToLookLikeFlags) {
  ASSERT_TRUE(flags.parse({"[a, b]", "--", "--test-on"}));
  EXPECT_EQ(model, "[a, b]");
  EXPECT_EQ(prompt, "--test-on");
  EXPECT_FALSE(on);
}

TEST_F(FlagsTest, CommandLineBeatsEnvironment) {
  ::setenv("WICK_TEST_COUNT", "7", 1);
  ::setenv("WICK_HEAT", "1.5", 1);
  ::setenv("WICK_TEST_ON", "true", 1);
  ::setenv("WICK_TEST_KIND", "", 1);
  ASSERT_TRUE(flags.parse({"-t", "3"}));
  EXPECT_EQ(count, 3);
  EXPECT_EQ(heat, 1.5);
  EXPECT_TRUE(on);
  EXPECT_FALSE(kind);
  ASSERT_TRUE(flags.parse({"--test-on=false"}));
  EXPECT_EQ(count, 7);
  EXPECT_FALSE(on);
}

TEST_F(FlagsTest, ErrorsNameTheSource) {
  EXPECT_THAT(failure({"-t", "11"}), HasSubstr("--test-count: 11 is out of range, expected 1 to 10"));
  EXPECT_THAT(failure({"-t", "1x"}), HasSubstr("--test-count: '1x' is not a whole number"));
  EXPECT_THAT(failure({"--heat", "nan"}), HasSubstr("--test-heat"));
  EXPECT_THAT(failure({"--test-kind", "c"}), HasSubstr("a, b"));
  EXPECT_THAT(failure({"-t"}), HasSubstr("--test-count"));
  EXPECT_THAT(failure({"--nonsense"}), HasSubstr("--nonsense"));
  EXPECT_THAT(failure({"a", "b", "c"}), HasSubstr("c"));
  ::setenv("WICK_TEST_COUNT", "-1", 1);
  EXPECT_THAT(failure({}), HasSubstr("WICK_TEST_COUNT: -1 is out of range"));
}

TEST_F(FlagsTest, Help) {
  EXPECT_FALSE(flags.parse({"--help"}));
  EXPECT_FALSE(flags.parse({"-t", "x", "-h"}));
  EXPECT_THAT(flags.help(), HasSubstr("wick test [MODEL] [PROMPT] [FLAGS]"));
  EXPECT_THAT(flags.help(), HasSubstr("--test-count N"));
}

}  // namespace
}  // namespace wick::apps
