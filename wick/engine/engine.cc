#include "wick/engine/engine.h"

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <iterator>
#include <mutex>
#include <random>
#include <thread>

#include "wick/base/machine.h"
#include "wick/base/thread_pool.h"
#include "wick/engine/memory_plan.h"
#include "wick/engine/scheduler.h"

namespace wick {
namespace {

uint64_t random_seed() {
  std::random_device device;
  return static_cast<uint64_t>(device()) << 32 | device();
}

}  // namespace

struct Engine::Impl {
  Impl(std::shared_ptr<const Model> shared_model, const EngineOptions& engine_options)
      : model(std::move(shared_model)),
        options(engine_options),
        ctx(model->options().device,
            {.threads = model->options().threads, .isa = model->options().isa, .batch_invariant = options.batch_invariant}),
        pool(pool_config(), ctx.device()) {
    const ActivationLimits step = step_limits(options, ctx.device());
    limits = {options.max_sequences, step.rows, step.logit_rows, context};
    scheduler = std::make_unique<Scheduler>(ctx, model->network(), pool, limits);
    thread = std::thread([this] { loop(); });
  }

  ~Impl() {
    {
      const std::lock_guard lock(mutex);
      stopping = true;
    }
    wake.notify_one();
    thread.join();
  }

  // Decides on the context. Nothing has been allocated but the context's own.
  nn::KvPoolConfig pool_config() {
    const ModelOptions& model_options = model->options();
    const MemoryPlan plan = plan_engine(model->network().outline(), model_options, options);
    context = plan.context;
    nn::KvPoolConfig config = kv_pool_config(model->network().dims(), model_options, options);
    config.pages = plan.pages;
    if (counts_memory(model_options)) require_fit(plan, ctx.device());
    if (const uint64_t limit = ctx.device().memory().limit; plan.cache > limit) {
      fail(ErrorCode::kOutOfMemory, "the cache of ", options.max_sequences, " sequences of ", context, " positions needs ", plan.cache,
           " bytes, more than the ", limit, " of device ", ctx.device().name());
    }
    ctx.reserve_scratch(plan.scratch);
    return config;
  }

  // Between two steps tokens are chosen and handed out, in less time than it takes to wake a thread that has gone to sleep. But where time
  // is rationed, or threads share a processor, those that wait would take it from the one that works.
  std::chrono::microseconds patience_between_steps() const {
    constexpr std::chrono::microseconds kBetweenSteps{500};
    const CpuLimits allowed = cpu_limits();
    return !allowed.quota && ctx.threads() <= allowed.threads() ? kBetweenSteps : ThreadPool::kPatience;
  }

  void loop() {
    const std::chrono::microseconds patience = patience_between_steps();
    while (true) {
      {
        std::unique_lock lock(mutex);
        if (scheduler->idle()) {
          ctx.pool().set_patience(ThreadPool::kPatience);
          wake.wait(lock, [&] { return stopping || !inbox.empty(); });
          ctx.pool().set_patience(patience);
        }
        if (stopping) break;
        for (auto& sequence : inbox) scheduler->submit(std::move(sequence));
        inbox.clear();
      }
      scheduler->step();
      const std::lock_guard lock(mutex);
      pages_in_use = pool.pages_in_use();
      waiting = scheduler->waiting();
    }
    for (auto& sequence : inbox) sequence->end(FinishReason::kCancelled);
    scheduler->cancel_all();
  }

  std::vector<int32_t> prompt_ids(const Request& request) const;
  int64_t sequence_limit(const Request& request, int64_t prompt) const;
  std::unique_ptr<Sequence> sequence_for(Request request) const;

  std::shared_ptr<const Model> model;
  EngineOptions options;
  Context ctx;
  int64_t context = 0;
  nn::KvPool pool;
  SchedulerLimits limits;
  std::unique_ptr<Scheduler> scheduler;  // the thread's own

