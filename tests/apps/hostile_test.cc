// Arguments, files and environments that mean no good, and outputs that fail: one line and a clear exit code, never a crash or a wait.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>

#include "tests/apps/wick_process.h"
#include "tests/support/tiny_model.h"

namespace wick::test {
namespace {

using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

const std::string kEvil = "\x1b[31m\x07\x7f\xc2\x9b\xff\xe2\x82";

// Nothing that a terminal obeys or cannot decode.
void expect_harmless(const std::string& text) {
  for (const char* bad : {"\x1b", "\x07", "\x7f", "\xc2\x9b", "\xff"}) EXPECT_THAT(text, Not(HasSubstr(bad)));
}

void expect_one_line(const WickResult& result, int exit_code) {
  EXPECT_EQ(result.exit_code, exit_code) << result.err;
  EXPECT_THAT(result.err, StartsWith("wick: error: "));
  EXPECT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), 1) << result.err;
  expect_harmless(result.err);
}

// A tiny model in which the text `value` stands under a key that was there, or a new one.
TinyModel with_metadata(const std::string& name, const MetadataValue& value) {
  TinyModel tiny;
  tiny.change_metadata = [name, value](Metadata& metadata) {
    Metadata changed;
    for (const auto& [key, old] : metadata.values()) {
      if (key != name) changed.insert(key, old);
    }
    changed.insert(name, value);
    metadata = changed;
  };
  return tiny;
}

TEST(Hostile, ArgumentsAreShownEscaped) {
  const TinyModelFile model;
  expect_one_line(run_wick({kEvil}), 2);
  expect_one_line(run_wick({"run", "--" + kEvil}), 2);
  expect_one_line(run_wick({"run", "-m", model.path(), "-p", "x", "--device", kEvil}), 4);
  expect_one_line(run_wick({"run", "-m", kEvil, "-p", "x"}), 3);
  expect_one_line(run_wick({"run", "-m", model.path(), "-f", kEvil}), 3);
  expect_one_line(run_wick({"run", "-m", model.path(), "--messages", kEvil}), 3);
  expect_one_line(run_wick({"run", "-m", model.path(), "--config", kEvil, "x"}), 3);
  for (const char* flag : {"--temperature", "--seed", "--kv-type", "--logit-bias", "--threads", "--log-level"}) {
    expect_one_line(run_wick({"run", "-m", model.path(), "-p", "x", flag, kEvil}), 2);
  }
  expect_one_line(run_wick({"tokenize", "-m", model.path(), "--decode", "--ids", kEvil}), 2);
  expect_one_line(run_wick({"logits", "-m", model.path(), "-p", "x", "--out", "/none/" + kEvil}), 1);
  expect_one_line(run_wick({"pull", kEvil}), 3);
  expect_one_line(run_wick({"run", "-p", "x"}, {.environment = {{"WICK_THREADS", kEvil}}}), 2);
  expect_one_line(run_wick({"doctor", "extra" + kEvil}), 2);
  expect_one_line(run_wick({"run", "-m", model.path(), "-p", "x"}, {.environment = {{"WICK_CPU", kEvil}}}), 4);
}

TEST(Hostile, EveryNumberIsCheckedBeforeTheModelIsLoaded) {
  const std::vector<std::string> floats = {"--temperature", "--top-p", "--min-p", "--repeat-penalty"};
  const std::vector<std::string> integers = {"--threads", "--ctx", "--max-tokens", "--top-k", "--seed"};
  for (const std::string& flag : floats) {
    for (const char* bad : {"nan", "-nan", "inf", "-1", "1e308", "1e400", "\"1\"", "null", "[]", ""})
      expect_one_line(run_wick({"run", "x", flag, bad}), 2);
  }
  for (const std::string& flag : integers) {
    for (const char* bad : {"-1", "1e3", "18446744073709551616", "nan", "0x10", "\"1\"", "null", "[]", "", " 1"})
      expect_one_line(run_wick({"run", "x", flag, bad}), 2);
  }
  for (const char* bad : {"", "=", "1", "1=", "=1", "-1=1", "1=nan", "1=inf", "1=1e39", "1=1,", "99999999999=1", "1=1;2=1"}) {
    expect_one_line(run_wick({"run", "x", "--logit-bias", bad}), 2);
  }
  for (const char* bad : {"", ",", "1,", "-1", "2147483648", "1;2", "1.5"})
    expect_one_line(run_wick({"logits", "--ids", bad, "--out", "x.npy"}), 2);
  for (const std::string flag : {"-p", "-n", "-d", "-r", "--sequences"}) expect_one_line(run_wick({"bench", flag, "-1"}), 2);
  expect_one_line(run_wick({"bench", "-p", "0", "-n", "0"}), 2);
  expect_one_line(run_wick({"score", "-p", "x y", "--window", "1"}), 2);
}

