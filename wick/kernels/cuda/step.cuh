// A step's arrays as kernels read them.
#pragma once

#include "wick/kernels/cuda/device.cuh"
#include "wick/kernels/step_batch.h"

namespace wick::cuda {

struct Step {
  explicit Step(const StepBatch& batch)
      : positions(batch.on_device.positions),
        first_row(batch.on_device.first_row),
        page_table(batch.on_device.page_table),
        sequences(batch.sequences),
        table_stride(batch.table_stride) {}

  // The sequence that a row belongs to.
  __device__ int sequence_of(int row) const {
    int low = 0, high = sequences;  // first_row[low] <= row < first_row[high]
    while (high - low > 1) {
      const int middle = (low + high) / 2;
      (first_row[middle] <= row ? low : high) = middle;
    }
    return low;
  }
  __device__ const int32_t* pages_of(int sequence) const { return page_table + int64_t{sequence} * table_stride; }

  const int32_t* positions;
  const int32_t* first_row;
  const int32_t* page_table;
  int32_t sequences;
  int32_t table_stride;
};

}  // namespace wick::cuda
