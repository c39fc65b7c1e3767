// tokenize, score, logits, bench, inspect.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <numeric>

#include "tests/apps/wick_process.h"
#include "tests/support/reference.h"
#include "tests/support/tiny_model.h"

namespace wick::test {
namespace {

using nlohmann::json;
using testing::AllOf;
using testing::HasSubstr;

json run_json(const std::vector<std::string>& arguments, const WickOptions& options = {}) {
  std::vector<std::string> all = arguments;
  all.push_back("--json");
  const WickResult result = run_wick(all, options);
  EXPECT_EQ(result.exit_code, 0) << result.err;
  return result.exit_code == 0 ? result.json() : json();
}

TEST(Tokenize, IdsAndPiecesAndBack) {
  const TinyModelFile model;
  const json j = run_json({"tokenize", "-m", model.path(), "-p", "hello<|end|>"});
  EXPECT_EQ(j["pieces"][0], "hell");
  EXPECT_EQ(j["ids"].size(), 9u);
  const json parsed = run_json({"tokenize", "-m", model.path(), "-p", "hello<|end|>", "--parse-special"});
  EXPECT_EQ(parsed["ids"], json({258, 'o', 259}));
  EXPECT_EQ(run_wick({"tokenize", "-m", model.path(), "--decode", "--ids", "258,111"}).out, "hello");
  EXPECT_EQ(run_wick({"tokenize", "-m", model.path(), "--decode", "--ids", "9999"}).exit_code, 2);
  const TemporaryFolder folder;
  EXPECT_EQ(run_json({"tokenize", "-m", model.path(), "-f", folder.write("t", "hello")})["ids"], json({258, 'o'}));
}

TEST(Tokenize, SpecialTokensAsAsked) {
  TinyModel tiny;
  tiny.change_metadata = [](Metadata& metadata) {
    metadata.insert("tokenizer.ggml.add_bos_token", true);
    metadata.insert("tokenizer.ggml.bos_token_id", int64_t{kTinyEnd + 1});
  };
  const TinyModelFile model(tiny);
  EXPECT_EQ(run_json({"tokenize", model.path(), "-p", "hello"})["ids"], json({kTinyEnd + 1, 258, 'o'}));
  EXPECT_EQ(run_json({"tokenize", model.path(), "-p", "hello", "--no-special"})["ids"], json({258, 'o'}));
  EXPECT_EQ(run_json({"tokenize", model.path(), "-p", "<|im_end|>", "--no-special", "--parse-special"})["ids"], json({kTinyEnd + 2}));
  EXPECT_EQ(run_wick({"tokenize", model.path(), "-p", "hello", "--no-special"}).out, "258\thell\n111\to\n");
  EXPECT_EQ(run_json({"tokenize", model.path(), "--decode", "--ids", "258, 111"})["text"], "hello");
}

TEST(Tokenize, AnyBytesComeBack) {
  const TinyModelFile model;
  std::string bytes;
  for (int c = 1; c < 256; ++c) bytes += static_cast<char>(c);
  const json ids = run_json({"tokenize", model.path(), "-f", "-"}, {.input = bytes + std::string(1, '\0')})["ids"];
  std::string list;
  for (const json& id : ids) list.append(list.empty() ? "" : ",").append(id.dump());
  EXPECT_EQ(run_wick({"tokenize", model.path(), "--decode", "--ids", list}).out, bytes + std::string(1, '\0'));
}

TEST(Score, LogProbabilitiesAddUp) {
  const TinyModelFile model;
  const json j = run_json({"score", "-m", model.path(), "-p", "hello hello"});
  ASSERT_EQ(j["logprobs"].size() + 1, j["ids"].size());
  double sum = 0;
  for (const json& value : j["logprobs"]) {
    EXPECT_LE(value.get<double>(), 0);
    sum -= value.get<double>();
  }
  const double nll = sum / static_cast<double>(j["logprobs"].size());
  EXPECT_NEAR(j["nll"].get<double>(), nll, 1e-9);
  EXPECT_NEAR(j["perplexity"].get<double>(), std::exp(nll), 1e-6 * std::exp(nll));
}

// A text longer than the context is scored in windows.
TEST(Score, LongTexts) {
  const TinyModelFile model;
  const TemporaryFolder folder;
  const json j = run_json({"score", "-m", model.path(), "-f", folder.write("long", std::string(1300, 'x')), "--window", "100"});
  EXPECT_EQ(j["ids"].size(), 1300u);
}

TEST(Logits, ShapesAndValues) {
  const TinyModelFile model;
  const TemporaryFolder folder;
  const std::string out = folder.path() + "/l.npy";
  EXPECT_EQ(run_json({"logits", "-m", model.path(), "-p", "hello", "--out", out})["shape"], json({kTinyVocab}));
  const std::string last = read_all(out);
  EXPECT_EQ(run_json({"logits", "-m", model.path(), "--ids", "258,111", "--out", out, "--all"})["shape"], json({2, kTinyVocab}));
  const std::string all = read_all(out);
  const size_t row = kTinyVocab * sizeof(float);
  EXPECT_EQ(last.substr(0, 6), "\x93NUMPY");
  EXPECT_EQ(all.substr(all.size() - row), last.substr(last.size() - row));
  EXPECT_EQ(run_wick({"logits", "-m", model.path(), "--ids", "99999", "--out", out}).exit_code, 2);
  EXPECT_NE(run_wick({"logits", "-m", model.path(), "-p", "x", "--out", folder.path() + "/no/such/folder/x.npy"}).exit_code, 0);
}

// The header says what the file holds, and the two ways to name a text agree.
TEST(Logits, TheFileIsWhatNumPyReads) {
  const TinyModelFile model;
  const TemporaryFolder folder;
  const std::string out = folder.path() + "/l.npy";
  ASSERT_EQ(run_wick({"logits", "-m", model.path(), "-p", "hello", "--out", out, "--all"}, {}).exit_code, 0);
  const std::string file = read_all(out);
  EXPECT_THAT(file.substr(0, 128), AllOf(HasSubstr("'descr': '<f4'"), HasSubstr("(2,262,)")));
  const size_t header = 10 + static_cast<uint8_t>(file[8]) + 256 * static_cast<size_t>(static_cast<uint8_t>(file[9]));
  EXPECT_EQ(file.size(), header + 2 * kTinyVocab * sizeof(float));
  EXPECT_EQ(run_wick({"logits", "-m", model.path(), "--ids", "258,111", "--out", out, "--all"}).out, "");
  EXPECT_EQ(read_all(out), file);
  EXPECT_EQ(folder.files(), std::vector<std::string>{"l.npy"});
}

// The log-probabilities of score are those of the logits.
TEST(Score, AgreesWithLogits) {
  const TinyModelFile model;
  const TemporaryFolder folder;
  const std::string out = folder.path() + "/l.npy";
  const json score = run_json({"score", "-m", model.path(), "-p", "hellox", "--exact"});
  ASSERT_EQ(run_wick({"logits", "-m", model.path(), "-p", "hellox", "--out", out, "--all", "--exact"}).exit_code, 0);
  const std::string file = read_all(out);
  const size_t rows = score["ids"].size();
  std::vector<float> logits(rows * kTinyVocab);
  std::memcpy(logits.data(), file.data() + file.size() - logits.size() * sizeof(float), logits.size() * sizeof(float));
  for (size_t row = 0; row + 1 < rows; ++row) {
    double sum = 0;
    for (size_t i = 0; i < kTinyVocab; ++i) sum += std::exp(static_cast<double>(logits[row * kTinyVocab + i]));
    const double expected = static_cast<double>(logits[row * kTinyVocab + score["ids"][row + 1].get<size_t>()]) - std::log(sum);
    EXPECT_NEAR(score["logprobs"][row].get<double>(), expected, 1e-4) << row;
  }
}

TEST(Bench, HasTheFieldsThatScriptsRead) {
  const TinyModelFile model;
  const json j = run_json({"bench", "-m", model.path(), "-p", "32", "-n", "8", "-r", "3"});
  for (const char* rate : {"prefill_tok_s", "decode_tok_s"}) {
    EXPECT_GT(j[rate]["median"].get<double>(), 0);
    EXPECT_LE(j[rate]["min"].get<double>(), j[rate]["median"].get<double>());
    EXPECT_GE(j[rate]["max"].get<double>(), j[rate]["median"].get<double>());
  }
  for (const char* key : {"weight_bytes", "read_gb_s", "decode_bandwidth_fraction", "peak_rss_bytes"})
    EXPECT_GT(j[key].get<double>(), 0) << key;
  for (const char* key : {"load_ms", "weights_ms"}) EXPECT_GT(j["timings"][key].get<double>(), 0) << key;
  EXPECT_EQ(j["device"], "cpu");
  EXPECT_TRUE(j["peak_device_bytes"].is_null()) << "the CPU's is peak_rss_bytes";
  EXPECT_GT(j["cache_bytes"].get<double>(), 0);
  const json deep = run_json({"bench", model.path(), "-p", "0", "-n", "4", "-d", "400", "-r", "1", "--kv-type", "f16", "--sequences", "2", "--batch-invariant"});
  EXPECT_EQ(deep["cache_bytes"], 2 * 2 * 2 * 2 * 16 * 2 * 807 / 2);  // sequences, layers, k and v, heads of 16, bytes, positions 402 to 405
  EXPECT_EQ(deep["batch_invariant"], true);
  EXPECT_EQ(j["batch_invariant"], false);
  const json decode_only = run_json({"bench", model.path(), "-p", "0", "-n", "4", "-r", "1"});
  EXPECT_TRUE(!decode_only.contains("prefill_tok_s") || decode_only["prefill_tok_s"].is_null());
}

TEST(Inspect, ListsWhatIsInTheFile) {
  const TinyModelFile model;
  const json j = run_json({"inspect", model.path()});
  EXPECT_EQ(j["architecture"], "llama");
  EXPECT_EQ(j["metadata"]["general.name"], "tiny");
  bool found = false;
  for (const json& tensor : j["tensors"]) {
    if (tensor["name"] != "token_embd.weight") continue;
    found = true;
    EXPECT_EQ(tensor["shape"], json({kTinyVocab, 64}));
    EXPECT_EQ(tensor["type"], "F32");
    EXPECT_EQ(tensor["bytes"], kTinyVocab * 64 * 4);
  }
  EXPECT_TRUE(found);
}

TEST(Inspect, PlansMemoryAndWhatDoesNotFitIsRefused) {
  const TinyModelFile model;
  const json plan = run_json({"inspect", model.path(), "-c", "512"})["device_plan"];
  EXPECT_EQ(plan["device"], "cpu");
  EXPECT_EQ(plan["context"], 512);
  EXPECT_EQ(plan["fits"], true);
  EXPECT_EQ(plan["cache_bytes"], 512 * 2 * (2 * 2 * 16 * 2));
  EXPECT_GE(plan["peak_bytes"].get<int64_t>(), plan["weight_bytes"].get<int64_t>() + plan["cache_bytes"].get<int64_t>());
  const std::string too_little = std::to_string(plan["peak_bytes"].get<int64_t>() - plan["cache_bytes"].get<int64_t>() / 2);
  const json cut = run_json({"inspect", model.path(), "-c", "512", "--memory", too_little})["device_plan"];
  EXPECT_EQ(cut["fits"], false);
  EXPECT_EQ(cut["largest_context"], 256);
  for (const char* command : {"run", "bench", "score", "logits"}) {
    std::vector<std::string> arguments = {command, "-m", model.path(), "-c", "512", "--memory", too_little};
    if (command != std::string("bench")) arguments.insert(arguments.end(), {"-p", "hello"});
    if (command == std::string("logits")) arguments.insert(arguments.end(), {"--out", "/dev/null"});
    const WickResult result = run_wick(arguments);
    EXPECT_EQ(result.exit_code, 5) << command << result.err;
    EXPECT_THAT(result.err, AllOf(HasSubstr(" too few; a context of 256 positions would fit"), HasSubstr("wick: error: "))) << command;
  }
  EXPECT_EQ(run_wick({"run", "-m", model.path(), "-c", "256", "--memory", too_little, "-p", "hello", "-n", "1"}).exit_code, 0);
}

TEST(Logits, StepsOfOneTokenGiveTheSame) {
  const TinyModelFile model;
  const TemporaryFolder folder;
  const std::string whole = folder.path() + "/whole.npy", steps = folder.path() + "/steps.npy";
  run_json({"logits", model.path(), "-p", "hello, hello", "--all", "--out", whole});
  run_json({"logits", model.path(), "-p", "hello, hello", "--all", "--out", steps, "--chunk", "1", "--batch-invariant"});
  EXPECT_EQ(read_all(whole), read_all(steps));
}

// Names and texts in a file are somebody else's: none reaches the terminal as it is.
TEST(Inspect, EscapesAreShownNotSent) {
  TinyModel tiny;
  tiny.change_metadata = [](Metadata& metadata) { metadata.insert("general.description", std::string("\x1b]0;title\x07\xff")); };
  const TinyModelFile model(tiny);
  EXPECT_EQ(run_wick({"inspect", model.path()}).out.find('\x1b'), std::string::npos);
  EXPECT_TRUE(run_json({"inspect", model.path()}).is_object());
}

TEST(ScoreDefaultModel, GivesTheReferenceLikelihoods) {
  WICK_REQUIRE_MODEL();
  const ReferencePrompt reference = reference_prompts()[0];
  const json j = run_json({"score", "-m", test_model(), "--exact", "-p", reference.prompt});
  ASSERT_EQ(j["ids"], json(reference.prompt_ids));
  for (size_t i = 0; i < reference.prompt_nll.size(); ++i) EXPECT_NEAR(-j["logprobs"][i].get<double>(), reference.prompt_nll[i], 1e-3);
}

}  // namespace
}  // namespace wick::test
