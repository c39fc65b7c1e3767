#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <limits>
#include <set>

#include "tests/apps/wick_process.h"
#include "tests/apps/wick_session.h"
#include "tests/support/tiny_model.h"
#include "wick/formats/weight_types.h"

namespace wick::test {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

// Rows that are whole blocks of every type.
TinyModel wide() {
  TinyModel tiny;
  tiny.d_model = 256;
  tiny.d_ff = 512;
  return tiny;
}

nlohmann::json inspect(const std::string& path) { return run_wick({"inspect", path, "--json"}).json(); }

std::string type_of(const nlohmann::json& inspected, const std::string& name) {
  for (const auto& tensor : inspected["tensors"]) {
    if (tensor["name"] == name) return tensor["type"];
  }
  return "none";
}

class Quantize : public testing::Test {
 protected:
  WickResult quantize(const std::string& in, const std::string& type, std::vector<std::string> more = {}) {
    more.insert(more.begin(), {"quantize", in, out(), "--type", type});
    return run_wick(more);
  }
  // One line of error, the exit code, and nothing written.
  void expect_refused(const WickResult& result, int exit_code, const std::string& text) {
    EXPECT_EQ(result.exit_code, exit_code) << result.err;
    EXPECT_EQ(result.out, "");
    EXPECT_THAT(result.err, AllOf(HasSubstr("wick: error: "), HasSubstr(text)));
    EXPECT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), 1) << result.err;
    EXPECT_THAT(folder_.files(), ElementsAre());
  }
  std::string out() const { return folder_.path() + "/out.gguf"; }
  TemporaryFolder folder_;
};

TEST_F(Quantize, EveryTypeCanBeWrittenAndRun) {
  const TinyModelFile model(wide());
  const nlohmann::json before = inspect(model.path());
  for (const std::string& type : recipe_names()) {
    SCOPED_TRACE(type);
    const WickResult result = quantize(model.path(), type, {"--json"});
    ASSERT_EQ(result.exit_code, 0) << result.err;
    EXPECT_EQ(result.err, "");
    const nlohmann::json summary = result.json(), after = inspect(out());
    EXPECT_EQ(summary["bytes"], std::filesystem::file_size(out()));
    EXPECT_EQ(summary["bytes_before"], std::filesystem::file_size(model.path()));
    EXPECT_EQ(summary["type"], type);
    EXPECT_EQ(summary["out"], out());
    EXPECT_TRUE(summary["substitutes"].empty());
    EXPECT_EQ(summary["tensors"], before["tensors"].size());
    int64_t counted = 0;
    for (const auto& [name, total] : summary["types"].items()) counted += total["tensors"].get<int64_t>();
    EXPECT_EQ(counted, summary["tensors"]);
    // Names, shapes and all other metadata are those of the original, in its order.
    ASSERT_EQ(after["tensors"].size(), before["tensors"].size());
    for (size_t i = 0; i < before["tensors"].size(); ++i) {
      EXPECT_EQ(after["tensors"][i]["name"], before["tensors"][i]["name"]);
      EXPECT_EQ(after["tensors"][i]["shape"], before["tensors"][i]["shape"]);
      EXPECT_TRUE(before["tensors"][i]["shape"].size() > 1 || after["tensors"][i]["type"] == "F32");
    }
    for (const auto& [key, value] : before["metadata"].items()) EXPECT_EQ(after["metadata"][key], value) << key;
    EXPECT_EQ(after["metadata"]["general.file_type"], find_recipe(type).file_type);
    EXPECT_EQ(after["metadata"]["general.quantization_version"], 2);
    const WickResult run = run_wick({"run", "-m", out(), "--raw", "-p", "hello", "-n", "4", "--temperature", "0"});
    EXPECT_EQ(run.exit_code, 0) << run.err;
  }
  EXPECT_THAT(folder_.files(), ElementsAre("out.gguf"));
}

