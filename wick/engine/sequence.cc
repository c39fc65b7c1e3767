#include "wick/engine/sequence.h"

#include "wick/base/error.h"

namespace wick {
namespace {

double milliseconds(Sequence::Clock::duration duration) { return std::chrono::duration<double, std::milli>(duration).count(); }

}  // namespace

Sequence::Sequence(Request request, std::shared_ptr<Stream::State> stream, const Tokenizer* tokenizer, int64_t limit, uint64_t seed)
    : request_(std::move(request)),
      stream_(std::move(stream)),
      tokenizer_(tokenizer),
      limit_(limit),
      tokens_(stream_->prompt_ids),
      stops_(request_.stop),
      submitted_(Clock::now()) {
  if (tokenizer) decoder_.emplace(*tokenizer);
  tokens_.reserve(static_cast<size_t>(limit));
  constexpr size_t kTextReserve = 1024;
  decoded_.reserve(kTextReserve);
  shown_.reserve(kTextReserve);
  usage_.prompt_tokens = prompt_tokens();
  usage_.seed = seed;
}

void Sequence::begin_step() {
  if (started_ != Clock::time_point()) return;
  started_ = Clock::now();
  usage_.queue_ms = milliseconds(started_ - submitted_);
}

void Sequence::advance(int64_t count) {
  const bool was_prompt = in_prompt();
  evaluated_ += count;
  if (!was_prompt) return;
  if (request_.on_prefill) request_.on_prefill(evaluated_, prompt_tokens());
  if (in_prompt()) return;
  prompt_done_ = Clock::now();
  usage_.prompt_ms = milliseconds(prompt_done_ - started_);
  if (static_cast<int64_t>(tokens_.size()) >= limit_) finished_ = FinishReason::kLength;
}

void Sequence::sample(Sampler& sampler, std::span<float> logits) {
  accept(sampler.choose(request_.sampling, logits, tokens_, seed(), answered()));
}

bool Sequence::keeps_logits() const { return request_.sampling.repeat_penalty == 1.0f && request_.sampling.logit_bias.empty(); }

void Sequence::accept(int32_t id) {
  if (id < 0) fail(ErrorCode::kInternal, "the model's logits are not finite numbers at position ", evaluated_ - 1);
  take(id);
}

void Sequence::take(int32_t id) {
  last_token_ = Clock::now();
  if (usage_.completion_tokens == 0) usage_.first_token_ms = milliseconds(last_token_ - submitted_);
  usage_.generation_ms = milliseconds(last_token_ - prompt_done_);
  if (tokenizer_ && !request_.ignore_eos && tokenizer_->ends_generation(id)) {
    finished_ = FinishReason::kStop;
    return;
  }
  tokens_.push_back(id);
  ++usage_.completion_tokens;
  decoded_.clear();
  shown_.clear();
  if (decoder_) decoder_->push(id, decoded_);
  if (stops_.push(decoded_, shown_)) finished_ = FinishReason::kStop;
  stream_->add(shown_, id);
  if (!finished() && static_cast<int64_t>(tokens_.size()) >= limit_) finished_ = FinishReason::kLength;
}

void Sequence::end(FinishReason reason, std::optional<Failure> failure) {
  if (ended_) return;
  ended_ = true;
  finished_ = reason;
  decoded_.clear();
  shown_.clear();
  if (decoder_) decoder_->finish(decoded_);
  // A text that ended at a stop string shows nothing that came after it.
  if (!stops_.push(decoded_, shown_)) stops_.finish(shown_);
  if (!shown_.empty()) stream_->add(shown_, -1);
  stream_->finish(reason, usage_, std::move(failure));
}

}  // namespace wick
