// The rows of a strided tensor as kernels see them: all dimensions but the last, numbered in row-major order. Owns nothing.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "wick/tensor/dtype.h"

namespace wick {

struct RowsView {
  static constexpr int kMaxLeading = 7;
  std::byte* data = nullptr;
  DType type = DType::kF32;
  int64_t count = 0;  // rows
  int64_t size = 0;   // elements per row
  int64_t step = 1;   // elements from one to the next within a row
  // The leading dimensions, neighbours that are evenly spaced joined into one: mostly there is one or none.
  int leading = 0;
  int64_t sizes[kMaxLeading] = {};
  int64_t strides[kMaxLeading] = {};  // elements

  std::byte* at(int64_t row) const {
    int64_t offset = 0;
    for (int i = leading - 1; i > 0; --i) {
      offset += row % sizes[i] * strides[i];
      row /= sizes[i];
    }
    return data + (offset + row * strides[0]) * traits(type).bytes;
  }

  template <class T>
  T* row(int64_t index) const {
    return reinterpret_cast<T*>(at(index));
  }
};

// Waking a thread costs about a microsecond: a share of work below this many elements is not worth it.
inline constexpr int64_t kElementsPerShare = 16384;

// Whether to write an output of so many bytes past the caches: it would not stay there, and lines need not be read before they are written.
inline bool worth_streaming(int64_t bytes) {
  constexpr int64_t kLeastBytes = int64_t{24} << 20;
  return bytes >= kLeastBytes;
}
inline bool worth_streaming(const RowsView& y) { return worth_streaming(y.count * y.size * traits(y.type).bytes); }

// The grain for ThreadPool::parallel_for over items of `elements` elements.
inline int64_t share_grain(int64_t elements) { return std::max<int64_t>(1, kElementsPerShare / std::max<int64_t>(1, elements)); }

}  // namespace wick