TEST_F(Quantize, TheSameBytesForAnyNumberOfThreads) {
  const TinyModelFile model(wide());
  ASSERT_EQ(quantize(model.path(), "q5_k", {"-t", "1"}).exit_code, 0);
  const std::string one = read_all(out());
  ASSERT_EQ(quantize(model.path(), "q5_k", {"-t", "5"}).exit_code, 0);
  EXPECT_TRUE(one == read_all(out()));
}

TEST_F(Quantize, WhatHasTheTypeAlreadyIsCopied) {
  TinyModel tiny = wide();
  tiny.type = DType::kQ4_K;
  const TinyModelFile model(tiny);
  const WickResult first = quantize(model.path(), "q4_k");
  ASSERT_EQ(first.exit_code, 0);
  EXPECT_EQ(first.err, "");
  const std::string bytes = read_all(model.path()), copy = read_all(out());
  const size_t tensors = tiny_model_bytes(tiny).size() / 2;  // the header differs by two keys, the data does not
  EXPECT_TRUE(bytes.substr(bytes.size() - tensors) == copy.substr(copy.size() - tensors));
  EXPECT_THAT(quantize(model.path(), "q8_0").err, HasSubstr("quantised before"));
}

TEST_F(Quantize, MixturesGiveSomeTensorsAFinerType) {
  TinyModel tiny = wide();
  tiny.layers = 9;
  for (const bool tied : {true, false}) {
    tiny.tied = tied;
    const TinyModelFile model(tiny);
    ASSERT_EQ(quantize(model.path(), "q4_k_m").exit_code, 0);
    const nlohmann::json mixed = inspect(out());
    EXPECT_EQ(type_of(mixed, "token_embd.weight"), tied ? "Q6_K" : "Q4_K");
    EXPECT_EQ(type_of(mixed, "output.weight"), tied ? "none" : "Q6_K");
    std::string layers;
    for (int i = 0; i < 9; ++i) {
      const std::string prefix = "blk." + std::to_string(i) + ".";
      EXPECT_EQ(type_of(mixed, prefix + "ffn_down.weight"), type_of(mixed, prefix + "attn_v.weight"));
      for (const char* other : {"attn_q", "attn_k", "attn_output", "ffn_gate", "ffn_up"}) EXPECT_EQ(type_of(mixed, prefix + other + ".weight"), "Q4_K");
      layers += type_of(mixed, prefix + "attn_v.weight") == "Q6_K" ? '6' : '4';
    }
    EXPECT_EQ(layers, "644644666");  // the first eighth, every third, the last eighth: 0; 3, 6; 7 and 8
  }
}

TEST_F(Quantize, RowsThatAreNotWholeBlocksGetASubstitute) {
  TinyModel tiny;  // rows of 64 and 96
  tiny.layers = 1;
  const TinyModelFile model(tiny);
  for (const auto& [type, substitute] : {std::pair{"q4_k", "Q5_0"}, {"q5_k", "Q5_1"}, {"q6_k", "Q8_0"}}) {
    const WickResult result = quantize(model.path(), type, {"--json"});
    ASSERT_EQ(result.exit_code, 0) << result.err;
    EXPECT_EQ(type_of(inspect(out()), "blk.0.attn_q.weight"), substitute);
    const nlohmann::json summary = result.json();
    ASSERT_EQ(summary["substitutes"].size(), 8u);
    EXPECT_EQ(summary["substitutes"][0]["wanted"], type);
  }
  EXPECT_THAT(quantize(model.path(), "q4_k").out, AllOf(HasSubstr("q5_0 instead of q4_k where rows are not whole blocks of 256: "), HasSubstr("8 in all")));
  tiny.d_ff = 104;
  const TinyModelFile odd(tiny);
  ASSERT_EQ(quantize(odd.path(), "q4_0").exit_code, 0);
  EXPECT_EQ(type_of(inspect(out()), "blk.0.ffn_down.weight"), "F16");
  EXPECT_EQ(type_of(inspect(out()), "blk.0.ffn_up.weight"), "Q4_0");
}

