// The command from outside: help, exit codes, errors.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/apps/wick_process.h"
#include "tests/support/tiny_model.h"

namespace wick::test {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::StartsWith;

const char* const kCommands[] = {"run", "chat", "tokenize", "score", "logits", "bench", "bench-ops", "inspect", "quantize", "synth", "pull", "list", "doctor"};

// One line that says what is wrong, nothing on standard output.
void expect_failure(const WickResult& result, int exit_code, const std::string& text) {
  EXPECT_EQ(result.exit_code, exit_code) << result.err;
  EXPECT_EQ(result.out, "");
  EXPECT_THAT(result.err, AllOf(StartsWith("wick: error: "), HasSubstr(text)));
  EXPECT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), 1) << result.err;
}

TEST(CommandLine, HelpAndVersion) {
  const WickResult help = run_wick({"--help"});
  EXPECT_EQ(help.exit_code, 0);
  for (const char* command : kCommands) {
    EXPECT_THAT(help.out, HasSubstr(command));
    const WickResult own = run_wick({command, "--help"});
    EXPECT_EQ(own.exit_code, 0);
    EXPECT_THAT(own.out, HasSubstr(std::string("Usage: wick ") + command));
    EXPECT_EQ(own.err, "");
  }
  EXPECT_THAT(run_wick({"--version"}).out, StartsWith("wick "));
  EXPECT_TRUE(run_wick({"--version", "--json"}).json()["version"].is_string());
}

TEST(CommandLine, UsageErrorsAre2) {
  const WickResult bare = run_wick({});
  EXPECT_EQ(bare.exit_code, 2);
  EXPECT_THAT(bare.err, HasSubstr("Usage: wick"));
  expect_failure(run_wick({"fly"}), 2, "unknown command 'fly'");
  expect_failure(run_wick({"run", "--bogus"}), 2, "--bogus");
  expect_failure(run_wick({"run", "a", "b", "c"}), 2, "c");
  expect_failure(run_wick({"run", "-p", "x", "-f", "y"}), 2, "--prompt and --file");
  expect_failure(run_wick({"run", "-p"}), 2, "--prompt");
  for (const char* bad : {"nan", "inf", "-1", "1e308", "x", "", "0x1", "1 ", "null", "[]"}) {
    expect_failure(run_wick({"run", "-p", "x", "--temperature", bad}), 2, "--temperature");
  }
  for (const char* flag : {"--max-tokens", "--ctx", "--threads", "--top-k"}) {
    for (const char* bad : {"-1", "2.5", "9223372036854775808", "1e308", "nan", "x", ""}) expect_failure(run_wick({"run", "-p", "x", flag, bad}), 2, flag);
  }
  expect_failure(run_wick({"run", "-p", "x", "--kv-type", "q3"}), 2, "'q3' is not one of f32, bf16, f16, q8_0");
  expect_failure(run_wick({"tokenize", "--decode"}), 2, "--ids");
  expect_failure(run_wick({"tokenize", "--decode", "--ids", "1,x"}), 2, "x");
}

TEST(CommandLine, ModelsThatAreNotThereOrNotModelsAre3) {
  const TemporaryFolder folder;
  expect_failure(run_wick({"run", "-m", folder.path() + "/none.gguf", "-p", "x"}), 3, "no model");
  expect_failure(run_wick({"run", "-m", "/dev/null", "-p", "x"}), 3, "not a regular file");
  expect_failure(run_wick({"run", "-m", folder.write("empty.gguf", ""), "-p", "x"}), 3, "empty.gguf");
  expect_failure(run_wick({"run", "-m", folder.write("text.gguf", "hello, I am no model"), "-p", "x"}), 3, "text.gguf");
  const std::string whole = tiny_model_bytes();
  expect_failure(run_wick({"run", "-m", folder.write("cut.gguf", whole.substr(0, whole.size() / 2)), "-p", "x"}), 3, "cut.gguf");
  expect_failure(run_wick({"inspect", folder.path() + "/none.gguf"}), 3, "none.gguf");
  expect_failure(run_wick({"run", "-m", TinyModelFile().path() + "x", "-f", "/none"}), 3, "");
  // Terminal escapes and line breaks in a name stay where they are harmless.
  const WickResult escaped = run_wick({"run", "-m", "\x1b[31mred\n\xff", "-p", "x"});
  EXPECT_EQ(escaped.exit_code, 3);
  EXPECT_EQ(escaped.err.find('\x1b'), std::string::npos);
  EXPECT_EQ(std::count(escaped.err.begin(), escaped.err.end(), '\n'), 1);
}

