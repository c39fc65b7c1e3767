// One element of any floating type as f64, for loops that are written to be read.
#pragma once

#include <cstddef>
#include <cstdint>

#include "wick/kernels/rows.h"
#include "wick/tensor/dtype.h"
#include "wick/tensor/half.h"

namespace wick::ref {

inline double get(DType type, const std::byte* data, int64_t i) {
  switch (type) {
    case DType::kF64: return reinterpret_cast<const double*>(data)[i];
    case DType::kF16: return static_cast<float>(reinterpret_cast<const F16*>(data)[i]);
    case DType::kBF16: return static_cast<float>(reinterpret_cast<const BF16*>(data)[i]);
    default: return reinterpret_cast<const float*>(data)[i];
  }
}

inline void set(DType type, std::byte* data, int64_t i, double value) {
  switch (type) {
    case DType::kF64: reinterpret_cast<double*>(data)[i] = value; break;
    case DType::kF16: reinterpret_cast<F16*>(data)[i] = F16(static_cast<float>(value)); break;
    case DType::kBF16: reinterpret_cast<BF16*>(data)[i] = BF16(static_cast<float>(value)); break;
    default: reinterpret_cast<float*>(data)[i] = static_cast<float>(value); break;
  }
}

inline double get(const RowsView& rows, int64_t row, int64_t i) { return get(rows.type, rows.at(row), i * rows.step); }
inline void set(const RowsView& rows, int64_t row, int64_t i, double value) { set(rows.type, rows.at(row), i * rows.step, value); }

}  // namespace wick::ref
