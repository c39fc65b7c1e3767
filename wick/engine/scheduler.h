// Runs sequences together, one ragged step after another. Single-threaded: the engine's thread is its only user.
//
// On a device that works behind the caller's back tokens are chosen there unless biases or penalties change the logits first, and while all
// that runs is such sequences, each adding one token, the next step is given to the device before this one's tokens are read: its inputs
// are there already. A sequence that turns out to have ended has then done one step more, whose results nobody reads.
#pragma once

#include <deque>
#include <memory>
#include <vector>

#include "wick/engine/sampler.h"
#include "wick/engine/sequence.h"
#include "wick/models/language_model.h"
#include "wick/nn/kv_pool.h"
#include "wick/nn/step_buffer.h"
#include "wick/tensor/context.h"

namespace wick {

struct SchedulerLimits {
  int64_t sequences = 1;
  int64_t rows = 512;        // tokens of a step
  int64_t logit_rows = 64;   // rows of a step whose logits are wanted
  int64_t context = 0;       // positions per sequence
};

class Scheduler {
 public:
  Scheduler(Context& ctx, const LanguageModel& network, nn::KvPool& pool, const SchedulerLimits& limits);
  ~Scheduler();

  void submit(std::unique_ptr<Sequence> sequence) { waiting_.push_back(std::move(sequence)); }
  int64_t waiting() const { return static_cast<int64_t>(waiting_.size()); }
  bool idle() const { return waiting_.empty() && running_.empty(); }
  // Admits what fits, runs one step, and ends what is done. A failing step ends the sequences in it, not the scheduler: never throws what
  // the device, a request or the lack of memory may cause.
  void step();
  void cancel_all();

 private:
  // What one sequence does in a step.
  struct Share {
    Sequence* sequence;  // null once it has ended
    int64_t rows;
    int32_t first_logit;
    int32_t logits;
    uint64_t answered;  // tokens of its answer before the one that the step chooses
  };

  // A step from its plan until its results are handed out.
  struct Flight {
    Flight(const SchedulerLimits& limits, const Device& device);
    nn::StepBuffer buffer;
    std::vector<Share> shares;
    Tensor chosen;  // i32 [logit_rows], with `on_device` the tokens
    Tensor draws;   // TokenDraw [logit_rows], with `on_device` how they are chosen
    bool on_device = false;
    uint64_t mark = 0;
  };

  void drop_cancelled();
  void admit();
  void prepare(Sequence& sequence);  // for its first step
  void plan(Flight& flight);
  void make_up_prompt(Sequence& sequence);
  bool add_share(Flight& flight, Sequence& sequence, int64_t max_rows, int64_t max_logits);
  bool chooses_on_device(const Flight& flight) const;
  bool plan_ahead(const Flight& now, Flight& next);
  void run(Flight& flight, const Flight* before);
  const TokenDraw* upload_draws(Flight& flight);
  void wait(const Flight& flight);
  void deliver(const Flight& flight, const Share& share);
  void fail_steps(const Failure& failure);
  void settle() noexcept;
  void sweep();
  int64_t pages_for(const Sequence& sequence) const;

  Context& ctx_;
  const LanguageModel& network_;
  nn::KvPool& pool_;
  SchedulerLimits limits_;
  Flight flights_[2];
  Flight* ahead_ = nullptr;  // one that is on its way, from the step() before
  std::unique_ptr<Workspace> workspace_;
  Tensor logits_;          // [logit_rows, V]
  Tensor readable_logits_;  // the same where the CPU reads it
  Tensor chosen_;           // i32 [logit_rows], the tokens chosen on the device, -1 where there is none
  Tensor next_;             // as chosen_, but always ids
  Tensor draws_;            // TokenDraw [logit_rows], how they are chosen
  Sampler sampler_;
  std::deque<std::unique_ptr<Sequence>> waiting_;
  std::vector<std::unique_ptr<Sequence>> running_;  // in order of admission
  int64_t reserved_pages_ = 0;  // that the running sequences may come to need
};

}  // namespace wick
