#include "wick/engine/scheduler.h"

#include <algorithm>

#include "wick/base/checked.h"
#include "wick/nn/made_up_cache.h"

namespace wick {

Scheduler::Scheduler(Context& ctx, const LanguageModel& network, nn::KvPool& pool, const SchedulerLimits& limits)
    : ctx_(ctx),
      network_(network),
      pool_(pool),
      limits_(limits),
      buffer_(nn::StepLimits{static_cast<int32_t>(limits.rows), static_cast<int32_t>(limits.sequences), limits.context}, ctx.device()),
      workspace_(network.make_workspace(ctx.device(), {limits.rows, limits.logit_rows})),
      logits_(Tensor::empty({limits.logit_rows, network.dims().vocab}, DType::kF32, ctx.device())),
      readable_logits_(ctx.stream() ? Tensor::staging(logits_.shape(), DType::kF32, ctx.device()) : logits_),
      sampler_(network.dims().vocab) {
  running_.reserve(static_cast<size_t>(limits.sequences));
  shares_.reserve(static_cast<size_t>(limits.sequences));
}

void Scheduler::step() {
  drop_cancelled();
  admit();
  if (running_.empty()) return;
  plan();
  try {
    run();
    for (const Share& share : shares_) deliver(share);
  } catch (...) {
    fail_step(current_failure());
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
void Scheduler::plan() {
  buffer_.clear();
  shares_.clear();
  int64_t rows = limits_.rows;
  int64_t logits = limits_.logit_rows;
  for (const bool prompts : {false, true}) {
    for (auto& sequence : running_) {
      if (sequence->in_prompt() != prompts || rows == 0 || logits == 0) continue;
      try {
        if (!add_share(*sequence, rows, logits)) continue;
      } catch (...) {
        sequence->end(FinishReason::kNone, current_failure());
        continue;
      }
      rows -= shares_.back().rows;
      logits -= shares_.back().logits;
    }
  }
}

// False when it failed, and the sequence with it.
bool Scheduler::make_up_prompt(Sequence& sequence) {
  const int64_t count = sequence.request().made_up_prompt;
  if (count == 0 || sequence.evaluated() > 0) return true;
  try {
    nn::make_up(ctx_, pool_, sequence.pages(), count);
    sequence.skip(count);
  } catch (...) {
    sequence.end(FinishReason::kNone, current_failure());
    return false;
  }
  return true;
}

bool Scheduler::add_share(Sequence& sequence, int64_t max_rows, int64_t max_logits) {
  if (!make_up_prompt(sequence)) return false;
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
  const int32_t first_logit = buffer_.view().logit_count;
  buffer_.add_sequence(pending.first(static_cast<size_t>(rows)), sequence.evaluated(), sequence.pages(), kind);
  shares_.push_back({&sequence, rows, first_logit, buffer_.view().logit_count - first_logit});
  sequence.begin_step();
  return true;
}

void Scheduler::run() {
  const StepBatch& batch = buffer_.upload(ctx_);
  if (batch.rows == 0) return;
  const Tensor logits = logits_.slice(0, 0, batch.logit_count);
  network_.step(ctx_, batch, pool_, *workspace_, logits);
  if (readable_logits_.raw() != logits_.raw()) ctx_.copy(readable_logits_.raw(), logits.raw(), logits.bytes());
  ctx_.synchronize();
}

// Hands the outcome of a step to one sequence. Its failure is its own.
void Scheduler::deliver(const Share& share) {
  Sequence& sequence = *share.sequence;
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
    if (!sequence.in_prompt() && !sequence.finished()) sequence.sample(sampler_, row(share.logits - 1));
  } catch (...) {
    sequence.end(FinishReason::kNone, current_failure());
  }
}

void Scheduler::fail_step(const Failure& failure) {
  for (const Share& share : shares_) share.sequence->end(FinishReason::kNone, failure);
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
    reserved_pages_ -= pages_for(sequence);
    it = running_.erase(it);  // and its pages go back
  }
}

}  // namespace wick