TEST(Hostile, CombinationsThatContradict) {
  const TinyModelFile model;
  const std::vector<std::vector<std::string>> rows = {{"-p", "a", "-f", "b"},
                                                      {"a", "-p", "b"},
                                                      {"a", "-f", "b"},
                                                      {"a", "--messages", "b"},
                                                      {"-p", "a", "--messages", "b"},
                                                      {"--raw", "a", "--system", "b"},
                                                      {"--raw", "--messages", "a"},
                                                      {"--stop", "", "a"},
                                                      {"-p", ""},
                                                      {"--exact", "--kv-type", "q8_0", "a"}};
  for (std::vector<std::string> arguments : rows) {
    arguments.insert(arguments.begin(), {"run", "-m", model.path()});
    expect_one_line(run_wick(arguments, {.input = ""}), 2);
  }
  expect_one_line(run_wick({"run", "-m", model.path()}, {.input = ""}), 2);  // no text at all
  expect_one_line(run_wick({"tokenize", "-m", model.path(), "--ids", "1"}), 2);
  expect_one_line(run_wick({"tokenize", "-m", model.path(), "--decode", "--ids", "1", "-p", "x"}), 2);
  expect_one_line(run_wick({"logits", "-m", model.path(), "-p", "x"}), 2);
  expect_one_line(run_wick({"logits", "-m", model.path(), "-p", "x", "--ids", "1", "--out", "x.npy"}), 2);
  expect_one_line(run_wick({"inspect", model.path(), "-m", model.path()}), 2);
}

TEST(Hostile, ModelsThatAreOtherThings) {
  const TemporaryFolder folder;
  const std::string fifo = folder.path() + "/fifo.gguf", loop = folder.path() + "/loop.gguf";
  ASSERT_EQ(::mkfifo(fifo.c_str(), 0600), 0);
  std::filesystem::create_symlink(loop, loop);
  for (const std::string& path :
       {fifo, loop, folder.path(), std::string("/dev/null"), std::string("/dev/zero"), folder.path() + "/" + std::string(100000, 'a'),
        folder.write("zeros.gguf", std::string(4096, '\0')), std::string("../../x"), std::string("")}) {
    expect_one_line(run_wick({"run", "-m", path, "-p", "x"}), 3);
    expect_one_line(run_wick({"inspect", "-m", path}), 3);
    expect_one_line(run_wick({"tokenize", "-m", path, "-p", "x"}), 3);
  }
  expect_one_line(run_wick({"run", "-m", TinyModelFile().path(), "-f", fifo}), 3);
}

TEST(Hostile, ATruncatedModelAtAnyLength) {
  const TemporaryFolder folder;
  const std::string whole = tiny_model_bytes();
  for (size_t length = 0; length < whole.size(); length += whole.size() / 40 + 1) {
    expect_one_line(run_wick({"run", "-m", folder.write("cut.gguf", whole.substr(0, length)), "-p", "x"}), 3);
  }
}

TEST(Hostile, MetadataIsShownEscaped) {
  for (const char* key : {"general.name", "general.description", "general.architecture", "tokenizer.ggml.pre", "tokenizer.ggml.model",
                          "tokenizer.chat_template"}) {
    const TinyModelFile model(with_metadata(key, std::string(kEvil)));
    const WickResult text = run_wick({"inspect", model.path()});
    EXPECT_EQ(text.exit_code, 0) << text.err;
    EXPECT_THAT(text.out, HasSubstr("\\x1b[31m"));
    expect_harmless(text.out);
    EXPECT_TRUE(run_wick({"inspect", model.path(), "--json"}).json().is_object()) << key;
    const WickResult run = run_wick({"run", "-m", model.path(), "-p", "x", "-n", "1", "--json", "--log-level", "debug"});
    expect_harmless(run.err);
    EXPECT_LE(run.exit_code, 5) << key;
    EXPECT_TRUE(run.exit_code != 0 || run.json().is_object()) << key;
  }
  const TinyModelFile named(with_metadata("general.name", std::string(kEvil)));
  const WickResult bench = run_wick({"bench", named.path(), "-p", "2", "-n", "2", "-r", "1"});
  EXPECT_EQ(bench.exit_code, 0) << bench.err;
  expect_harmless(bench.out);
  TinyModel keyed;
  keyed.change_metadata = [](Metadata& metadata) { metadata.insert("x" + kEvil, std::vector<std::string>{kEvil}); };
  const WickResult inspect = run_wick({"inspect", TinyModelFile(keyed).path()});
  expect_harmless(inspect.out);
  expect_harmless(inspect.err);
}

