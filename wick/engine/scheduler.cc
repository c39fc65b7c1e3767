#include "wick/engine/scheduler.h"

#include <algorithm>

#include "wick/base/checked.h"
#include "wick/nn/made_up_cache.h"
#include "wick/ops/draw.h"

namespace wick {
namespace {

Shape draws_shape(const SchedulerLimits& limits) { return {limits.logit_rows, static_cast<int64_t>(sizeof(TokenDraw) / sizeof(int32_t))}; }

}  // namespace

Scheduler::Flight::Flight(const SchedulerLimits& limits, const Device& device)
    : buffer(nn::StepLimits{static_cast<int32_t>(limits.rows), static_cast<int32_t>(limits.sequences), limits.context}, device),
      chosen(Tensor::staging({limits.logit_rows}, DType::kI32, device)),
      draws(Tensor::staging(draws_shape(limits), DType::kI32, device)) {
  shares.reserve(static_cast<size_t>(limits.sequences));
}

Scheduler::Scheduler(Context& ctx, const LanguageModel& network, nn::KvPool& pool, const SchedulerLimits& limits)
    : ctx_(ctx),
      network_(network),
      pool_(pool),
      limits_(limits),
      flights_{{limits, ctx.device()}, {limits, ctx.device()}},
      workspace_(network.make_workspace(ctx.device(), {limits.rows, limits.logit_rows})),
      logits_(Tensor::empty({limits.logit_rows, network.dims().vocab}, DType::kF32, ctx.device())),
      readable_logits_(ctx.stream() ? Tensor::staging(logits_.shape(), DType::kF32, ctx.device()) : logits_),
      chosen_(Tensor::empty({limits.logit_rows}, DType::kI32, ctx.device())),
      next_(Tensor::empty({limits.logit_rows}, DType::kI32, ctx.device())),
      draws_(Tensor::empty(draws_shape(limits), DType::kI32, ctx.device())),
      sampler_(network.dims().vocab) {
  running_.reserve(static_cast<size_t>(limits.sequences));
}

Scheduler::~Scheduler() { settle(); }

void Scheduler::step() {
  drop_cancelled();
  admit();
  if (running_.empty() && !ahead_) return;
  try {
    Flight* const now = ahead_ ? ahead_ : &flights_[0];
    Flight* const next = now == &flights_[0] ? &flights_[1] : &flights_[0];
    if (!ahead_) {
      next->shares.clear();
      plan(*now);
      run(*now, nullptr);
    }
    ahead_ = plan_ahead(*now, *next) ? next : nullptr;
    if (ahead_) run(*next, now);
    wait(*now);
    for (const Share& share : now->shares) {
      if (share.sequence) deliver(*now, share);
    }
    now->shares.clear();
  } catch (...) {
    fail_steps(current_failure());
    settle();
  }
  sweep();
}

// What the failed step has still given the device must not meet the next one's arrays.
void Scheduler::settle() noexcept {
  try {
    ctx_.synchronize();
  } catch (const std::exception&) {
    // Of the step that has failed already; what lasts, the next one will meet.
  }
}

void Scheduler::cancel_all() {
  for (auto& sequence : waiting_) sequence->end(FinishReason::kCancelled);
  for (auto& sequence : running_) sequence->end(FinishReason::kCancelled);
  waiting_.clear();
  sweep();
}

void Scheduler::drop_cancelled() {
  for (auto& sequence : running_) {
    if (sequence->cancelled()) sequence->end(FinishReason::kCancelled);
  }
  sweep();
  for (auto it = waiting_.begin(); it != waiting_.end();) {
    if ((*it)->cancelled()) {
      (*it)->end(FinishReason::kCancelled);
      it = waiting_.erase(it);
    } else {
      ++it;
    }
  }
}

int64_t Scheduler::pages_for(const Sequence& sequence) const { return ceil_div(sequence.limit(), kPagePositions); }

// First come, first served. A sequence is admitted when every page it may come to need is there, so none runs dry half way.
void Scheduler::admit() {
  while (!waiting_.empty() && static_cast<int64_t>(running_.size()) < limits_.sequences) {
    const int64_t pages = pages_for(*waiting_.front());
    if (reserved_pages_ + pages > pool_.config().pages) return;
    std::unique_ptr<Sequence> sequence = std::move(waiting_.front());
    waiting_.pop_front();
    try {
      prepare(*sequence);
    } catch (...) {
      sequence->end(FinishReason::kNone, current_failure());
      continue;
    }
    reserved_pages_ += pages;
    running_.push_back(std::move(sequence));
  }
}

void Scheduler::prepare(Sequence& sequence) {
  sequence.admit(pool_);
  // Longer answers grow the tables as they go; reserving the whole of a long context would delay the first token.
  constexpr int64_t kReserve = 4096;
  network_.reserve(ctx_, *workspace_, std::min(sequence.limit(), sequence.prompt_tokens() + kReserve));
}

// Every sequence that generates gets its one row first; prompts share the rest in order of admission.
void Scheduler::plan(Flight& flight) {
  flight.buffer.clear();
  flight.shares.clear();
  int64_t rows = limits_.rows;
  int64_t logits = limits_.logit_rows;
  for (const bool prompts : {false, true}) {
    for (auto& sequence : running_) {
      if (sequence->in_prompt() != prompts || rows == 0 || logits == 0) continue;
      try {
        if (!add_share(flight, *sequence, rows, logits)) continue;
      } catch (...) {
        sequence->end(FinishReason::kNone, current_failure());
        continue;
      }
      rows -= flight.shares.back().rows;
      logits -= flight.shares.back().logits;
    }
  }
  flight.on_device = chooses_on_device(flight);
}

void Scheduler::make_up_prompt(Sequence& sequence) {
  const int64_t count = sequence.request().made_up_prompt;
  if (count == 0 || sequence.evaluated() > 0) return;
  nn::make_up(ctx_, pool_, sequence.pages(), count);
  sequence.skip(count);
}

bool Scheduler::add_share(Flight& flight, Sequence& sequence, int64_t max_rows, int64_t max_logits) {
  make_up_prompt(sequence);
  using Logits = Request::Logits;
  const std::span<const int32_t> pending = sequence.pending();
  const Logits wanted = sequence.request().prompt_logits;
  const bool all = sequence.in_prompt() && wanted == Logits::kAll;
  const int64_t rows = std::min({static_cast<int64_t>(pending.size()), max_rows, all ? max_logits : max_rows});
  const bool reaches_end = rows == static_cast<int64_t>(pending.size());
  const bool samples = reaches_end && static_cast<int64_t>(sequence.evaluated() + rows) < sequence.limit();
  const bool last = samples || (reaches_end && wanted != Logits::kNone);
  if (!pool_.append(sequence.pages(), rows)) {
    sequence.end(FinishReason::kNone, Failure{ErrorCode::kInternal, "the cache has no page left for an admitted sequence"});
    return false;
  }
  const auto kind = all ? nn::LogitRows::kAll : last ? nn::LogitRows::kLast : nn::LogitRows::kNone;
  const int32_t first_logit = flight.buffer.view().logit_count;
  flight.buffer.add_sequence(pending.first(static_cast<size_t>(rows)), sequence.evaluated(), sequence.pages(), kind);
  flight.shares.push_back({&sequence, rows, first_logit, flight.buffer.view().logit_count - first_logit, sequence.answered()});
  sequence.begin_step();
  return true;
}

// Whether nobody needs to see the step's logits.
bool Scheduler::chooses_on_device(const Flight& flight) const {
  return ctx_.stream() && std::all_of(flight.shares.begin(), flight.shares.end(), [](const Share& share) {
    const Sequence& sequence = *share.sequence;
    return sequence.keeps_logits() && !(sequence.in_prompt() && sequence.request().prompt_logits != Request::Logits::kNone);
  });
}

// The step after `now`, if it follows from what is known: every sequence adds the token that is being chosen for its one row.
bool Scheduler::plan_ahead(const Flight& now, Flight& next) {
  if (!now.on_device || now.shares.empty() || now.shares.size() != running_.size()) return false;
  const bool all_go_on = std::all_of(now.shares.begin(), now.shares.end(), [](const Share& share) {
    return share.sequence && !share.sequence->done() && !share.sequence->in_prompt() && share.sequence->goes_on();
  });
  if (!all_go_on) return false;
  static constexpr int32_t kNotKnown = 0;
  next.buffer.clear();
  next.shares.clear();
  for (const Share& share : now.shares) {
    Sequence& sequence = *share.sequence;
    if (!pool_.append(sequence.pages(), 1)) fail(ErrorCode::kInternal, "the cache has no page left for an admitted sequence");
    const int32_t first_logit = next.buffer.view().logit_count;
    next.buffer.add_sequence(std::span(&kNotKnown, 1), sequence.evaluated() + 1, sequence.pages(), nn::LogitRows::kLast);
    next.shares.push_back({&sequence, 1, first_logit, 1, share.answered + 1});
  }
  next.on_device = true;
  return true;
}

// Gives the step to the device. Its tokens are those that the step `before` chooses, if there is one.
void Scheduler::run(Flight& flight, const Flight* before) {
  const StepBatch& batch = flight.buffer.upload(ctx_);
  if (batch.rows > 0) {
    if (before) ctx_.copy(const_cast<int32_t*>(batch.on_device.tokens), next_.raw(), static_cast<uint64_t>(batch.rows) * sizeof(int32_t));
    const TokenDraw* draws = flight.on_device ? upload_draws(flight) : nullptr;
    const Tensor logits = logits_.slice(0, 0, batch.logit_count);
    network_.step(ctx_, batch, pool_, *workspace_, logits);
    if (flight.on_device) {
      const Tensor chosen = chosen_.slice(0, 0, batch.logit_count);
      ops::draw_tokens(ctx_, logits, draws, chosen, next_.slice(0, 0, batch.logit_count));
      ctx_.copy(flight.chosen.raw(), chosen.raw(), chosen.bytes());
    } else if (readable_logits_.raw() != logits_.raw()) {
      ctx_.copy(readable_logits_.raw(), logits.raw(), logits.bytes());
    }
  }
  if (ctx_.stream()) flight.mark = ctx_.stream()->mark();
}

// How the tokens of a step are drawn; null where the largest logits are meant.
const TokenDraw* Scheduler::upload_draws(Flight& flight) {
  TokenDraw* draws = reinterpret_cast<TokenDraw*>(flight.draws.raw());
  uint64_t count = 0;
  bool largest = true;
  for (const Share& share : flight.shares) {
    if (share.logits == 0) continue;
    const Sequence& sequence = *share.sequence;
    draws[share.first_logit] = token_draw(sequence.request().sampling, sequence.seed(), share.answered);
    largest = largest && draws[share.first_logit].top_k == 1;
    ++count;
  }
  if (largest) return nullptr;
  ctx_.copy(draws_.raw(), draws, count * sizeof(TokenDraw));
  return reinterpret_cast<const TokenDraw*>(draws_.raw());
}

void Scheduler::wait(const Flight& flight) {
  if (ctx_.stream()) ctx_.stream()->wait(flight.mark);
}

// Hands the outcome of a step to one sequence. Its failure is its own.
void Scheduler::deliver(const Flight& flight, const Share& share) {
  Sequence& sequence = *share.sequence;
  if (sequence.done()) return;
  try {
    const Request& request = sequence.request();
    const int64_t vocab = network_.dims().vocab;
    const auto row = [&](int32_t i) { return std::span(readable_logits_.data<float>() + (share.first_logit + i) * vocab, static_cast<size_t>(vocab)); };
    const bool was_prompt = sequence.in_prompt();
    if (was_prompt && request.prompt_logits != Request::Logits::kNone && request.on_prompt_logits) {
      const int64_t first = sequence.evaluated() + share.rows - share.logits;
      for (int32_t i = 0; i < share.logits; ++i) request.on_prompt_logits(first + i, row(i));
    }
    sequence.advance(share.rows);
    if (sequence.in_prompt() || sequence.finished()) return;
    if (flight.on_device) {
      sequence.accept(flight.chosen.data<int32_t>()[share.first_logit + share.logits - 1]);
    } else {
      sequence.sample(sampler_, row(share.logits - 1));
    }
  } catch (...) {
    sequence.end(FinishReason::kNone, current_failure());
  }
}

// Ends all that is in a step.
void Scheduler::fail_steps(const Failure& failure) {
  ahead_ = nullptr;
  for (Flight& flight : flights_) {
    for (const Share& share : flight.shares) {
      if (share.sequence) share.sequence->end(FinishReason::kNone, failure);
    }
    flight.shares.clear();
  }
}

// Ends finished sequences and returns their pages.
void Scheduler::sweep() {
  for (auto it = running_.begin(); it != running_.end();) {
    Sequence& sequence = **it;
    if (!sequence.done()) {
      ++it;
      continue;
    }
    sequence.end(sequence.finish_reason());
    for (Flight& flight : flights_) {
      for (Share& share : flight.shares) {
        if (share.sequence == &sequence) share.sequence = nullptr;
      }
    }
    reserved_pages_ -= pages_for(sequence);
    it = running_.erase(it);  // and its pages go back
  }
}

}  // namespace wick
