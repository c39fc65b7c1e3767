#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "tests/apps/wick_process.h"
#include "tests/support/reference.h"
#include "tests/support/tiny_model.h"

namespace wick::test {
namespace {

using nlohmann::json;
using testing::HasSubstr;

class Run : public testing::Test {
 protected:
  std::vector<std::string> arguments(const std::vector<std::string>& more) const {
    std::vector<std::string> all = {"run", "-m", model_.path(), "--raw", "--temperature", "0", "-n", "12", "--ignore-eos"};
    all.insert(all.end(), more.begin(), more.end());
    return all;
  }
  WickResult run(const std::vector<std::string>& more, const WickOptions& options = {}) const {
    WickResult result = run_wick(arguments(more), options);
    EXPECT_EQ(result.exit_code, 0) << result.err;
    return result;
  }
  TinyModelFile model_;
};

TEST_F(Run, JsonHasTheFieldsThatScriptsRead) {
  const json j = run({"-p", "hello", "--json", "--seed", "7"}).json();
  EXPECT_EQ(j["prompt_ids"], json({258, 'o'}));  // "hell", "o"
  EXPECT_EQ(j["ids"].size(), 12u);
  EXPECT_TRUE(j["text"].is_string());
  EXPECT_EQ(j["finish_reason"], "length");
  EXPECT_EQ(j["seed"], 7);
  for (const char* key : {"load_ms", "prompt_tokens", "prompt_tok_s", "first_token_ms", "gen_tokens", "gen_tok_s"})
    EXPECT_TRUE(j["timings"][key].is_number()) << key;
  EXPECT_EQ(j["timings"]["prompt_tokens"], 2);
  EXPECT_EQ(j["timings"]["gen_tokens"], 12);
}

TEST_F(Run, TheTextIsOnStandardOutputAndNothingElse) {
  const json j = run({"-p", "hello", "--json"}).json();
  const WickResult plain = run({"-p", "hello"});
  EXPECT_EQ(plain.out, j["text"].get<std::string>() + "\n");
  EXPECT_EQ(plain.err, "");
  const WickResult sampled = run({"-p", "hello", "--temperature", "1"});
  EXPECT_THAT(sampled.err, HasSubstr("wick: seed "));
}

TEST_F(Run, ThePromptComesFromWhereItIsGiven) {
  const TemporaryFolder folder;
  const std::string expected = run({"-p", "hello"}).out;
  EXPECT_EQ(run({"hello"}).out, expected);
  EXPECT_EQ(run({"-f", folder.write("prompt", "hello")}).out, expected);
  EXPECT_EQ(run({"-f", "-"}, {.input = "hello"}).out, expected);
  EXPECT_EQ(run({}, {.input = "hello"}).out, expected);
  const WickResult positional = run_wick({"run", model_.path(), "hello", "--raw", "--temperature", "0", "-n", "12", "--ignore-eos"});
  EXPECT_EQ(positional.out, expected);
}

TEST_F(Run, MessagesGoThroughTheTemplate) {
  const TemporaryFolder folder;
  const std::string file = folder.write("messages.json", R"([{"role":"system","content":"S"},{"role":"user","content":"hello"}])");
  const auto ids = [&](const std::vector<std::string>& more) {
    std::vector<std::string> all = {"run", "-m", model_.path(), "--temperature", "0", "-n", "2", "--json"};
    all.insert(all.end(), more.begin(), more.end());
    const WickResult result = run_wick(all);
    EXPECT_EQ(result.exit_code, 0) << result.err;
    return result.json()["prompt_ids"];
  };
  EXPECT_EQ(ids({"--messages", file}), ids({"-p", "hello", "--system", "S"}));
  EXPECT_EQ(ids({"--messages", file})[0], 260);  // <|im_start|>
  for (const char* bad : {"", "{}", "[1]", R"([{"role":1,"content":"x"}])", R"([{"role":"user"}])", "[[[[[["}) {
    const WickResult result = run_wick({"run", "-m", model_.path(), "--messages", folder.write("bad.json", bad)});
    EXPECT_TRUE(result.exit_code == 2 || result.exit_code == 3) << bad << result.err;
  }
}

TEST_F(Run, TheSameSeedGivesTheSameText) {
  const auto text = [&](const std::string& seed, const std::string& threads) {
    return run_wick({"run", "-m", model_.path(), "--raw", "-p", "x", "-n", "30", "--ignore-eos", "--temperature", "1.5", "--top-k", "50",
                     "--seed", seed, "-t", threads})
        .out;
  };
  EXPECT_EQ(text("3", "1"), text("3", "2"));
  EXPECT_NE(text("3", "1"), text("4", "1"));
}

TEST_F(Run, StopStringsEndTheText) {
  const std::string text = run({"-p", "x", "-n", "40", "--json"}).json()["text"];
  ASSERT_GE(text.size(), 12u);
  size_t at = 6;
  while (at < text.size() && (static_cast<uint8_t>(text[at]) & 0xC0) == 0x80) ++at;  // at the start of a character
  const json j = run({"-p", "x", "-n", "40", "--json", "--stop", text.substr(at, 5)}).json();
  EXPECT_EQ(j["text"], text.substr(0, text.find(text.substr(at, 5))));
  EXPECT_EQ(j["finish_reason"], "stop");
}

TEST_F(Run, TheEndOfTextEndsItUnlessIgnored) {
  const std::string end = std::to_string(kTinyEnd) + "=1000";
  const auto answer = [&](const std::vector<std::string>& more) {
    std::vector<std::string> all = {"run", "-m", model_.path(), "--raw",  "-p",           "x", "--temperature",
                                    "0",   "-n", "5",           "--json", "--logit-bias", end};
    all.insert(all.end(), more.begin(), more.end());
    return run_wick(all).json();
  };
  EXPECT_EQ(answer({})["finish_reason"], "stop");
  EXPECT_EQ(answer({})["text"], "");
  EXPECT_EQ(answer({"--ignore-eos"})["finish_reason"], "length");
  EXPECT_EQ(answer({"--ignore-eos"})["ids"].size(), 5u);
}

TEST_F(Run, TheLengthIsWhatIsAskedForOrTheContext) {
  const json none = run({"-p", "hello", "-n", "0", "--json"}).json();
  EXPECT_EQ(none["ids"], json::array());
  EXPECT_EQ(none["text"], "");
  const json full = run({"-p", "hello", "-n", "1000", "--ctx", "20", "--json"}).json();
  EXPECT_EQ(full["finish_reason"], "length");
  EXPECT_NEAR(static_cast<double>(full["ids"].size()), 18, 1);  // of 20 positions the prompt has 2
  EXPECT_EQ(run_wick(arguments({"-p", "hello there", "--ctx", "4"})).exit_code, 5);
}

TEST_F(Run, GreedyIsTheSameEveryTime) {
  const json first = run({"-p", "hello", "--json", "-t", "1"}).json()["ids"];
  EXPECT_EQ(run({"-p", "hello", "--json", "-t", "2"}).json()["ids"], first);
  EXPECT_EQ(run({"-p", "hello", "--json", "--seed", "5"}).json()["ids"], first);
}

// Every flag is also a variable.
TEST_F(Run, TheEnvironmentGivesTheSame) {
  const json flags =
      run_wick({"run",          "-m",      model_.path(), "--raw", "-p",      "hello", "-n",        "9",   "--temperature",    "1.5",
                "--top-k",      "40",      "--top-p",     "0.9",   "--min-p", "0.01",  "--seed",    "3",   "--repeat-penalty", "1.1",
                "--logit-bias", "65=-inf", "--stop",      "zzzz",  "--ctx",   "100",   "--kv-type", "f32", "--ignore-eos",     "--json"})
          .json();
  const json variables = run_wick({"run"}, {.environment = {{"WICK_MODEL", model_.path()},
                                                            {"WICK_RAW", "1"},
                                                            {"WICK_PROMPT", "hello"},
                                                            {"WICK_MAX_TOKENS", "9"},
                                                            {"WICK_TEMPERATURE", "1.5"},
                                                            {"WICK_TOP_K", "40"},
                                                            {"WICK_TOP_P", "0.9"},
                                                            {"WICK_MIN_P", "0.01"},
                                                            {"WICK_SEED", "3"},
                                                            {"WICK_REPEAT_PENALTY", "1.1"},
                                                            {"WICK_LOGIT_BIAS", "65=-inf"},
                                                            {"WICK_STOP", "zzzz"},
                                                            {"WICK_CTX", "100"},
                                                            {"WICK_KV_TYPE", "f32"},
                                                            {"WICK_IGNORE_EOS", "true"},
                                                            {"WICK_JSON", "yes"}}})
                             .json();
  EXPECT_EQ(flags["ids"].size(), 9u);
  EXPECT_EQ(variables["ids"], flags["ids"]);
  EXPECT_EQ(variables["seed"], 3);
  EXPECT_EQ(
      run_wick({"run"}, {.environment = {{"WICK_MODEL", model_.path()}, {"WICK_TEMP", "0"}, {"WICK_N", "2"}}, .input = "hello"}).exit_code,
      0);
}

TEST_F(Run, MessagesFromStandardInput) {
  const WickResult result =
      run_wick({"run", "-m", model_.path(), "--messages", "-", "-n", "1", "--json"}, {.input = R"([{"role":"user","content":"hello"}])"});
  EXPECT_EQ(result.json()["prompt_ids"], run_wick({"run", model_.path(), "hello", "-n", "1", "--json"}).json()["prompt_ids"]);
  EXPECT_EQ(run_wick({"run", model_.path(), "-n", "1", "--json"}, {.input = "hello\n"}).json()["prompt_ids"], result.json()["prompt_ids"]);
}

TEST_F(Run, ASeedThatWasNotGivenIsPrinted) {
  const WickResult first = run_wick({"run", "-m", model_.path(), "--raw", "-p", "x", "-n", "20", "--temperature", "2", "--ignore-eos"});
  const size_t at = first.err.find("seed ");
  ASSERT_NE(at, std::string::npos) << first.err;
  const std::string seed = first.err.substr(at + 5, first.err.find('\n', at) - at - 5);
  EXPECT_EQ(
      run_wick({"run", "-m", model_.path(), "--raw", "-p", "x", "-n", "20", "--temperature", "2", "--ignore-eos", "--seed", seed}).out,
      first.out);
}

TEST_F(Run, LogitBiasForcesAndBans) {
  const json forced = run({"-p", "x", "--json", "--logit-bias", "65=1000"}).json();
  for (const json& id : forced["ids"]) EXPECT_EQ(id, 65);
  const WickResult outside = run_wick(arguments({"-p", "x", "--logit-bias", "99999=1"}));
  EXPECT_EQ(outside.exit_code, 2);
}

TEST_F(Run, EveryCacheTypeAndExactMode) {
  for (const char* type : {"f32", "bf16", "f16", "q8_0"})
    EXPECT_EQ(run({"-p", "hello", "--json", "--kv-type", type}).json()["ids"].size(), 12u) << type;
  EXPECT_EQ(run({"-p", "hello", "--json", "--exact"}).json()["ids"].size(), 12u);
  EXPECT_EQ(run_wick(arguments({"-p", "x", "--exact", "--kv-type", "f16"})).exit_code, 2);
}

TEST_F(Run, AnyBytesAreAPrompt) {
  for (const std::string& prompt :
       {std::string("\xff\xfe\x80"), std::string("a\x1b[31m"), std::string("\xe2\x82"), std::string("\0x", 2)}) {
    EXPECT_EQ(run({"-f", "-", "--json"}, {.input = prompt}).json()["prompt_ids"].size(), prompt.size());
  }
}

TEST_F(Run, CtrlCEndsTheAnswer) {
  const WickResult result =
      run_wick({"run", "-m", model_.path(), "--raw", "-p", "x", "--ignore-eos", "-n", "500", "--logit-bias", "65=1000"},
               {.interrupt_after_bytes = 1});
  EXPECT_TRUE(result.exit_code == 130 || result.exit_code == 0) << result.exit_code;  // 0 when all was done before the signal came
}

// Against the reference outputs.
TEST(RunDefaultModel, GreedyIdsAreTheReferences) {
  WICK_REQUIRE_MODEL();
  for (const ReferencePrompt& reference : reference_prompts()) {
    if (reference.prompt != "The capital of France is") continue;
    const json j =
        run_wick({"run", "-m", test_model(), "--raw", "--json", "--temperature", "0", "-n", "48", "-p", reference.prompt}).json();
    EXPECT_EQ(j["prompt_ids"], json(reference.prompt_ids));
    for (size_t i = 0; i < reference.greedy_ids.size() && reference.greedy_margin[i] >= 0.3; ++i)
      EXPECT_EQ(j["ids"][i], reference.greedy_ids[i]) << i;
    return;
  }
  FAIL() << "the prompt is not among the references";
}

TEST(RunDefaultModel, PeakMemoryIsWeightsAndCache) {
  WICK_REQUIRE_MODEL();
  const uint64_t file = std::filesystem::file_size(test_model());
  for (const uint64_t context : {512, 8192}) {
    const uint64_t cache = context * 2 * 30 * 3 * 64 * 2;  // K and V, layers, kv heads, head size, f16
    const WickResult result =
        run_wick({"run", "-m", test_model(), "--raw", "-p", "Once upon a time", "-n", "20", "--ctx", std::to_string(context)});
    EXPECT_EQ(result.exit_code, 0) << result.err;
    EXPECT_LE(result.peak_bytes, file + file / 10 + cache + (uint64_t{64} << 20)) << context;
  }
}

}  // namespace
}  // namespace wick::test
