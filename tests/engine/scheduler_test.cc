// What a failing step leaves behind, with a network that fails when told to.
#include "wick/engine/scheduler.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "wick/engine/stream_state.h"

namespace wick {
namespace {

constexpr int32_t kVocab = 16;

// Its logits say "one more than the last token".
class CountingNetwork final : public LanguageModel {
 public:
  CountingNetwork() {
    outline_.dims = {.layers = 1, .d_model = 8, .heads = 1, .kv_heads = 1, .head_dim = 8, .d_ff = 8, .vocab = kVocab, .context = 256};
  }
  const NetworkOutline& outline() const override { return outline_; }
  std::unique_ptr<Workspace> make_workspace(const Device&, const ActivationLimits&) const override { return std::make_unique<Workspace>(); }
  void reserve(Context&, Workspace&, int64_t) const override { fail_if(failing_reserves); }
  void step(Context&, const StepBatch& batch, nn::KvPool&, Workspace&, const Tensor& logits) const override {
    fail_if(failing_steps);
    std::fill_n(logits.data<float>(), logits.elements(), 0.0f);
    for (int32_t i = 0; i < batch.logit_count; ++i) logits.data<float>()[i * kVocab + (batch.tokens[batch.logit_rows[i]] + 1) % kVocab] = 1;
  }
  uint64_t weight_bytes_per_token() const override { return 0; }

  mutable int failing_steps = 0, failing_reserves = 0;

 private:
  static void fail_if(int& count) {
    if (count > 0 && count--) fail(ErrorCode::kOutOfMemory, "no room");
  }
  NetworkOutline outline_;
};

class SchedulerTest : public testing::Test {
 protected:
  std::shared_ptr<Stream::State> submit(int64_t tokens) {
    Request request;
    request.sampling.temperature = 0;
    auto state = std::make_shared<Stream::State>(std::vector<int32_t>{1, 2, 3});
    scheduler_.submit(std::make_unique<Sequence>(std::move(request), state, nullptr, 3 + tokens, 0));
    return state;
  }
  void run() {
    for (int i = 0; i < 100 && !scheduler_.idle(); ++i) scheduler_.step();
    EXPECT_TRUE(scheduler_.idle());
    EXPECT_EQ(pool_.pages_in_use(), 0);
  }
  static void expect_failure(const Stream::State& state) {
    ASSERT_TRUE(state.finished && state.failure);
    EXPECT_EQ(state.failure->code, ErrorCode::kOutOfMemory);
    EXPECT_EQ(state.failure->message, "no room");
  }
  static void expect_answer(const Stream::State& state) {
    EXPECT_FALSE(state.failure) << state.failure->message;
    EXPECT_EQ(state.ids, (std::vector<int32_t>{4, 5, 6}));
  }

  Context ctx_{Device::cpu(), {.threads = 1}};
  CountingNetwork network_;
  nn::KvPool pool_{{.layers = 1, .kv_heads = 1, .head_dim = 8, .pages = 8}};
  Scheduler scheduler_{ctx_, network_, pool_, {.sequences = 2, .rows = 8, .logit_rows = 4, .context = 64}};
};

TEST_F(SchedulerTest, AFailingStepEndsWhatWasInItAndNothingElse) {
  network_.failing_steps = 1;
  const auto first = submit(3), second = submit(3), waiting = submit(3);
  run();
  expect_failure(*first);
  expect_failure(*second);
  expect_answer(*waiting);
  const auto later = submit(3);
  run();
  expect_answer(*later);
}

TEST_F(SchedulerTest, ASequenceThatCannotBePreparedFailsAlone) {
  network_.failing_reserves = 1;
  const auto first = submit(3), second = submit(3);
  run();
  expect_failure(*first);
  expect_answer(*second);
}

TEST_F(SchedulerTest, WhenEveryStepFailsEveryRequestIsTold) {
  network_.failing_steps = 1000;
  for (int i = 0; i < 5; ++i) {
    const auto state = submit(3);
    run();
    expect_failure(*state);
  }
}

}  // namespace
}  // namespace wick
