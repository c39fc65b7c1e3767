// One request while it runs: its tokens, its pages, and the way from sampled tokens to text.
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "wick/engine/engine.h"
#include "wick/engine/sampler.h"
#include "wick/engine/stop_filter.h"
#include "wick/engine/stream_state.h"
#include "wick/nn/kv_pool.h"
#include "wick/text/tokenizer.h"

namespace wick {

class Sequence {
 public:
  using Clock = std::chrono::steady_clock;

  // `limit`: tokens of prompt and answer together at most. `tokenizer` may be null: then no text is made.
  Sequence(Request request, std::shared_ptr<Stream::State> stream, const Tokenizer* tokenizer, int64_t limit, uint64_t seed);

  const Request& request() const { return request_; }
  const std::shared_ptr<Stream::State>& stream() const { return stream_; }
  int64_t limit() const { return limit_; }
  void admit(nn::KvPool& pool) { pages_ = pool.make_table(limit_); }
  nn::PageTable& pages() { return pages_; }
  bool cancelled() const { return stream_->cancelled.load(std::memory_order_relaxed); }

  // The tokens whose keys and values are not cached yet: the rest of the prompt, later the one token sampled last.
  std::span<const int32_t> pending() const { return std::span(tokens_).subspan(static_cast<size_t>(evaluated_)); }
  int64_t evaluated() const { return evaluated_; }
  uint64_t answered() const { return static_cast<uint64_t>(usage_.completion_tokens); }
  uint64_t seed() const { return usage_.seed; }
  int64_t prompt_tokens() const { return static_cast<int64_t>(stream_->prompt_ids.size()); }
  bool in_prompt() const { return evaluated_ < prompt_tokens(); }

  void skip(int64_t count) { evaluated_ = count; }  // the first `count` tokens are cached without having been pending
  void begin_step();               // notes the time of the first one
  void advance(int64_t count);     // `count` pending tokens are cached now
  // Chooses the next token from the logits of the last position. Throws Error(kInternal) when they are not numbers.
  void sample(Sampler& sampler, std::span<float> logits);
  // The same with a token that was chosen already; below 0 says that the logits are not numbers.
  void accept(int32_t id);
  // Whether sample() would take the logits as they are.
  bool keeps_logits() const;
  // Whether it goes on after one token more, unless that one ends it.
  bool goes_on() const { return static_cast<int64_t>(tokens_.size()) + 1 < limit_; }

  bool finished() const { return finished_ != FinishReason::kNone; }  // the answer is complete
  bool done() const { return finished() || ended_; }                 // nothing more is to be done for it
  FinishReason finish_reason() const { return finished_; }
  void end(FinishReason reason, std::optional<Failure> failure = std::nullopt);  // tells the stream; once

 private:
  void take(int32_t id);

  Request request_;
  std::shared_ptr<Stream::State> stream_;
  const Tokenizer* tokenizer_;
  int64_t limit_;
  nn::PageTable pages_;
  std::vector<int32_t> tokens_;
  int64_t evaluated_ = 0;
  std::optional<StreamDecoder> decoder_;
  StopFilter stops_;
  std::string decoded_;  // working memory of take()
  std::string shown_;
  FinishReason finished_ = FinishReason::kNone;
  bool ended_ = false;
  Usage usage_;
  Clock::time_point submitted_, started_, prompt_done_, last_token_;
};

}  // namespace wick
