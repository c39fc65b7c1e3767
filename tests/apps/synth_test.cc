#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <set>

#include "tests/apps/wick_process.h"
#include "wick/apps/random_weights.h"
#include "wick/apps/synth_model.h"
#include "wick/formats/weight_types.h"
#include "wick/formats/model_file.h"
#include "wick/kernels/block_format.h"

namespace wick::test {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

struct Statistics {
  double mean, spread;
};

Statistics statistics(const std::vector<float>& values) {
  double sum = 0, squares = 0;
  for (const float value : values) sum += value, squares += static_cast<double>(value) * value;
  const double mean = sum / static_cast<double>(values.size());
  return {mean, std::sqrt(squares / static_cast<double>(values.size()) - mean * mean)};
}

std::vector<float> decoded(const ModelFile& file, const std::string& name) {
  const TensorInfo& info = *file.find(name);
  std::vector<std::byte> bytes(info.bytes);
  file.read(info, 0, bytes);
  std::vector<float> values(static_cast<size_t>(element_count(info.shape)));
  decode_blocks(info.dtype, bytes.data(), static_cast<int64_t>(values.size()), values.data());
  return values;
}

class Synth : public testing::Test {
 protected:
  WickResult synth(const std::string& shape, const std::string& type, std::vector<std::string> more = {}) {
    more.insert(more.begin(), {"synth", shape, out(), "--type", type});
    return run_wick(more);
  }
  std::string out() const { return folder_.path() + "/out.gguf"; }
  TemporaryFolder folder_;
};

TEST_F(Synth, EveryTypeRunsAndItsLogitsAreInRange) {
  const std::string npy = folder_.path() + "/logits.npy";
  for (const std::string& type : recipe_names()) {
    SCOPED_TRACE(type);
    const WickResult result = synth("tiny", type, {"--json"});
    ASSERT_EQ(result.exit_code, 0) << result.err;
    EXPECT_EQ(result.json()["bytes"], std::filesystem::file_size(out()));
    EXPECT_EQ(result.json()["shape"], "tiny");
    EXPECT_TRUE(result.json()["substitutes"].empty());
    ASSERT_EQ(run_wick({"logits", "-m", out(), "-p", "hello there", "--out", npy}).exit_code, 0);
    const std::string content = read_all(npy);
    std::vector<float> logits(1024);
    std::memcpy(logits.data(), content.data() + content.size() - logits.size() * 4, logits.size() * 4);
    const Statistics found = statistics(logits);
    EXPECT_NEAR(found.mean, 0, 0.3);
    EXPECT_NEAR(found.spread, 1, 0.3);
  }
  EXPECT_THAT(folder_.files(), ElementsAre("logits.npy", "out.gguf"));
}

TEST_F(Synth, TheSameFileForAnyNumberOfThreads) {
  ASSERT_EQ(synth("tiny", "q4_k_m", {"-t", "1"}).exit_code, 0);
  const std::string one = read_all(out());
  ASSERT_EQ(synth("tiny", "q4_k_m", {"-t", "3"}).exit_code, 0);
  EXPECT_TRUE(one == read_all(out()));
}

TEST_F(Synth, WeightsAreNormalAndNormsNearOne) {
  for (const char* type : {"f32", "q4_k", "q8_0"}) {
    SCOPED_TRACE(type);
    ASSERT_EQ(synth("tiny", type).exit_code, 0);
    const auto file = open_model_file(out());
    for (const apps::SynthTensor& tensor : apps::synth_tensors(apps::find_shape("tiny"))) {
      const std::vector<float> values = decoded(*file, tensor.name);
      const Statistics found = statistics(values);
      if (tensor.values.empty()) {
        EXPECT_NEAR(found.mean, 0, tensor.spread * 0.02) << tensor.name;
        EXPECT_NEAR(found.spread, tensor.spread, tensor.spread * 0.02) << tensor.name;
        std::set<std::vector<float>> rows;
        const auto row = static_cast<std::ptrdiff_t>(tensor.shape[1]);
        for (auto at = values.begin(); at != values.end(); at += row) rows.emplace(at, at + row);
        EXPECT_GT(static_cast<double>(rows.size()), 0.8 * static_cast<double>(tensor.shape[0])) << tensor.name;
      } else {
        EXPECT_EQ(values, tensor.values);
        EXPECT_NEAR(found.mean, 1, 0.05) << tensor.name;
      }
    }
  }
}

TEST_F(Synth, TheVocabularyIsFullAndTokenizes) {
  ASSERT_EQ(synth("tiny", "q8_0").exit_code, 0);
  const nlohmann::json metadata = run_wick({"inspect", out(), "--json"}).json()["metadata"];
  const auto tokens = metadata["tokenizer.ggml.tokens"].get<std::set<std::string>>();
  EXPECT_EQ(tokens.size(), 1024u);
  for (const std::string text : {"hello there, World 42", "\n\t ünï"}) {
    const WickResult ids = run_wick({"tokenize", "-m", out(), "-p", text, "--json"});
    ASSERT_EQ(ids.exit_code, 0) << ids.err;
    EXPECT_LE(ids.json()["ids"].size(), text.size());
  }
  const WickResult chat = run_wick({"run", "-m", out(), "hello", "-n", "3", "--json"});
  ASSERT_EQ(chat.exit_code, 0) << chat.err;
  EXPECT_EQ(chat.json()["prompt_ids"][0], 1022);  // <|im_start|>
}

TEST(SynthModel, ShapesHaveTheSizesOfTheirModels) {
  const auto parameters = [](const char* name) {
    int64_t count = 0;
    for (const apps::SynthTensor& tensor : apps::synth_tensors(apps::find_shape(name))) {
      if (tensor.name != "rope_freqs.weight") count += element_count(tensor.shape);
    }
    return count;
  };
  EXPECT_EQ(parameters("llama-3.2-1b"), 1235814400);
  EXPECT_EQ(parameters("llama-3.1-8b"), 8030261248);
  EXPECT_EQ(parameters("smollm2-135m"), 134515008);
  for (const char* name : {"llama-3.2-1b", "llama-3.1-8b", "smollm2-135m", "tiny"}) {
    const Metadata metadata = apps::synth_metadata(apps::find_shape(name));
    const auto& tokens = *metadata.find_strings("tokenizer.ggml.tokens");
    EXPECT_EQ(static_cast<int64_t>(tokens.size()), apps::find_shape(name).vocab);
    EXPECT_EQ(std::set<std::string>(tokens.begin(), tokens.end()).size(), tokens.size()) << name;
  }
}

// Llama 3.1's factors: 1 for the fast frequencies, the whole factor for the slow ones, rising between.
TEST(SynthModel, RopeFactorsOfLlama3) {
  const auto tensors = apps::synth_tensors(apps::find_shape("llama-3.2-1b"));
  const auto found = std::find_if(tensors.begin(), tensors.end(), [](const auto& tensor) { return tensor.name == "rope_freqs.weight"; });
  ASSERT_NE(found, tensors.end());
  EXPECT_EQ(found->shape, (Shape{32}));
  EXPECT_EQ(found->values.front(), 1.0f);
  EXPECT_EQ(found->values.back(), 32.0f);
  EXPECT_TRUE(std::is_sorted(found->values.begin(), found->values.end()));
}

TEST(SynthModel, ThoseOfTheDefaultModelAreItsOwn) {
  WICK_REQUIRE_MODEL();
  const auto real = open_model_file(test_model());
  const auto made = apps::synth_tensors(apps::find_shape("smollm2-135m"));
  EXPECT_EQ(made.size(), real->tensors().size());
  for (const apps::SynthTensor& tensor : made) {
    const TensorInfo* info = real->find(tensor.name);
    ASSERT_NE(info, nullptr) << tensor.name;
    EXPECT_EQ(info->shape, tensor.shape) << tensor.name;
  }
  const Metadata metadata = apps::synth_metadata(apps::find_shape("smollm2-135m"));
  for (const auto& [key, value] : metadata.values()) {
    if (key.rfind("llama.", 0) != 0 || !real->metadata().contains(key)) continue;
    EXPECT_FLOAT_EQ(static_cast<float>(*real->metadata().find_number(key)), static_cast<float>(*metadata.find_number(key))) << key;
  }
}

TEST(RandomNumbers, AreNormalAndAddressable) {
  apps::RandomNumbers numbers("a"), same("a"), other("a", 1);
  const apps::RandomNumbers start("a");
  for (uint64_t i = 0; i < 10; ++i) EXPECT_EQ(numbers.next(), start.at(i));
  EXPECT_NE(same.next(), other.next());
  std::vector<float> values(100000);
  for (float& value : values) value = numbers.normal();
  const Statistics found = statistics(values);
  EXPECT_NEAR(found.mean, 0, 0.01);
  EXPECT_NEAR(found.spread, 1, 0.01);
}

TEST_F(Synth, Misuse) {
  const auto expect_refused = [&](const WickResult& result, int exit_code, const std::string& text) {
    EXPECT_EQ(result.exit_code, exit_code);
    EXPECT_THAT(result.err, AllOf(HasSubstr("wick: error: "), HasSubstr(text)));
    EXPECT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), 1) << result.err;
    EXPECT_THAT(folder_.files(), ElementsAre());
  };
  expect_refused(run_wick({"synth"}), 2, "llama-3.2-1b, llama-3.1-8b, smollm2-135m, tiny");
  expect_refused(run_wick({"synth", "tiny"}), 2, "wick synth SHAPE OUT");
  expect_refused(synth("llama-9", "q4_k"), 2, "no shape 'llama-9'; there are: ");
  expect_refused(synth("\x1b[31m", "q4_k"), 2, "no shape '\\x1b[31m'");
  expect_refused(synth("tiny", "q2_k"), 2, "--type");
  expect_refused(synth("tiny", "q4_k", {"extra"}), 2, "extra");
  expect_refused(run_wick({"synth", "tiny", folder_.path() + "/none/out.gguf"}), 1, "No such file");
  expect_refused(run_wick({"synth", "tiny", "/dev/null"}), 1, "not a regular file");
}

}  // namespace
}  // namespace wick::test
