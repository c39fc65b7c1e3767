#include "wick/apps/config_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "tests/apps/wick_process.h"
#include "tests/support/tiny_model.h"
#include "wick/base/error.h"

namespace wick::apps {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::string failure(const std::string& text) {
  try {
    parse_config(text, "F");
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInvalidFile);
    return error.what();
  }
  return "";
}

TEST(ConfigFile, ValuesOfEveryKind) {
  const auto entries = parse_config(
      "# all of it\r\n"
      "text = \"a # \\\"b\\\"\\n\\u00e9\\U0001F600\"  # the rest\n"
      "literal = 'C:\\n'\n\n"
      "count = +1_000\nshare=-0.5e-3\non = true\n"
      "\"quoted-key\" = ''\n"
      "[run]\n  list = [ 'a', # one\n \"b\",\n 3 ,]\n"
      "[ chat ]\ntext = \"again\"",
      "F");
  ASSERT_EQ(entries.size(), 8u);
  EXPECT_THAT(entries[0].values, ElementsAre("a # \"b\"\n\u00e9\U0001F600"));
  EXPECT_EQ(entries[0].where, "F:2");
  EXPECT_THAT(entries[1].values, ElementsAre("C:\\n"));
  EXPECT_THAT(entries[2].values, ElementsAre("1000"));
  EXPECT_THAT(entries[3].values, ElementsAre("-0.5e-3"));
  EXPECT_THAT(entries[4].values, ElementsAre("true"));
  EXPECT_EQ(entries[5].key, "quoted-key");
  EXPECT_THAT(entries[5].values, ElementsAre(""));
  EXPECT_FALSE(entries[5].list);
  EXPECT_EQ(entries[6].table, "run");
  EXPECT_TRUE(entries[6].list);
  EXPECT_THAT(entries[6].values, ElementsAre("a", "b", "3"));
  EXPECT_EQ(entries[7].table, "chat");
  EXPECT_TRUE(parse_config("", "F").empty());
  EXPECT_TRUE(parse_config("\n\n# nothing", "F").empty());
}

TEST(ConfigFile, WhatIsNotUnderstoodIsRefusedWithItsLine) {
  for (const char* bad : {"= 1",
                          "a",
                          "a =",
                          "a = b",
                          "a = [",
                          "a = [1",
                          "a = [1 2]",
                          "a = [[1]]",
                          "a = \"",
                          "a = \"b",
                          "a = \"b\n\"",
                          "a = '",
                          "a = 1 2",
                          "a = 1\nb 2",
                          "[",
                          "[]",
                          "]",
                          "[run",
                          "[run] a = 1",
                          "[[run]]",
                          "[a.b]",
                          "a.b = 1",
                          "a = {b = 1}",
                          "a = \"\"\"b\nc\"\"\"",
                          "a = \"\\q\"",
                          "a = \"\\",
                          "a = \"\\u12\"",
                          "a = \"\\u12",
                          "a = \"\\ud800\"",
                          "a = \"\\U00110000\"",
                          "a = \"\x1b\"",
                          "a = 1\na = 2",
                          "\xff = 1",
                          "a = \xff"}) {
    EXPECT_THAT(failure(bad), testing::StartsWith("F:")) << bad;
  }
  EXPECT_THAT(failure(std::string("a = \0", 5)), HasSubstr("F:1: "));
  EXPECT_THAT(failure("a = 1\n\nb = ?"), HasSubstr("F:3: expected a value"));
  EXPECT_THAT(failure("a = 1\n[t]\na = 1\na = 2"), HasSubstr("F:4: 'a' is set twice"));
  EXPECT_THAT(failure("\x1b[31m"), testing::Not(HasSubstr("\x1b")));
}