TEST(CommandLine, UnsupportedIs4AndTooMuchIs5) {
  const TinyModelFile model;
  expect_failure(run_wick({"run", "-m", model.path(), "-p", "x", "--device", "cuda"}), 4, "device 'cuda' is not available");
  expect_failure(run_wick({"run", "-m", model.path(), "-p", "x", "--ctx", "100000"}), 5, "longer than the model's 512");
  TinyModel other;
  other.change_metadata = [](Metadata& metadata) {
    Metadata changed;
    for (const auto& [key, value] : metadata.values()) changed.insert(key, key == "general.architecture" ? MetadataValue(std::string("squid\x1b")) : value);
    metadata = changed;
  };
  const TinyModelFile squid(other);
  const WickResult result = run_wick({"run", "-m", squid.path(), "-p", "x"});
  expect_failure(result, 4, "squid");
  EXPECT_EQ(result.err.find('\x1b'), std::string::npos);
  expect_failure(run_wick({"run", "-m", model.path(), "--raw", "-p", std::string(3000, 'x'), "-n", "1"}), 5, "512");
}

TEST(CommandLine, FlagsComeFromLineEnvironmentAndFile) {
  const TemporaryFolder folder;
  const TinyModelFile model;
  const std::string config = folder.write("wick.toml", "model = \"" + model.path() + "\"\nmax-tokens = 2\nraw = true\n[run]\ntemperature = 0\n[chat]\nfancy = 1\n");
  const auto count = [&](const std::vector<std::string>& more, const std::map<std::string, std::string>& environment) {
    std::vector<std::string> arguments = {"run", "-p", "x", "--json", "--ignore-eos"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    const WickResult result = run_wick(arguments, {.environment = environment});
    EXPECT_EQ(result.exit_code, 0) << result.err;
    return result.exit_code == 0 ? result.json()["ids"].size() : 0;
  };
  EXPECT_EQ(count({"--config", config}, {}), 2u);
  EXPECT_EQ(count({}, {{"WICK_CONFIG", config}}), 2u);
  EXPECT_EQ(count({"--config", config}, {{"WICK_MAX_TOKENS", "3"}}), 3u);
  EXPECT_EQ(count({"--config", config}, {{"WICK_N", "4"}}), 4u);
  EXPECT_EQ(count({"--config", config, "-n", "5"}, {{"WICK_N", "4"}}), 5u);
  EXPECT_EQ(count({"-m", model.path(), "-n", "1"}, {{"WICK_RAW", "1"}}), 1u);
  expect_failure(run_wick({"run", "-p", "x"}, {.environment = {{"WICK_TOP_K", "many"}}}), 2, "WICK_TOP_K");
  expect_failure(run_wick({"run", "-p", "x", "--config", folder.write("bad.toml", "[run]\nfly = 1\n")}), 2, "run has no flag --fly");
  expect_failure(run_wick({"run", "-p", "x", "--config", folder.write("bad2.toml", "top-k = \"many\"\n")}), 2, "top-k");
  expect_failure(run_wick({"run", "-p", "x", "--config", folder.path() + "/none"}), 3, "none");
}

TEST(CommandLine, OutputThatCannotBeWrittenIsAFailureNotACrash) {
  const TinyModelFile model;
  const std::vector<std::string> arguments = {"run", "-m", model.path(), "--raw", "-p", "x", "-n", "20", "--ignore-eos"};
  EXPECT_EQ(run_wick(arguments, {.out_path = "/dev/full"}).exit_code, 1);
  const WickResult closed = run_wick(arguments, {.close_output = true});
  EXPECT_EQ(closed.exit_code, 1);
}

TEST(CommandLine, ListAndDoctor) {
  const TemporaryFolder folder;
  const WickResult list = run_wick({"list", "--json"}, {.environment = {{"WICK_CACHE", folder.path()}}});
  EXPECT_EQ(list.exit_code, 0);
  EXPECT_THAT(list.out, HasSubstr("smollm2-135m"));
  const nlohmann::json doctor = run_wick({"doctor", "--json"}, {.environment = {{"WICK_CACHE", folder.path()}}}).json();
  for (const char* key : {"version", "features", "instruction_set", "threads", "physical_cores", "affinity", "quota", "memory_limit_bytes", "read_gb_s", "devices", "cache"}) {
    EXPECT_TRUE(doctor.contains(key)) << key;
  }
}

}  // namespace
}  // namespace wick::test
