// One step's work as flat arrays: which tokens at which positions of which sequences, and where their cached keys and values are.
// Prefill, chunked prefill, decode and any mixture of them are the same step. Plain pointers, so that a device can read it as it is;
// the arrays live in one buffer of fixed size that the owner (nn::StepBuffer) fills anew for each step.
//
// Letters: T rows (tokens) of the step, B sequences in it, P page-table entries per sequence.
#pragma once

#include <cstdint>

namespace wick {

inline constexpr int64_t kPagePositions = 64;  // cached positions per page

struct StepArrays {
  const int32_t* tokens = nullptr;      // [T]
  const int32_t* positions = nullptr;   // [T] absolute; consecutive within a sequence
  const int32_t* first_row = nullptr;   // [B + 1] rows of sequence b: first_row[b] .. first_row[b + 1] - 1, at least one each
  const int32_t* page_table = nullptr;  // [B, P] entry p: the page that holds positions 64p .. 64p + 63; covers the step's own rows
  const int32_t* logit_rows = nullptr;  // [logit_count] ascending: rows whose logits are wanted
};

// The arrays themselves are the CPU's.
struct StepBatch : StepArrays {
  int32_t rows = 0;       // T
  int32_t sequences = 0;  // B
  int32_t logit_count = 0;
  int32_t table_stride = 0;  // P
  StepArrays on_device;      // copies for kernels of a device that does not read the CPU's memory
};

// Pages of the longest sequence, rounded up to a power of two: kernels share work by it, so that steps of one bucket are alike.
inline int64_t page_bucket(const StepBatch& batch) {
  int32_t last = 0;
  for (int32_t b = 0; b < batch.sequences; ++b) {
    const int32_t position = batch.positions[batch.first_row[b + 1] - 1];
    last = position > last ? position : last;
  }
  int64_t pages = 1;
  while (pages * kPagePositions <= last) pages *= 2;
  return pages;
}

}  // namespace wick
