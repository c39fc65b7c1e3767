// Fills a StepBatch: the arrays of one step, in one buffer that is sized once from the limits and reused for every step.
#pragma once

#include <cstdint>
#include <span>

#include "wick/kernels/step_batch.h"
#include "wick/nn/kv_pool.h"
#include "wick/tensor/context.h"

namespace wick::nn {

struct StepLimits {
  int32_t rows = 0;       // tokens of one step
  int32_t sequences = 0;  // in one step
  int64_t positions = 0;  // of one sequence
};

enum class LogitRows { kNone, kLast, kAll };

class StepBuffer {
 public:
  // Error(kInvalidArgument) for limits below 1 or too large.
  explicit StepBuffer(const StepLimits& limits, const Device& device = Device::cpu());
  StepBuffer(const StepBuffer&) = delete;
  StepBuffer& operator=(const StepBuffer&) = delete;

  void clear();
  // Adds `tokens` at positions start, start + 1, … of a sequence whose table already covers them, and returns the first one's row.
  // Does not allocate. Error(kInvalidArgument) when tokens is empty or the table does not cover them, Error(kLimitExceeded) when the
  // buffer is full: nothing has been added then.
  int32_t add_sequence(std::span<const int32_t> tokens, int64_t start, const PageTable& table, LogitRows logits);

  const StepLimits& limits() const { return limits_; }
  int32_t rows_left() const { return limits_.rows - batch_.rows; }
  // Valid until the next clear() or add_sequence(); tables are read at add_sequence() only.
  const StepBatch& view() const { return batch_; }
  // The same, once the arrays are copied to the device of the buffer, in order with ctx's kernels. The buffer must stay as it is until ctx
  // was synchronised.
  const StepBatch& upload(Context& ctx);

 private:
  StepLimits limits_;
  Tensor buffer_;     // i32, on the CPU
  Tensor on_device_;  // its copy, where the device has memory of its own
  int32_t* tokens_;
  int32_t* positions_;
  int32_t* first_row_;
  int32_t* page_table_;
  int32_t* logit_rows_;
  StepBatch batch_;
};

}  // namespace wick::nn
