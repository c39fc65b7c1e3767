// The default model against what transformers computes, within the bounds that come with the data.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "tests/support/on_device.h"
#include "tests/support/reference.h"
#include "wick/wick.h"

namespace wick {
namespace {

using Rows = std::vector<std::vector<float>>;

std::shared_ptr<const Model> load(bool exact, int threads = 0, const Device& device = Device::cpu()) {
  ModelOptions options;
  options.device = device;
  options.exact = exact;
  options.threads = threads;
  return Model::load(test::default_model_path(), options);
}

// Logits at every position of `ids`, evaluated `chunk` tokens at a time.
Rows all_logits(Engine& engine, const std::vector<int32_t>& ids) {
  Rows rows;
  Request request;
  request.prompt_ids = ids;
  request.max_tokens = 0;
  request.prompt_logits = Request::Logits::kAll;
  request.on_prompt_logits = [&](int64_t position, std::span<const float> logits) {
    EXPECT_EQ(static_cast<int64_t>(rows.size()), position);
    rows.emplace_back(logits.begin(), logits.end());
  };
  Stream stream = engine.submit(std::move(request));
  while (stream.next()) {}
  return rows;
}

std::vector<int32_t> greedy(Engine& engine, const std::vector<int32_t>& prompt, int64_t count) {
  Request request;
  request.prompt_ids = prompt;
  request.max_tokens = count;
  request.sampling.temperature = 0;
  request.ignore_eos = true;
  Stream stream = engine.submit(std::move(request));
  std::vector<int32_t> ids;
  while (const auto piece = stream.next()) ids.insert(ids.end(), piece->ids.begin(), piece->ids.end());
  return ids;
}

double log_sum_exp(const std::vector<float>& row) {
  const double largest = *std::max_element(row.begin(), row.end());
  double sum = 0;
  for (const float logit : row) sum += std::exp(logit - largest);
  return largest + std::log(sum);
}

// KL(p || q) of the softmax of two rows.
double divergence(const std::vector<float>& p, const std::vector<float>& q) {
  const double zp = log_sum_exp(p), zq = log_sum_exp(q);
  double sum = 0;
  for (size_t i = 0; i < p.size(); ++i) sum += std::exp(p[i] - zp) * ((p[i] - zp) - (q[i] - zq));
  return sum;
}

// Ids agree up to the first step at which the reference itself was undecided.
void expect_greedy(const test::ReferencePrompt& reference, const std::vector<int32_t>& ids, double margin) {
  ASSERT_EQ(reference.greedy_ids.size(), ids.size());
  for (size_t i = 0; i < ids.size() && reference.greedy_margin[i] >= margin; ++i) {
    ASSERT_EQ(reference.greedy_ids[i], ids[i]) << "step " << i << " of '" << reference.prompt << "'";
  }
}

class Reference : public testing::Test {
 protected:
  void SetUp() override {
    if (test::default_model_path().empty()) GTEST_SKIP() << "WICK_TEST_MODEL names no model";
  }
};

class ReferenceOnDevice : public test::OnDevice {
 protected:
  void SetUp() override {
    if (test::default_model_path().empty()) GTEST_SKIP() << "WICK_TEST_MODEL names no model";
    OnDevice::SetUp();
  }
  std::shared_ptr<const Model> load_there(bool exact) const { return load(exact, 0, Device::parse(GetParam())); }
};
WICK_ON_EVERY_DEVICE(ReferenceOnDevice);

TEST_F(Reference, PromptIds) {
  const auto model = load(false);
  for (const auto& prompt : test::reference_prompts()) EXPECT_EQ(prompt.prompt_ids, model->tokenize(prompt.prompt)) << prompt.prompt;
}

TEST_P(ReferenceOnDevice, ExactModeStaysWithinBounds) {
  Engine engine(load_there(true), {.max_sequences = 1});
  const std::vector<float> expected = test::reference_last_logits();
  const auto prompts = test::reference_prompts();
  for (size_t i = 0; i < prompts.size(); ++i) {
    const Rows rows = all_logits(engine, prompts[i].prompt_ids);
    double largest = 0;
    for (size_t v = 0; v < rows.back().size(); ++v) largest = std::max(largest, std::fabs(static_cast<double>(rows.back()[v]) - expected[i * 49152 + v]));
    EXPECT_LE(largest, 2e-3) << prompts[i].prompt;
    for (size_t t = 1; t < prompts[i].prompt_ids.size(); ++t) {
      const double nll = log_sum_exp(rows[t - 1]) - rows[t - 1][static_cast<size_t>(prompts[i].prompt_ids[t])];
      EXPECT_NEAR(prompts[i].prompt_nll[t - 1], nll, 1e-3) << prompts[i].prompt << " at " << t;
    }
    expect_greedy(prompts[i], greedy(engine, prompts[i].prompt_ids, 48), 0.01);
  }
}

TEST_P(ReferenceOnDevice, DefaultModeStaysWithinBounds) {
  Engine exact(load(true), {.max_sequences = 1});
  Engine fast(load_there(false), {.max_sequences = 1});
  double sum = 0;
  int64_t positions = 0, agree = 0;
  for (const auto& prompt : test::reference_prompts()) {
    std::vector<int32_t> ids = prompt.prompt_ids;
    ids.insert(ids.end(), prompt.greedy_ids.begin(), prompt.greedy_ids.end());
    const Rows reference = all_logits(exact, ids), rows = all_logits(fast, ids);
    ASSERT_EQ(reference.size(), rows.size());
    for (size_t t = 0; t < rows.size(); ++t, ++positions) {
      sum += divergence(reference[t], rows[t]);
      const auto best = [](const std::vector<float>& row) { return std::max_element(row.begin(), row.end()) - row.begin(); };
      agree += best(reference[t]) == best(rows[t]);
    }
    expect_greedy(prompt, greedy(fast, prompt.prompt_ids, 48), 0.3);
  }
  RecordProperty("positions", static_cast<int>(positions));
  RecordProperty("same_top1", static_cast<int>(agree));
  RecordProperty("mean_kl_1e6", static_cast<int>(sum / static_cast<double>(positions) * 1e6));
  EXPECT_LE(sum / static_cast<double>(positions), 0.0040);
  EXPECT_GE(static_cast<double>(agree) / static_cast<double>(positions), 0.98);
}

TEST_F(Reference, ThreadsDoNotChangeABit) {
  const auto prompts = test::reference_prompts();
  Engine one(load(false, 1), {.max_sequences = 1});
  Engine two(load(false, 2), {.max_sequences = 1});
  for (const auto& prompt : {prompts[0], prompts[3]}) {
    EXPECT_EQ(all_logits(one, prompt.prompt_ids), all_logits(two, prompt.prompt_ids));
    EXPECT_EQ(greedy(one, prompt.prompt_ids, 48), greedy(two, prompt.prompt_ids, 48));
  }
}

// 2,000 tokens of text: the reference prompts and their continuations, over and over.
std::vector<int32_t> long_text() {
  std::vector<int32_t> ids;
  while (ids.size() < 2000) {
    for (const auto& prompt : test::reference_prompts()) {
      ids.insert(ids.end(), prompt.prompt_ids.begin(), prompt.prompt_ids.end());
      ids.insert(ids.end(), prompt.greedy_ids.begin(), prompt.greedy_ids.end());
    }
  }
  ids.resize(2000);
  return ids;
}

// Log-probability of each token after the first. Keeps no logits: 2,000 rows would be 400 MB.
std::vector<double> log_probabilities(Engine& engine, const std::vector<int32_t>& ids) {
  std::vector<double> values;
  Request request;
  request.prompt_ids = ids;
  request.max_tokens = 0;
  request.prompt_logits = Request::Logits::kAll;
  request.on_prompt_logits = [&](int64_t position, std::span<const float> logits) {
    if (position + 1 == static_cast<int64_t>(ids.size())) return;
    const std::vector<float> row(logits.begin(), logits.end());
    values.push_back(row[static_cast<size_t>(ids[static_cast<size_t>(position) + 1])] - log_sum_exp(row));
  };
  Stream stream = engine.submit(std::move(request));
  while (stream.next()) {}
  return values;
}

TEST_P(ReferenceOnDevice, AnyChunkingOfALongTextGivesTheSameBitsInDefaultMode) {
  const auto model = load_there(false);
  const std::vector<int32_t> ids = long_text();
  const auto engine_with = [&](int64_t chunk) { return Engine(model, {.max_sequences = 1, .batch_invariant = true, .prefill_chunk = chunk}); };
  Engine whole = engine_with(0), single = engine_with(1), odd = engine_with(37);
  const std::vector<double> expected = log_probabilities(whole, ids);
  ASSERT_EQ(1999u, expected.size());
  EXPECT_EQ(expected, log_probabilities(single, ids));
  EXPECT_EQ(expected, log_probabilities(odd, ids));
}

TEST_F(Reference, AnyChunkingOfALongTextGivesTheSameValuesInExactMode) {
  const auto model = load(true);
  const std::vector<int32_t> ids = long_text();
  Engine whole(model, {.max_sequences = 1}), single(model, {.max_sequences = 1, .prefill_chunk = 1});
  const std::vector<double> expected = log_probabilities(whole, ids), one_by_one = log_probabilities(single, ids);
  ASSERT_EQ(expected.size(), one_by_one.size());
  for (size_t i = 0; i < expected.size(); ++i) ASSERT_NEAR(expected[i], one_by_one[i], 1e-4) << i;
}

}  // namespace
}  // namespace wick
