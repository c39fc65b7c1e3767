// A weight matrix in the layout that the device's matmul reads. What the layout is, only kernels/ knows.
//
// A packed weight is a list of segments, each with its own type: files mix types inside what one matmul should do (Q, K and V of one
// layer), and one dispatch runs them all. Rows of all segments together are the outputs, in order.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "wick/tensor/context.h"
#include "wick/tensor/tensor.h"

namespace wick {

struct WeightSegment {
  DType type = DType::kF32;
  int64_t rows = 0;
  int64_t k = 0;
  bool precise = false;               // activations in two parts, see linear.h
  int64_t panel_bytes = 0;            // of one panel of kPanelRows rows
  std::shared_ptr<Storage> storage;   // panels, the last padded with zero rows
};

struct PackedWeight {
  int64_t rows = 0;  // outputs: the sum over segments
  int64_t k = 0;     // inputs: the same in every segment
  std::vector<WeightSegment> segments;
};

// A matrix [rows, k] row by row as a file stores it.
struct WeightSource {
  DType type = DType::kF32;
  int64_t rows = 0;
  int64_t k = 0;
  // A quantised weight whose activations deserve twice the bits (and its products twice the time): linear.h says how.
  bool precise = false;
  // Fills `out` with whole rows from `row` on, as stored. Called from several threads at once; may throw.
  std::function<void(int64_t row, std::span<std::byte> out)> read_rows;
};

// A matrix [rows, k] in memory: element (n, i) at data + n * row_stride + i * column_stride bytes; rows of quantised types are contiguous.
struct MatrixView {
  const std::byte* data = nullptr;
  DType type = DType::kF32;
  int64_t rows = 0;
  int64_t k = 0;
  int64_t row_stride = 0;
  int64_t column_stride = 0;
};

}  // namespace wick