TEST(Hostile, NamesInTheCacheAndTheEnvironmentAreShownEscaped) {
  const TemporaryFolder folder;
  const std::map<std::string, std::string> environment = {{"WICK_CACHE", folder.path() + "/" + kEvil}, {"WICK_" + kEvil, kEvil}};
  folder.write(kEvil + "/models/good.gguf", "x");
  folder.write(kEvil + "/models/" + kEvil + ".gguf", "x");
  const WickResult list = run_wick({"list"}, {.environment = environment});
  EXPECT_EQ(list.exit_code, 0) << list.err;
  EXPECT_THAT(list.out, HasSubstr("good"));
  expect_harmless(list.out);
  EXPECT_EQ(run_wick({"list", "--json"}, {.environment = environment}).json()["models"].size(), 2u);
  const WickResult doctor = run_wick({"doctor"}, {.environment = environment});
  EXPECT_EQ(doctor.exit_code, 0) << doctor.err;
  expect_harmless(doctor.out);
  EXPECT_TRUE(run_wick({"doctor", "--json"}, {.environment = environment}).json().is_object());
}

TEST(Hostile, PromptsOfAnyBytesAreAnsweredInValidJson) {
  const TinyModelFile model;
  for (const std::string& prompt :
       {kEvil, std::string("\xed\xa0\x80"), std::string("\xf4\x90\x80\x80"), std::string("\xc0\x80"), std::string("{{ 7 }} {% raw %}")}) {
    const WickResult result = run_wick({"run", "-m", model.path(), "-p", prompt, "-n", "3", "--json"});
    EXPECT_EQ(result.exit_code, 0) << result.err;
    EXPECT_TRUE(result.json()["text"].is_string());
    EXPECT_TRUE(run_wick({"tokenize", "-m", model.path(), "-p", prompt, "--json"}).json()["pieces"].is_array());
    expect_harmless(run_wick({"tokenize", "-m", model.path(), "-p", prompt}).out);
  }
}

// A request whose numbers are not finite fails with a line of its own.
TEST(Hostile, NanInTheWeights) {
  TinyModel tiny;
  tiny.nan_weight_in_layer = 1;
  const TinyModelFile model(tiny);
  expect_one_line(run_wick({"run", "-m", model.path(), "--raw", "-p", "x", "--temperature", "0"}), 1);
  expect_one_line(run_wick({"run", "-m", model.path(), "--raw", "-p", "x", "--json"}), 1);
  expect_one_line(run_wick({"score", "-m", model.path(), "-p", "xyz"}), 1);
  const WickResult chat = run_wick({"chat", "-m", model.path()}, {.input = "hello\n/help\n"});
  EXPECT_EQ(chat.exit_code, 0);
  EXPECT_THAT(chat.err, HasSubstr("wick: error: "));
  EXPECT_THAT(chat.err, HasSubstr("/reset"));  // it goes on
}

TEST(Hostile, AFullDiskFailsEveryCommand) {
  const TinyModelFile model;
  const std::string m = model.path();
  const std::vector<std::vector<std::string>> commands = {{"--help"},
                                                          {"--version"},
                                                          {"--version", "--json"},
                                                          {"run", "--help"},
                                                          {"run", "-m", m, "x", "-n", "3"},
                                                          {"run", "-m", m, "x", "-n", "3", "--json"},
                                                          {"tokenize", "-m", m, "-p", "x"},
                                                          {"tokenize", "-m", m, "--decode", "--ids", "1"},
                                                          {"score", "-m", m, "-p", "xyz"},
                                                          {"inspect", m},
                                                          {"inspect", m, "--json"},
                                                          {"bench", m, "-p", "2", "-n", "0", "-r", "1"},
                                                          {"list"},
                                                          {"doctor"}};
  for (const std::vector<std::string>& command : commands) {
    const WickResult full = run_wick(command, {.out_path = "/dev/full"});
    EXPECT_EQ(full.exit_code, 1) << command[0];
    EXPECT_THAT(full.err, HasSubstr("wick: error: cannot write to standard output: ")) << command[0];
  }
  EXPECT_EQ(run_wick({"list"}, {.close_output = true}).exit_code, 1);
  EXPECT_EQ(run_wick({"chat", "-m", m, "-n", "3"}, {.input = "hello\n", .out_path = "/dev/full"}).exit_code, 1);
}

// An output file that is no file is not replaced by one.
TEST(Hostile, DevicesSurviveAsOutput) {
  const TinyModelFile model;
  const TemporaryFolder folder;
  const std::string fifo = folder.path() + "/fifo";
  ASSERT_EQ(::mkfifo(fifo.c_str(), 0600), 0);
  for (const std::string& path : {fifo, folder.path()}) {
    expect_one_line(run_wick({"logits", "-m", model.path(), "-p", "x", "--out", path}), 1);
    EXPECT_FALSE(std::filesystem::is_regular_file(path));
  }
  EXPECT_EQ(folder.files(), std::vector<std::string>{"fifo"});
}

}  // namespace
}  // namespace wick::test