// A megabyte of anything is read at once: nothing is quadratic, nothing recurses.
TEST(ConfigFile, LongAndDeep) {
  constexpr size_t kLong = 1000000;
  for (const std::string& unit : {std::string("["), std::string("a"), std::string("a."), std::string("\""), std::string("'"),
                                  std::string("a=["), std::string("#"), std::string("\n"), std::string("\\")}) {
    std::string text = "[";
    while (text.size() < kLong) text += unit;
    failure(text);
    failure("a = " + text);
    failure("a = \"" + text);
  }
}

TEST(ConfigFile, AnyBytesEndInEntriesOrAnError) {
  const std::string valid = "a = \"b\\n\" # c\nd = [1, 'e', true]\n[run]\nf-g = -1.5\n";
  const std::string alphabet("[]{}=\"'\\,.#\n\r\t\0 a1u_+-\xff\xc3", 25);
  std::mt19937 generator(1);
  for (int round = 0; round < 20000; ++round) {
    std::string text = valid;
    for (int change = 0; change < 3; ++change) {
      const size_t at = generator() % text.size();
      if (generator() % 3 == 0) text.resize(at + 1);
      text[at] = alphabet[generator() % alphabet.size()];
    }
    failure(text);
  }
  for (size_t length = 0; length < valid.size(); ++length) failure(valid.substr(0, length));
}

TEST(ConfigCommand, FileErrorsAre3AndValueErrors2) {
  const test::TemporaryFolder folder;
  const test::TinyModelFile model;
  const auto run = [&](const std::string& config) {
    return test::run_wick({"run", "-m", model.path(), "-p", "x", "-n", "1", "--config", folder.write("c.toml", config)});
  };
  EXPECT_EQ(run("temperature = \"0\"").exit_code, 0);
  EXPECT_EQ(run("kv_type = 'q8_0'").exit_code, 0);
  EXPECT_EQ(run("stop = ['a', 'b']\nlogit-bias = ['1=2']").exit_code, 0);
  for (const char* bad : {"temperature = 0 0", "[run", "a = [", "\"", "x = nan"}) {
    const test::WickResult result = run(bad);
    EXPECT_EQ(result.exit_code, 3) << bad;
    EXPECT_THAT(result.err, HasSubstr("c.toml:1: ")) << bad;
  }
  for (const char* bad :
       {"temperature = -1", "temperature = true", "raw = 7", "top-k = 1.5", "kv-type = 'f8'", "temperature = [1]", "[run]\nfly = 1"}) {
    const test::WickResult result = run(bad);
    EXPECT_EQ(result.exit_code, 2) << bad;
    EXPECT_THAT(result.err, HasSubstr("c.toml:")) << bad;
    EXPECT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), 1) << result.err;
  }
  for (const char* path : {"/dev/null", "/", "/none", "", "\x1b"})
    EXPECT_EQ(test::run_wick({"run", "-p", "x", "--config", path}).exit_code, *path ? 3 : 2) << path;
  EXPECT_EQ(run(std::string(2000000, '#')).exit_code, 5);
}

// A section of the command beats what is said for all; lists fill flags that may be repeated.
TEST(ConfigCommand, SectionsAndLists) {
  const test::TemporaryFolder folder;
  const test::TinyModelFile model;
  const std::string config = folder.write("c.toml",
                                          "max-tokens = 9\nlogit-bias = ['65=1000']\n[chat]\nmax-tokens = 1\n[run]\nmax-tokens = 3\nraw = "
                                          "true\nignore-eos = true\n[score]\nwindow = 2\n");
  const test::WickResult result = test::run_wick({"--config", config, "run", "-m", model.path(), "-p", "x", "--json"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(result.json()["text"], "AAA");
  EXPECT_EQ(test::run_wick({"run", "-m", model.path(), "-p", "x", "--json"},
                           {.environment = {{"WICK_CONFIG", config}, {"WICK_LOGIT_BIAS", "66=1000"}}})
                .json()["text"],
            "BBB");
}

}  // namespace
}  // namespace wick::apps
