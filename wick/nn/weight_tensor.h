// A tensor as the source of a packed weight.
#pragma once

#include <cstring>

#include "wick/base/error.h"
#include "wick/kernels/packed_weight.h"
#include "wick/tensor/tensor.h"

namespace wick::nn {

// weight: [rows, k], any view of a plain type (copied unless contiguous) or a quantised type. The source keeps the memory alive.
inline WeightSource weight_source(const Tensor& weight) {
  require(weight.rank() == 2, "weight of shape ", weight.shape(), ", expected rank 2");
  const Tensor plain = weight.contiguous();
  const uint64_t row_bytes = dtype_bytes(plain.dtype(), static_cast<uint64_t>(plain.dim(1)));
  WeightSource source;
  source.type = plain.dtype();
  source.rows = plain.dim(0);
  source.k = plain.dim(1);
  source.read_rows = [plain, row_bytes](int64_t row, std::span<std::byte> out) {
    std::memcpy(out.data(), plain.raw() + static_cast<uint64_t>(row) * row_bytes, out.size());
  };
  return source;
}

}  // namespace wick::nn
