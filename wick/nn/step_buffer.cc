#include "wick/nn/step_buffer.h"

#include <algorithm>

#include "wick/base/checked.h"

namespace wick::nn {

StepBuffer::StepBuffer(const StepLimits& limits, const Device& device) : limits_(limits) {
  require(limits.rows >= 1 && limits.sequences >= 1 && limits.positions >= 1 && limits.positions <= INT32_MAX, "step buffer: limits of ",
          limits.rows, " rows, ", limits.sequences, " sequences, ", limits.positions, " positions");
  const int64_t rows = limits.rows;
  const int64_t sequences = limits.sequences;
  const int64_t pages = ceil_div(limits.positions, kPagePositions);
  const Shape shape = {3 * rows + sequences + 1 + sequences * pages};
  buffer_ = Tensor::staging(shape, DType::kI32, device);
  tokens_ = buffer_.data<int32_t>();
  std::fill_n(tokens_, buffer_.elements(), 0);
  positions_ = tokens_ + rows;
  logit_rows_ = positions_ + rows;
  first_row_ = logit_rows_ + rows;
  page_table_ = first_row_ + sequences + 1;
  batch_.table_stride = static_cast<int32_t>(pages);
  batch_.tokens = tokens_;
  batch_.positions = positions_;
  batch_.first_row = first_row_;
  batch_.page_table = page_table_;
  batch_.logit_rows = logit_rows_;
  if (device.backend().host_accessible) return;
  on_device_ = Tensor::empty(shape, DType::kI32, device);
  const auto there = [&](const int32_t* array) { return on_device_.data<int32_t>() + (array - tokens_); };
  batch_.on_device = {there(tokens_), there(positions_), there(first_row_), there(page_table_), there(logit_rows_)};
}

const StepBatch& StepBuffer::upload(Context& ctx) {
  if (on_device_.defined()) ctx.copy(on_device_.raw(), buffer_.raw(), buffer_.bytes());
  return batch_;
}

void StepBuffer::clear() {
  batch_.rows = 0;
  batch_.sequences = 0;
  batch_.logit_count = 0;
  first_row_[0] = 0;
}

int32_t StepBuffer::add_sequence(std::span<const int32_t> tokens, int64_t start, const PageTable& table, LogitRows logits) {
  const int64_t count = static_cast<int64_t>(tokens.size());
  require(count > 0, "step buffer: a sequence without tokens");
  require(start >= 0 && start <= table.length() - count, "step buffer: positions ", start, " + ", count, ", the page table covers ",
          table.length());
  if (count > rows_left() || batch_.sequences == limits_.sequences || table.length() > limits_.positions) {
    fail(ErrorCode::kLimitExceeded, "step buffer: ", count, " rows of a sequence of ", table.length(), " positions, limits ", limits_.rows,
         " rows, ", limits_.sequences, " sequences, ", limits_.positions, " positions; taken ", batch_.rows, " rows, ", batch_.sequences,
         " sequences");
  }
  const int32_t first = batch_.rows;
  std::copy(tokens.begin(), tokens.end(), tokens_ + first);
  for (int32_t i = 0; i < count; ++i) positions_[first + i] = static_cast<int32_t>(start + i);
  std::copy(table.pages().begin(), table.pages().end(), page_table_ + int64_t{batch_.sequences} * batch_.table_stride);
  batch_.rows += static_cast<int32_t>(count);
  first_row_[++batch_.sequences] = batch_.rows;
  if (logits == LogitRows::kNone) return first;
  for (int32_t row = logits == LogitRows::kAll ? first : batch_.rows - 1; row < batch_.rows; ++row) logit_rows_[batch_.logit_count++] = row;
  return first;
}

}  // namespace wick::nn
