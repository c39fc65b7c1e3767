// Runs sequences together, one ragged step after another. Single-threaded: the engine's thread is its only user.
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
    Sequence* sequence;
    int64_t rows;
    int32_t first_logit;
    int32_t logits;
  };

  void drop_cancelled();
  void admit();
  void prepare(Sequence& sequence);  // for its first step
  void plan();
  bool make_up_prompt(Sequence& sequence);
  bool add_share(Sequence& sequence, int64_t max_rows, int64_t max_logits);
  void run();
  void deliver(const Share& share);
  void fail_step(const Failure& failure);
  void settle() noexcept;
  void sweep();
  int64_t pages_for(const Sequence& sequence) const;

  Context& ctx_;
  const LanguageModel& network_;
  nn::KvPool& pool_;
  SchedulerLimits limits_;
  nn::StepBuffer buffer_;
  std::unique_ptr<Workspace> workspace_;
  Tensor logits_;          // [logit_rows, V]
  Tensor readable_logits_;  // the same where the CPU reads it
  Sampler sampler_;
  std::deque<std::unique_ptr<Sequence>> waiting_;
  std::vector<std::unique_ptr<Sequence>> running_;  // in order of admission
  std::vector<Share> shares_;
  int64_t reserved_pages_ = 0;  // that the running sequences may come to need
};

}  // namespace wick