  std::mutex mutex;
  std::condition_variable wake;
  std::vector<std::unique_ptr<Sequence>> inbox;
  int64_t pages_in_use = 0;
  int64_t waiting = 0;
  bool stopping = false;
  std::thread thread;
};

std::vector<int32_t> Engine::Impl::prompt_ids(const Request& request) const {
  const int given = (request.prompt ? 1 : 0) + (request.prompt_ids.empty() ? 0 : 1) + (request.messages.empty() ? 0 : 1);
  require(given == 1, "request: exactly one of prompt, prompt_ids and messages must be given, got ", given);
  if (request.prompt) return model->tokenize(*request.prompt, {.add_special = request.add_special, .parse_special = request.parse_special});
  if (!request.messages.empty()) {
    return model->tokenize(model->apply_template(request.messages), {.add_special = false, .parse_special = true});
  }
  for (const int32_t id : request.prompt_ids) {
    require(id >= 0 && id < model->vocab_size(), "request: prompt id ", id, " is outside the vocabulary of ", model->vocab_size());
  }
  return request.prompt_ids;
}

int64_t Engine::Impl::sequence_limit(const Request& request, int64_t prompt) const {
  require(prompt > 0, "request: the prompt is empty");
  require(request.max_tokens >= -1, "request: max_tokens is ", request.max_tokens, ", expected -1 (no limit) or more");
  if (prompt > context || (prompt == context && request.max_tokens != 0)) {
    fail(ErrorCode::kLimitExceeded, "the prompt has ", prompt, " tokens, the context ", context, " positions");
  }
  if (request.max_tokens < 0) return context;
  return std::min(context, prompt + std::min(request.max_tokens, context));
}

Engine::Engine(std::shared_ptr<const Model> model, EngineOptions options) {
  require(model != nullptr, "Engine: no model");
  impl_ = std::make_unique<Impl>(std::move(model), options);
}
Engine::~Engine() = default;
Engine::Engine(Engine&&) noexcept = default;
Engine& Engine::operator=(Engine&&) noexcept = default;

std::unique_ptr<Sequence> Engine::Impl::sequence_for(Request request) const {
  check_sampling(request.sampling, model->vocab_size());
  std::vector<int32_t> ids = prompt_ids(request);
  const int64_t limit = sequence_limit(request, static_cast<int64_t>(ids.size()));
  require(request.made_up_prompt >= 0 && request.made_up_prompt < static_cast<int64_t>(ids.size()), "request: made_up_prompt is ", request.made_up_prompt,
          ", expected less than the ", ids.size(), " tokens of the prompt");
  const uint64_t seed = request.sampling.seed ? *request.sampling.seed : random_seed();
  const Tokenizer* tokenizer = model->has_tokenizer() ? &model->tokenizer() : nullptr;
  auto state = std::make_shared<Stream::State>(std::move(ids));
  state->usage.seed = seed;
  return std::make_unique<Sequence>(std::move(request), std::move(state), tokenizer, limit, seed);
}

Stream Engine::submit(Request request) {
  std::vector<Request> one;
  one.push_back(std::move(request));
  return std::move(submit_all(std::move(one)).front());
}

std::vector<Stream> Engine::submit_all(std::vector<Request> requests) {
  std::vector<Stream> streams;
  std::vector<std::unique_ptr<Sequence>> sequences;
  for (Request& request : requests) {
    sequences.push_back(impl_->sequence_for(std::move(request)));
    streams.push_back(Stream(sequences.back()->stream()));
  }
  {
    const std::lock_guard lock(impl_->mutex);
    const int64_t queued = static_cast<int64_t>(impl_->inbox.size() + sequences.size()) + impl_->waiting;
    if (queued > impl_->options.max_queue + impl_->options.max_sequences) {
      fail(ErrorCode::kLimitExceeded, "the queue of ", impl_->options.max_queue, " requests is full");
    }
    impl_->inbox.insert(impl_->inbox.end(), std::make_move_iterator(sequences.begin()), std::make_move_iterator(sequences.end()));
  }
  impl_->wake.notify_one();
  return streams;
}

const Model& Engine::model() const { return *impl_->model; }
int64_t Engine::context() const { return impl_->context; }
uint64_t Engine::kv_bytes() const { return impl_->pool.bytes(); }

double Engine::kv_bytes_per_position() const {
  return static_cast<double>(impl_->pool.config().page_bytes()) / static_cast<double>(kPagePositions);
}

int64_t Engine::pages_in_use() const {
  const std::lock_guard lock(impl_->mutex);
  return impl_->pages_in_use;
}

}  // namespace wick