TEST_F(Quantize, NeverOntoItself) {
  const std::string bytes = tiny_model_bytes();
  const std::string in = folder_.write("in.gguf", bytes);
  std::filesystem::create_symlink(in, folder_.path() + "/link.gguf");
  std::filesystem::create_hard_link(in, folder_.path() + "/hard.gguf");
  for (const char* name : {"/in.gguf", "/link.gguf", "/hard.gguf", "/./in.gguf"}) {
    const WickResult result = run_wick({"quantize", in, folder_.path() + name, "--type", "q8_0"});
    EXPECT_EQ(result.exit_code, 2);
    EXPECT_THAT(result.err, HasSubstr("the same file"));
  }
  EXPECT_TRUE(read_all(in) == bytes);
  EXPECT_EQ(folder_.files().size(), 3u);
}

TEST_F(Quantize, AnotherFileIsReplacedWhenTheNewOneIsComplete) {
  TinyModel broken;
  broken.nan_weight_in_layer = 1;
  folder_.write("out.gguf", "what was there");
  EXPECT_EQ(quantize(TinyModelFile(broken).path(), "q8_0").exit_code, 3);
  EXPECT_EQ(read_all(out()), "what was there");
  EXPECT_EQ(quantize(TinyModelFile().path(), "q8_0").exit_code, 0);
  EXPECT_NE(read_all(out()), "what was there");
  EXPECT_THAT(folder_.files(), ElementsAre("out.gguf"));
}

TEST_F(Quantize, WeightsThatAreNoNumbersAreNamed) {
  TinyModel tiny;
  tiny.nan_weight_in_layer = 1;
  const TinyModelFile model(tiny);
  for (const char* type : {"q8_0", "q4_0", "q4_k", "f16", "bf16"}) {
    expect_refused(quantize(model.path(), type, {"-t", "1"}), 3, "tensor 'blk.1.ffn_up.weight', row 0, element 0 is nan");
  }
  tiny = TinyModel();
  tiny.spread = 60000;
  expect_refused(quantize(TinyModelFile(tiny).path(), "f16"), 3, "which f16 cannot hold");
}

TEST_F(Quantize, Misuse) {
  const TinyModelFile model;
  const std::string m = model.path();
  expect_refused(run_wick({"quantize"}), 2, "wick quantize IN OUT --type");
  expect_refused(run_wick({"quantize", m, "--type", "q8_0"}), 2, "wick quantize IN OUT --type");
  expect_refused(run_wick({"quantize", m, out()}), 2, "--type TYPE is missing");
  expect_refused(run_wick({"quantize", m, out(), "extra", "--type", "q8_0"}), 2, "extra");
  for (const char* bad : {"q3_k", "Q8_0", "", "q8_0 ", "\x1b[31m"}) expect_refused(quantize(m, bad), 2, "--type");
  for (const char* bad : {"0", "-1", "x", "5000"}) expect_refused(quantize(m, "q8_0", {"-t", bad}), 2, "--threads");
  expect_refused(quantize(folder_.path() + "/none.gguf", "q8_0"), 3, "none.gguf");
  expect_refused(quantize(folder_.path(), "q8_0"), 3, "folder");
  expect_refused(run_wick({"quantize", m, folder_.path() + "/none/out.gguf", "--type", "q8_0"}), 1, "No such file");
  expect_refused(run_wick({"quantize", m, folder_.path(), "--type", "q8_0"}), 1, "not a regular file");
  expect_refused(run_wick({"quantize", m, "/dev/full", "--type", "q8_0"}), 1, "not a regular file");
  expect_refused(run_wick({"quantize", m, "", "--type", "q8_0"}), 2, "name is empty");
}

TEST_F(Quantize, ATruncatedModelLeavesNothing) {
  const std::string whole = tiny_model_bytes();
  const TemporaryFolder other;
  for (const size_t length : {size_t{0}, size_t{100}, whole.size() / 2, whole.size() - 1}) {
    expect_refused(quantize(other.write("cut.gguf", whole.substr(0, length)), "q8_0"), 3, "cut.gguf");
  }
}

