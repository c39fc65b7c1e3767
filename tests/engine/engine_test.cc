#include "wick/engine/engine.h"
#include "wick/ops/linear.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <new>
#include <thread>

#include "tests/support/on_device.h"
#include "tests/support/tiny_model.h"
#include "wick/base/error.h"

// Allocations of all threads but the test's own, which only waits.
namespace {
std::atomic<int64_t> engine_allocations{0};
thread_local bool test_thread = false;
}  // namespace

// Not inline: g++ would see malloc meet delete and warn.
[[gnu::noinline]] void* operator new(std::size_t size) {
  if (!test_thread) engine_allocations.fetch_add(1, std::memory_order_relaxed);
  if (void* data = std::malloc(size ? size : 1)) return data;
  throw std::bad_alloc();
}
[[gnu::noinline]] void operator delete(void* data) noexcept { std::free(data); }
[[gnu::noinline]] void operator delete(void* data, std::size_t) noexcept { std::free(data); }

namespace wick {
namespace {

using test::kTinyVocab;
using test::TinyModel;
using test::TinyModelFile;

std::shared_ptr<const Model> load(const TinyModel& tiny = {}, const ModelOptions& options = {}) {
  const TinyModelFile file(tiny);
  return Model::load(file.path(), options);
}

struct Answer {
  std::vector<int32_t> ids;
  std::string text;
  FinishReason reason = FinishReason::kNone;
  Usage usage;
};

Answer collect(Stream stream) {
  Answer answer;
  while (const auto piece = stream.next()) {
    answer.ids.insert(answer.ids.end(), piece->ids.begin(), piece->ids.end());
    answer.text += piece->text;
    if (piece->finish_reason != FinishReason::kNone) answer.reason = piece->finish_reason;
  }
  answer.usage = stream.usage();
  return answer;
}

Request greedy(std::string prompt, int64_t tokens) {
  Request request;
  request.prompt = std::move(prompt);
  request.max_tokens = tokens;
  request.sampling.temperature = 0;
  request.ignore_eos = true;
  return request;
}

template <class Call>
ErrorCode error_of(Call&& call) {
  try {
    call();
  } catch (const Error& error) {
    EXPECT_STRNE("", error.what());
    return error.code();
  }
  ADD_FAILURE() << "no error";
  return ErrorCode::kInternal;
}

TEST(Engine, GeneratesForEveryWeightAndCacheType) {
  for (const DTypeTraits& row : kDTypes) {
    if (!ops::can_pack(row.type)) continue;
    const DType type = row.type;
    for (const bool exact : {false, true}) {
      TinyModel tiny;
      tiny.type = type;
      if (row.block == 256) {  // whole blocks in every row
        tiny.d_model = 256;
        tiny.d_ff = 512;
      }
      tiny.biases = type == DType::kF16;
      tiny.tied = type != DType::kQ8_0;
      ModelOptions options;
      options.exact = exact;
      const auto model = load(tiny, options);
      for (const DType kv : {DType::kF32, DType::kF16, DType::kBF16, DType::kQ8_0}) {
        Engine engine(model, {.max_sequences = 1, .kv_type = kv});
        const Answer answer = collect(engine.submit(greedy("hello world", 20)));
        EXPECT_EQ(20u, answer.ids.size()) << row.name;
        EXPECT_EQ(FinishReason::kLength, answer.reason) << row.name;
      }
    }
  }
}

TEST(Engine, ResultsDoNotDependOnChunksThreadsOrCompany) {
  TinyModel tiny;
  tiny.type = DType::kQ4_1;
  const TinyModelFile file(tiny);
  const std::string prompts[] = {std::string(150, 'x') + " hello", "what is this?", "0123456789 hello hello", "z"};
  std::vector<std::vector<int32_t>> expected;
  {
    Engine alone(Model::load(file.path(), {.threads = 1}), {.max_sequences = 1});
    for (const std::string& prompt : prompts) expected.push_back(collect(alone.submit(greedy(prompt, 40))).ids);
  }
  for (const int threads : {1, 2, 3}) {
    const auto model = Model::load(file.path(), {.threads = threads});
    for (const int64_t chunk : {1, 7, 64, 512}) {
      Engine engine(model, {.max_sequences = 4, .prefill_chunk = chunk});
      std::vector<Stream> streams;
      for (const std::string& prompt : prompts) streams.push_back(engine.submit(greedy(prompt, 40)));
      for (size_t i = 0; i < streams.size(); ++i) EXPECT_EQ(expected[i], collect(std::move(streams[i])).ids) << threads << " threads, chunks of " << chunk;
    }
  }
}

// What a request gives: the logits of its prompt, position by position or of the last one, and the tokens after it.
struct Outcome {
  std::vector<float> logits;
  std::vector<int32_t> ids;
};

std::vector<Outcome> outcomes(Engine& engine, const std::vector<int64_t>& lengths, Request::Logits wanted) {
  std::vector<Outcome> all(lengths.size());
  std::vector<Stream> streams;
  for (size_t i = 0; i < lengths.size(); ++i) {
    Request request = greedy("", 12);
    request.prompt.reset();
    for (int64_t t = 0; t < lengths[i]; ++t) request.prompt_ids.push_back(static_cast<int32_t>((t * 37 + t * t + static_cast<int64_t>(i)) % 250));
    request.prompt_logits = wanted;
    request.on_prompt_logits = [&out = all[i].logits](int64_t, std::span<const float> logits) { out.insert(out.end(), logits.begin(), logits.end()); };
    streams.push_back(engine.submit(std::move(request)));
  }
  for (size_t i = 0; i < streams.size(); ++i) all[i].ids = collect(std::move(streams[i])).ids;
  return all;
}

bool same_bits(std::span<const float> a, std::span<const float> b) { return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size_bytes()) == 0; }

// What engines give for the same prompts, with the logits of all positions and of the last ones.
void expect_outcomes(const std::vector<Outcome>& expected, const std::vector<Outcome>& all, const std::vector<Outcome>& last) {
  for (size_t i = 0; i < expected.size(); ++i) {
    EXPECT_TRUE(same_bits(expected[i].logits, all[i].logits)) << "prompt " << i;
    EXPECT_TRUE(same_bits(std::span(expected[i].logits).last(kTinyVocab), last[i].logits)) << "prompt " << i;
    EXPECT_EQ(expected[i].ids, all[i].ids);
    EXPECT_EQ(expected[i].ids, last[i].ids);
  }
}

// Bit for bit, with more threads than cores, over the border of attention's blocks, and beside requests of all kinds.
TEST(Engine, LogitsDoNotDependOnChunksThreadsOrCompany) {
  const struct {
    DType type, kv_type;
  } kinds[] = {{DType::kQ4_0, DType::kF16}, {DType::kQ4_K, DType::kQ8_0}, {DType::kQ6_K, DType::kBF16}, {DType::kQ8_0, DType::kF16}, {DType::kBF16, DType::kBF16}, {DType::kF16, DType::kF32}};
  const std::vector<int64_t> lengths = {300, 45, 1, 70};
  for (const auto& kind : kinds) {
    TinyModel tiny;
    tiny.type = kind.type;
    tiny.d_model = 256;
    tiny.d_ff = 512;
    const TinyModelFile file(tiny);
    std::vector<Outcome> expected;
    {
      Engine alone(Model::load(file.path(), {.threads = 1}), {.max_sequences = 1, .kv_type = kind.kv_type});
      expected = outcomes(alone, lengths, Request::Logits::kAll);
    }
    const struct {
      int threads;
      int32_t sequences;
      int64_t chunk;
    } cases[] = {{1, 4, 512}, {2, 4, 1}, {2, 2, 512}, {3, 4, 7}, {5, 3, 100}, {8, 4, 64}, {16, 1, 512}, {16, 4, 512}, {16, 4, 33}};
    for (const auto& c : cases) {
      SCOPED_TRACE(std::string(dtype_name(kind.type)) + ", " + std::to_string(c.threads) + " threads, " + std::to_string(c.sequences) + " sequences, chunks of " + std::to_string(c.chunk));
      Engine engine(Model::load(file.path(), {.threads = c.threads}), {.max_sequences = c.sequences, .kv_type = kind.kv_type, .prefill_chunk = c.chunk});
      const std::vector<Outcome> all = outcomes(engine, lengths, Request::Logits::kAll);
      expect_outcomes(expected, all, outcomes(engine, lengths, Request::Logits::kLast));
    }
  }
}

void expect_company_changes_nothing(const Device& device) {
  const struct {
    DType type, kv_type;
    int64_t d_model, d_ff;
  } kinds[] = {{DType::kBF16, DType::kF16, 256, 1280},
               {DType::kQ4_0, DType::kF16, 256, 1280},
               {DType::kQ4_K, DType::kBF16, 512, 2048},
               {DType::kQ8_0, DType::kQ8_0, 64, 96},
               {DType::kF16, DType::kF32, 64, 96}};
  const std::vector<int64_t> lengths = {300, 45, 1, 70};
  for (const auto& kind : kinds) {
    TinyModel tiny;
    tiny.type = kind.type;
    tiny.d_model = kind.d_model;
    tiny.d_ff = kind.d_ff;
    tiny.spread = 0.05f;
    const auto model = load(tiny, {.device = device, .threads = 2});
    const auto outcomes_with = [&](int32_t sequences, int64_t chunk, Request::Logits wanted) {
      Engine engine(model, {.max_sequences = sequences, .kv_type = kind.kv_type, .batch_invariant = true, .prefill_chunk = chunk});
      return outcomes(engine, lengths, wanted);
    };
    const std::vector<Outcome> expected = outcomes_with(1, 512, Request::Logits::kAll);
    for (const auto& [sequences, chunk] : {std::pair<int32_t, int64_t>{4, 512}, {4, 1}, {2, 64}, {3, 100}, {1, 1}}) {
      SCOPED_TRACE(concat(dtype_name(kind.type), ", ", sequences, " sequences, chunks of ", chunk));
      expect_outcomes(expected, outcomes_with(sequences, chunk, Request::Logits::kAll),
                      outcomes_with(sequences, chunk, Request::Logits::kLast));
    }
  }
}

TEST(Engine, BatchInvariantLogitsDoNotDependOnCompany) { expect_company_changes_nothing(Device::cpu()); }

TEST(Engine, AMadeUpPromptIsACacheOfOrdinaryNumbers) {
  for (const DType kv : {DType::kF32, DType::kF16, DType::kBF16, DType::kQ8_0}) {
    Engine engine(load(), {.max_sequences = 2, .kv_type = kv});
    for (const int64_t count : {1, 63, 64, 65, 300}) {
      Request request = greedy("", 30);
      request.prompt.reset();
      request.prompt_ids.assign(static_cast<size_t>(count) + 2, 7);
      request.made_up_prompt = count;
      int64_t positions = 0;
      request.prompt_logits = Request::Logits::kAll;
      request.on_prompt_logits = [&](int64_t position, std::span<const float>) { positions += position >= count ? 1 : 1000; };
      const Answer first = collect(engine.submit(request)), again = collect(engine.submit(request));
      EXPECT_EQ(30u, first.ids.size());
      EXPECT_EQ(first.ids, again.ids);
      EXPECT_EQ(4, positions);
      request.made_up_prompt = count + 2;
      EXPECT_EQ(ErrorCode::kInvalidArgument, error_of([&] { engine.submit(request); }));
    }
  }
}

TEST(Engine, TheSameSeedGivesTheSameTextAndTheSeedIsReported) {
  const auto model = load();
  Engine engine(model, {.max_sequences = 2});
  Request request = greedy("hello", 30);
  request.sampling = SamplingParams{};
  request.sampling.temperature = 1.0f;
  request.sampling.seed = 99;
  const Answer first = collect(engine.submit(request)), second = collect(engine.submit(request));
  EXPECT_EQ(first.ids, second.ids);
  EXPECT_EQ(99u, first.usage.seed);
  request.sampling.seed.reset();
  const Answer random = collect(engine.submit(request));
  request.sampling.seed = random.usage.seed;
  EXPECT_EQ(random.ids, collect(engine.submit(request)).ids);
}

TEST(Engine, CountsAndPagesAddUp) {
  Engine engine(load(), {.max_sequences = 3});
  std::vector<Stream> streams;
  for (int i = 0; i < 7; ++i) streams.push_back(engine.submit(greedy("hello " + std::to_string(i), 70)));  // more than run at once
  for (Stream& stream : streams) {
    const Answer answer = collect(std::move(stream));
    EXPECT_EQ(70, answer.usage.completion_tokens);
    EXPECT_GT(answer.usage.prompt_tokens, 0);
    EXPECT_GE(answer.usage.first_token_ms, 0);
  }
  for (int i = 0; i < 1000 && engine.pages_in_use() > 0; ++i) std::this_thread::sleep_for(std::chrono::milliseconds(5));
  EXPECT_EQ(0, engine.pages_in_use());
}

TEST(Engine, StopStringsEndTheText) {
  Engine engine(load(), {.max_sequences = 1});
  const Answer whole = collect(engine.submit(greedy("hello", 60)));
  ASSERT_GT(whole.text.size(), 8u);
  Request request = greedy("hello", 60);
  request.stop = {whole.text.substr(4, 3)};
  const Answer cut = collect(engine.submit(request));
  EXPECT_EQ(FinishReason::kStop, cut.reason);
  EXPECT_EQ(whole.text.substr(0, whole.text.find(request.stop[0])), cut.text);
}

TEST(Engine, EndOfGenerationTokenStops) {
  Engine engine(load(), {.max_sequences = 1});
  Request request = greedy("hello", 60);
  request.sampling.logit_bias = {{test::kTinyEnd, 1000.0f}};
  request.ignore_eos = false;
  const Answer answer = collect(engine.submit(request));
  EXPECT_EQ(FinishReason::kStop, answer.reason);
  EXPECT_TRUE(answer.ids.empty());
  request.ignore_eos = true;
  EXPECT_EQ(60u, collect(engine.submit(request)).ids.size());
}

TEST(Engine, ContextLimitsTheAnswerAndRefusesLongerPrompts) {
  Engine engine(load(), {.max_sequences = 1, .context = 100});
  EXPECT_EQ(100, engine.context());
  const Answer answer = collect(engine.submit(greedy("abc", -1)));
  EXPECT_EQ(97u, answer.ids.size());
  EXPECT_EQ(FinishReason::kLength, answer.reason);
  EXPECT_EQ(ErrorCode::kLimitExceeded, error_of([&] { engine.submit(greedy(std::string(101, 'q'), 1)); }));
  EXPECT_EQ(ErrorCode::kLimitExceeded, error_of([&] { engine.submit(greedy(std::string(100, 'q'), 1)); }));
  EXPECT_EQ(0u, collect(engine.submit(greedy(std::string(100, 'q'), 0))).ids.size());
}

TEST(Engine, RefusesRequestsThatMakeNoSense) {
  Engine engine(load(), {.max_sequences = 1});
  EXPECT_EQ(ErrorCode::kInvalidArgument, error_of([&] { engine.submit({}); }));
  EXPECT_EQ(ErrorCode::kInvalidArgument, error_of([&] { engine.submit(greedy("", 1)); }));
  Request request = greedy("a", 1);
  request.prompt_ids = {1};
  EXPECT_EQ(ErrorCode::kInvalidArgument, error_of([&] { engine.submit(request); }));
  request.prompt.reset();
  request.prompt_ids = {kTinyVocab};
  EXPECT_EQ(ErrorCode::kInvalidArgument, error_of([&] { engine.submit(request); }));
  request.prompt_ids = {-1};
  EXPECT_EQ(ErrorCode::kInvalidArgument, error_of([&] { engine.submit(request); }));
  request = greedy("a", -2);
  EXPECT_EQ(ErrorCode::kInvalidArgument, error_of([&] { engine.submit(request); }));
  request = greedy("a", INT64_MAX);
  EXPECT_EQ(511u, collect(engine.submit(request)).ids.size());
  EXPECT_EQ(ErrorCode::kInvalidArgument, error_of([&] { Engine(load(), {.max_sequences = 0}); }));
  EXPECT_EQ(ErrorCode::kInvalidArgument, error_of([&] { Engine(nullptr); }));
  EXPECT_EQ(ErrorCode::kLimitExceeded, error_of([&] { Engine(load(), {.context = 513}); }));
  EXPECT_EQ(ErrorCode::kOutOfMemory, error_of([&] { Engine(load(), {.context = 512, .kv_memory = 4096}); }));
}

TEST(Engine, QueueHasABound) {
  Engine engine(load(), {.max_sequences = 1, .max_queue = 2});
  std::vector<Stream> streams;
  EXPECT_EQ(ErrorCode::kLimitExceeded, error_of([&] {
              for (int i = 0; i < 100; ++i) streams.push_back(engine.submit(greedy("hello", 400)));
            }));
  EXPECT_GE(streams.size(), 3u);
}

TEST(Engine, SeveralAreTakenTogetherOrNotAtAll) {
  Engine engine(load(), {.max_sequences = 2, .max_queue = 2});
  EXPECT_EQ(ErrorCode::kLimitExceeded, error_of([&] { engine.submit_all(std::vector<Request>(5, greedy("hello", 400))); }));
  EXPECT_EQ(ErrorCode::kInvalidArgument, error_of([&] { engine.submit_all({greedy("hello", 400), Request()}); }));
  EXPECT_EQ(0, engine.pages_in_use());
  std::vector<Stream> streams = engine.submit_all(std::vector<Request>(4, greedy("hello", 20)));
  ASSERT_EQ(4u, streams.size());
  const std::vector<int32_t> first = collect(std::move(streams[0])).ids;
  EXPECT_EQ(20u, first.size());
  for (size_t i = 1; i < streams.size(); ++i) EXPECT_EQ(first, collect(std::move(streams[i])).ids);
  EXPECT_TRUE(engine.submit_all({}).empty());
}

TEST(Engine, CancellingAndDestroyingStreamsAndEngines) {
  const auto model = load();
  auto engine = std::make_unique<Engine>(model, EngineOptions{.max_sequences = 2});
  Stream cancelled = engine->submit(greedy("hello", 500));
  cancelled.next();
  cancelled.cancel();
  EXPECT_EQ(FinishReason::kCancelled, collect(std::move(cancelled)).reason);
  { Stream dropped = engine->submit(greedy("hello", 500)); }
  EXPECT_EQ(20u, collect(engine->submit(greedy("hello", 20))).ids.size());
  std::vector<Stream> running;
  for (int i = 0; i < 5; ++i) running.push_back(engine->submit(greedy("hello", 500)));
  engine.reset();
  for (Stream& stream : running) EXPECT_EQ(FinishReason::kCancelled, collect(std::move(stream)).reason);
}

TEST(Engine, NextWithATimeoutComesBack) {
  Engine engine(load(), {.max_sequences = 1});
  Stream stream = engine.submit(greedy("hello", 400));
  int64_t tokens = 0;
  while (!stream.done()) {
    if (const auto piece = stream.next(std::chrono::milliseconds(0))) tokens += static_cast<int64_t>(piece->ids.size());
  }
  EXPECT_EQ(400, tokens);
  EXPECT_FALSE(stream.next());
}

TEST(Engine, ARequestWhoseLogitsAreNoNumbersFailsAlone) {
  TinyModel tiny;
  tiny.nan_weight_in_layer = 1;
  Engine broken(load(tiny), {.max_sequences = 2});
  for (int i = 0; i < 2; ++i) EXPECT_EQ(ErrorCode::kInternal, error_of([&] { collect(broken.submit(greedy("hello", 5))); }));
  // In a sound model one request's NaN, here by its own callback's hand, leaves the next untouched.
  Engine engine(load(), {.max_sequences = 2});
  Request poisoned = greedy("hello", 5);
  poisoned.prompt_logits = Request::Logits::kLast;
  poisoned.on_prompt_logits = [](int64_t, std::span<const float>) { throw std::runtime_error("callback failed"); };
  Stream bad = engine.submit(poisoned), good = engine.submit(greedy("hello", 50));
  EXPECT_EQ(ErrorCode::kInternal, error_of([&] { collect(std::move(bad)); }));
  EXPECT_EQ(50u, collect(std::move(good)).ids.size());
}

TEST(Engine, MessagesGoThroughTheTemplate) {
  const auto model = load();
  Engine engine(model, {.max_sequences = 1});
  Request request = greedy("", 5);
  request.prompt.reset();
  request.messages = {{"user", "hello"}};
  Stream stream = engine.submit(request);
  EXPECT_EQ(model->tokenize("<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\n", {.add_special = false, .parse_special = true}), stream.prompt_ids());
}

TEST(Engine, TheTokenLoopDoesNotAllocate) {
  test_thread = true;
  TinyModel tiny;
  tiny.type = DType::kQ8_0;
  const auto model = load(tiny, {.threads = 2});
  Engine engine(model, {.max_sequences = 2});
  collect(engine.submit(greedy("warm", 130)));
  int64_t at_prompt_end = -1;
  Request request = greedy("hello", 200);
  request.sampling.temperature = 0.8f;
  request.sampling.top_p = 0.9f;
  request.sampling.repeat_penalty = 1.1f;
  request.sampling.seed = 3;
  request.stop = {"a stop string that does not come"};
  request.on_prefill = [&](int64_t, int64_t) { at_prompt_end = engine_allocations.load(); };
  Stream stream = engine.submit(request);
  int64_t tokens = 0;
  while (const auto piece = stream.next()) tokens += static_cast<int64_t>(piece->ids.size());
  EXPECT_EQ(200, tokens);
  EXPECT_EQ(at_prompt_end, engine_allocations.load());
  test_thread = false;
}

// On another device: the same tokens in f32, and about the same logits with weights and caches of every type.
class EngineOnDevice : public test::OnDevice {
 protected:
  std::shared_ptr<const Model> load_there(const TinyModel& tiny, bool exact) const { return load(tiny, {.device = Device::parse(GetParam()), .threads = 2, .exact = exact}); }
};
WICK_ON_DEVICES(EngineOnDevice, "cuda");

std::vector<std::vector<int32_t>> answers(const std::shared_ptr<const Model>& model, int32_t prefill_chunk) {
  Engine engine(model, {.max_sequences = 3, .prefill_chunk = prefill_chunk});
  std::vector<Stream> streams;
  for (const char* prompt : {"hello", "a longer prompt, which goes over a page of the cache and a little more than that: one, two, three, four", "x", "y z"}) {
    Request request = greedy(prompt, 90);
    request.ignore_eos = true;
    streams.push_back(engine.submit(std::move(request)));
  }
  std::vector<std::vector<int32_t>> ids;
  for (Stream& stream : streams) ids.push_back(collect(std::move(stream)).ids);
  return ids;
}

TEST_P(EngineOnDevice, BatchInvariantLogitsDoNotDependOnCompany) { expect_company_changes_nothing(Device::parse(GetParam())); }

TEST_P(EngineOnDevice, GivesTheSameTokens) {
  for (const int64_t heads : {1, 2, 4, 8}) {
    TinyModel tiny;
    tiny.heads = heads;
    tiny.kv_heads = heads == 8 ? 2 : 1;
    tiny.biases = heads == 4;
    tiny.tied = heads != 2;
    const auto expected = answers(load(tiny, {.threads = 2, .exact = true}), 512);
    const auto model = load_there(tiny, true);
    for (const int32_t chunk : {512, 16}) EXPECT_EQ(expected, answers(model, chunk)) << heads << " heads, chunks of " << chunk;
  }
}

std::vector<float> prompt_logits(const std::shared_ptr<const Model>& model, DType kv_type) {
  Engine engine(model, {.max_sequences = 1, .kv_type = kv_type});
  std::vector<float> all;
  Request request = greedy("hello, this is a prompt of some length: hell, he, ll", 1);
  request.prompt_logits = Request::Logits::kAll;
  request.on_prompt_logits = [&](int64_t, std::span<const float> logits) { all.insert(all.end(), logits.begin(), logits.end()); };
  collect(engine.submit(std::move(request)));
  return all;
}

TEST_P(EngineOnDevice, GivesAboutTheSameLogits) {
  for (const DType type : {DType::kF32, DType::kF16, DType::kBF16, DType::kQ4_0, DType::kQ4_1, DType::kQ5_0, DType::kQ5_1, DType::kQ8_0}) {
    for (const DType kv_type : {DType::kF16, DType::kBF16, DType::kQ8_0}) {
      TinyModel tiny;
      tiny.type = type;
      const std::vector<float> expected = prompt_logits(load(tiny, {.threads = 2}), kv_type), got = prompt_logits(load_there(tiny, false), kv_type);
      ASSERT_EQ(expected.size(), got.size());
      double error = 0, power = 0;
      for (size_t i = 0; i < got.size(); ++i) {
        error += std::pow(double{got[i]} - expected[i], 2);
        power += std::pow(double{expected[i]}, 2);
      }
      EXPECT_LE(error / power, is_quantised(type) ? 2e-3 : type == DType::kBF16 ? 2e-4 : 1e-5) << dtype_name(type) << " " << dtype_name(kv_type);
    }
  }
}

// Sequences that end at different times, in several ways, and requests that come while others run.
std::vector<std::vector<int32_t>> answers_of_many(Engine& engine, const SamplingParams& sampling, const std::map<int32_t, float>& bias) {
  std::vector<Stream> streams;
  for (int i = 0; i < 9; ++i) {
    Request request = greedy("hello " + std::string(static_cast<size_t>(i * 7), 'x'), 5 + i * 11);
    request.ignore_eos = i % 2 == 0;
    if (i % 3 == 0) request.stop = {"ll", "\x01"};
    request.sampling = sampling;
    if (i % 4 == 3) request.sampling.temperature = 0;
    request.sampling.seed = static_cast<uint64_t>(i);
    request.sampling.logit_bias = bias;
    streams.push_back(engine.submit(std::move(request)));
  }
  std::vector<std::vector<int32_t>> answers;
  for (Stream& stream : streams) answers.push_back(collect(std::move(stream)).ids);
  return answers;
}

TEST_P(EngineOnDevice, ChoosesOnTheDeviceWhatTheSamplerWould) {
  TinyModel tiny;
  tiny.spread = 0.3f;
  const auto model = load_there(tiny, true);
  SamplingParams largest, few;
  largest.temperature = 0;
  few.temperature = 1.5f;
  few.top_k = 40;
  few.min_p = 0.01f;
  for (const int32_t sequences : {1, 4}) {
    Engine engine(model, {.max_sequences = sequences});
    for (const SamplingParams& sampling : {largest, SamplingParams(), few}) {
      const auto expected = answers_of_many(engine, sampling, {{0, 0.0f}});  // a bias, though of nothing, is the sampler's
      for (int repetition = 0; repetition < 3; ++repetition) {
        EXPECT_EQ(expected, answers_of_many(engine, sampling, {})) << sequences << " sequences at temperature " << sampling.temperature;
      }
    }
  }
}

TEST_P(EngineOnDevice, ANaNEndsItsRequestWhoeverChooses) {
  TinyModel tiny;
  tiny.nan_weight_in_layer = 1;
  Engine engine(load_there(tiny, true), {.max_sequences = 2});
  for (int repetition = 0; repetition < 2; ++repetition) {
    EXPECT_EQ(ErrorCode::kInternal, error_of([&] { collect(engine.submit(greedy("hello", 20))); }));
  }
}

// One of two requests chooses, some tokens after its prompt, one that the other never sees and whose embedding is NaN.
void one_of_two_meets_a_nan(const ModelOptions& options) {
  TinyModel tiny;
  tiny.tied = false;
  std::vector<int32_t> sick, well;
  {
    Engine engine(load(tiny, options), {.max_sequences = 1});
    sick = collect(engine.submit(greedy("hello", 40))).ids;
    well = collect(engine.submit(greedy("x", 40))).ids;
  }
  const auto met = [](const std::vector<int32_t>& ids, int32_t id) { return std::find(ids.begin(), ids.end(), id) != ids.end(); };
  const std::vector<int32_t> prompts = {'o', 'x'};  // beside "hell"; a byte's token is its value
  for (size_t i = 3; i < sick.size() && tiny.nan_token < 0; ++i) {
    const bool first = std::find(sick.begin(), sick.begin() + static_cast<std::ptrdiff_t>(i), sick[i]) == sick.begin() + static_cast<std::ptrdiff_t>(i);
    if (first && sick[i] < kTinyVocab - 6 && !met(well, sick[i]) && !met(prompts, sick[i])) tiny.nan_token = sick[i];
  }
  ASSERT_GE(tiny.nan_token, 0) << "no such token in this model";
  Engine engine(load(tiny, options), {.max_sequences = 2});
  for (int repetition = 0; repetition < 3; ++repetition) {
    Stream first = engine.submit(greedy("hello", 40)), second = engine.submit(greedy("x", 40));
    EXPECT_EQ(ErrorCode::kInternal, error_of([&] { collect(std::move(first)); }));
    EXPECT_EQ(well, collect(std::move(second)).ids);
  }
}

TEST(Engine, ANaNEndsItsOwnRequestAlone) { one_of_two_meets_a_nan({.threads = 2}); }
TEST_P(EngineOnDevice, ANaNEndsItsOwnRequestAlone) { one_of_two_meets_a_nan({.device = Device::parse(GetParam()), .threads = 2, .exact = true}); }

// The logits of every position of a prompt, evaluated in steps of `chunk` tokens.
std::vector<float> logits_in_steps(const std::shared_ptr<const Model>& model, const std::string& prompt, int64_t chunk) {
  Engine engine(model, {.max_sequences = 1, .kv_type = DType::kF16, .prefill_chunk = chunk});
  std::vector<float> all;
  Request request = greedy(prompt, 1);
  request.prompt_logits = Request::Logits::kAll;
  request.on_prompt_logits = [&](int64_t, std::span<const float> logits) { all.insert(all.end(), logits.begin(), logits.end()); };
  collect(engine.submit(std::move(request)));
  return all;
}

// Models whose steps of one token are one kernel where the device has it: short and long contexts, both head sizes, heads alone and in groups.
TEST_P(EngineOnDevice, StepsOfOneTokenGiveAboutTheSameLogits) {
  std::string prompt = "hello";
  for (int i = 0; i < 600; ++i) prompt += static_cast<char>('a' + i * i % 23);
  for (const DType type : {DType::kBF16, DType::kQ8_0, DType::kQ4_0, DType::kQ4_K}) {
    for (const int64_t heads : {2, 4}) {
      for (const int64_t kv_heads : {int64_t{1}, heads}) {
        TinyModel tiny;
        tiny.type = type;
        tiny.layers = 3;
        tiny.d_model = 256;
        tiny.d_ff = 1280;
        tiny.heads = heads;
        tiny.kv_heads = kv_heads;
        tiny.context = 768;
        tiny.spread = 0.05f;
        const std::vector<float> expected = logits_in_steps(load(tiny, {.threads = 2, .exact = true}), prompt, 512);
        const auto model = load_there(tiny, false);
        const std::vector<float> got = logits_in_steps(model, prompt, 1);
        ASSERT_EQ(expected.size(), got.size());
        double error = 0, power = 0;
        for (size_t i = 0; i < got.size(); ++i) {
          error += std::pow(double{got[i]} - expected[i], 2);
          power += std::pow(double{expected[i]}, 2);
        }
        EXPECT_LE(error / power, type == DType::kBF16 ? 2e-4 : 1e-5) << dtype_name(type) << " " << heads << " heads, " << kv_heads << " for keys";
        const std::vector<float> again = logits_in_steps(model, prompt, 1);
        EXPECT_EQ(0, std::memcmp(got.data(), again.data(), got.size() * sizeof(float))) << "the same step gives the same bits";
      }
    }
  }
}

TEST(Model, SaysWhatItIs) {
  const auto model = load();
  EXPECT_EQ("tiny", model->name());
  EXPECT_EQ("llama", model->architecture());
  EXPECT_EQ(512, model->context_length());
  EXPECT_EQ(kTinyVocab, model->vocab_size());
  EXPECT_EQ("hello", model->detokenize(model->tokenize("hello")));
  EXPECT_GT(model->weight_bytes_per_token(), 100000u);
}

TEST(Model, HyperParametersThatCannotBeAreNamed) {
  const struct {
    const char* key;
    MetadataValue value;
  } cases[] = {
      {"llama.block_count", int64_t{0}},        {"llama.block_count", int64_t{-1}},       {"llama.block_count", int64_t{1} << 31},
      {"llama.block_count", 1.5},               {"llama.block_count", std::string("2")},  {"llama.embedding_length", int64_t{0}},
      {"llama.embedding_length", int64_t{63}},  {"llama.embedding_length", UINT64_MAX},   {"llama.feed_forward_length", int64_t{0}},
      {"llama.feed_forward_length", int64_t{7}}, {"llama.attention.head_count", int64_t{0}}, {"llama.attention.head_count", int64_t{3}},
      {"llama.attention.head_count", int64_t{5}}, {"llama.attention.head_count_kv", int64_t{0}}, {"llama.attention.head_count_kv", int64_t{3}},
      {"llama.context_length", int64_t{0}},     {"llama.context_length", int64_t{-5}},    {"llama.rope.freq_base", -1.0},
      {"llama.rope.freq_base", 0.0},            {"llama.rope.dimension_count", int64_t{15}}, {"llama.rope.dimension_count", int64_t{18}},
      {"llama.attention.layer_norm_rms_epsilon", -1.0}, {"general.architecture", std::string("unheard-of")}, {"general.architecture", int64_t{1}},
      {"llama.rope.scaling.type", std::string("magic")}, {"llama.attention.key_length", int64_t{17}}, {"llama.expert_count", int64_t{8}},
      {"tokenizer.ggml.eos_token_id", int64_t{100000}}, {"tokenizer.ggml.token_type", std::vector<int64_t>{1, 2}},
      {"tokenizer.ggml.merges", std::vector<std::string>{"nospace"}}, {"tokenizer.ggml.merges", std::vector<std::string>{"q zzz"}},
      {"tokenizer.ggml.tokens", std::vector<std::string>{}}, {"tokenizer.ggml.tokens", int64_t{4}},
  };
  for (const auto& c : cases) {
    TinyModel tiny;
    tiny.change_metadata = [&](Metadata& metadata) {
      Metadata changed;
      changed.insert(c.key, c.value);
      for (const auto& [key, value] : metadata.values()) changed.insert(key, value);
      metadata = changed;
    };
    const ErrorCode code = error_of([&] { load(tiny); });
    EXPECT_TRUE(code == ErrorCode::kInvalidFile || code == ErrorCode::kUnsupported) << c.key << ": " << error_code_name(code);
  }
}

TEST(Model, MissingAndMisshapenTensorsAreNamed) {
  const std::string names[] = {"token_embd.weight", "blk.0.attn_q.weight", "blk.1.ffn_down.weight", "output_norm.weight", "blk.1.attn_norm.weight"};
  for (const std::string& name : names) {
    TinyModel tiny;
    tiny.leave_out = [&](const std::string& candidate) { return candidate == name; };
    try {
      load(tiny);
      FAIL() << name;
    } catch (const Error& error) {
      EXPECT_EQ(ErrorCode::kInvalidFile, error.code());
      EXPECT_NE(std::string::npos, std::string(error.what()).find(name)) << error.what();
    }
  }
}

TEST(Model, WithoutATokenizerTheRestWorks) {
  TinyModel tiny;
  tiny.change_metadata = [](Metadata& metadata) {
    Metadata changed;
    for (const auto& [key, value] : metadata.values()) {
      if (key.find("tokenizer") == std::string::npos) changed.insert(key, value);
    }
    metadata = changed;
  };
  const auto model = load(tiny);
  EXPECT_EQ(ErrorCode::kUnsupported, error_of([&] { model->tokenizer(); }));
  EXPECT_EQ(ErrorCode::kUnsupported, error_of([&] { model->chat_template(); }));
  Engine engine(model, {.max_sequences = 1});
  Request request = greedy("", 5);
  request.prompt.reset();
  request.prompt_ids = {1, 2, 3};
  EXPECT_EQ(5u, collect(engine.submit(request)).ids.size());
}

TEST(Model, LoadingCanBeCancelledAndReportsProgress) {
  const TinyModelFile file;
  uint64_t last = 0, calls = 0;
  ModelOptions options;
  options.on_progress = [&](uint64_t done, uint64_t total) {
    EXPECT_GE(done, last);
    EXPECT_LE(done, total);
    last = done;
    ++calls;
    return true;
  };
  Model::load(file.path(), options);
  EXPECT_GT(calls, 5u);
  options.on_progress = [&](uint64_t, uint64_t) { return --calls > 3; };
  EXPECT_EQ(ErrorCode::kCancelled, error_of([&] { Model::load(file.path(), options); }));
}

TEST(Model, AFileCutAnywhereIsAnErrorAndNoCrash) {
  TinyModel tiny;
  tiny.layers = 1;
  const std::string bytes = test::tiny_model_bytes(tiny);
  for (size_t length = 0; length < bytes.size(); length += 1 + length / 50) {
    const TinyModelFile file(bytes.substr(0, length));
    const ErrorCode code = error_of([&] { Model::load(file.path()); });
    EXPECT_TRUE(code == ErrorCode::kInvalidFile || code == ErrorCode::kUnsupported) << length;
  }
}

}  // namespace
}  // namespace wick