// --type of the commands that load a model: what a quantised file would give, bit for bit.
TEST_F(Quantize, ConvertingOnLoadIsTheSame) {
  TinyModel mixed = wide();
  mixed.layers = 9;
  mixed.tied = false;
  mixed.type = DType::kBF16;
  const TinyModelFile whole(mixed), narrow;  // rows of 64 and 96 get substitutes
  const std::string logits = folder_.path() + "/logits.npy";
  const auto logits_of = [&](const std::string& model, std::vector<std::string> more) {
    more.insert(more.begin(), {"logits", model, "--ids", "1,2,3,200,5", "--all", "--out", logits});
    const WickResult result = run_wick(more);
    EXPECT_EQ(result.exit_code, 0) << result.err;
    EXPECT_EQ(result.err, "");
    return read_all(logits);
  };
  for (const TinyModelFile* model : {&whole, &narrow}) {
    std::set<std::string> seen;
    for (const std::string& type : recipe_names()) {
      SCOPED_TRACE(type);
      ASSERT_EQ(quantize(model->path(), type).exit_code, 0);
      const std::string expected = logits_of(out(), {});
      EXPECT_TRUE(expected == logits_of(model->path(), {"--type", type}));
      EXPECT_TRUE(logits_of(out(), {"--exact"}) == logits_of(model->path(), {"--type", type, "--exact"}));
      seen.insert(expected);
    }
    EXPECT_GT(seen.size(), recipe_names().size() / 2);  // the types differ
  }
}

TEST_F(Quantize, ConvertingOnLoadIsSaidAndCounted) {
  TinyModel tiny = wide();
  tiny.type = DType::kQ8_0;
  const TinyModelFile model(tiny);
  ASSERT_EQ(quantize(model.path(), "q4_0").exit_code, 0);
  const std::vector<std::string> bench = {"bench", "-p", "0", "-n", "2", "-r", "1", "--json"};
  const auto with = [&](std::vector<std::string> more) {
    more.insert(more.begin(), bench.begin(), bench.end());
    return run_wick(more);
  };
  const WickResult converted = with({model.path(), "--type", "q4_0"}), written = with({out()});
  ASSERT_EQ(converted.exit_code, 0) << converted.err;
  EXPECT_EQ(converted.json()["weight_bytes"], written.json()["weight_bytes"]);
  EXPECT_EQ(converted.json()["type"], "q4_0");
  EXPECT_TRUE(written.json()["type"].is_null());
  EXPECT_THAT(converted.err, HasSubstr("quantised before"));
  for (const std::vector<std::string>& command : {std::vector<std::string>{"run", "-m", model.path(), "--raw", "-p", "x", "-n", "1", "--temperature", "0"},
                                                  {"score", model.path(), "-p", "xyz"},
                                                  {"chat", "-m", model.path()}}) {
    std::vector<std::string> all = command;
    all.insert(all.end(), {"--type", "q8_0"});
    EXPECT_EQ(run_wick(all).exit_code, 0) << command[0];
    all.back() = "q3_k";
    EXPECT_EQ(run_wick(all).exit_code, 2) << command[0];
  }
  TinyModel broken;
  broken.nan_weight_in_layer = 1;
  const WickResult refused = run_wick({"score", TinyModelFile(broken).path(), "-p", "xyz", "--type", "q8_0"});
  EXPECT_EQ(refused.exit_code, 3);
  EXPECT_THAT(refused.err, HasSubstr("tensor 'blk.1.ffn_up.weight', row 0, element 0 is nan"));
}

TEST_F(Quantize, AnInterruptLeavesNothing) {
  TinyModel large = wide();
  large.type = DType::kQ8_0;
  large.d_ff = 8192;
  const TinyModelFile model(large);
  WickSession session({"quantize", model.path(), out(), "--type", "q4_k"}, {});
  ASSERT_TRUE(session.wait_for("quantised before")) << session.output();  // written just before the work begins
  session.interrupt();
  EXPECT_EQ(session.finish(), 130) << session.output();
  EXPECT_THAT(session.output(), Not(HasSubstr("tensors")));
  EXPECT_THAT(folder_.files(), ElementsAre());
}

}  // namespace
}  // namespace wick::test
