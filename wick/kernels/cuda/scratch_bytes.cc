#include "wick/kernels/scratch_bytes.h"

#include "wick/kernels/cuda/blas.h"

namespace wick::cuda {

uint64_t scratch_bytes(const StepShape& shape) {
  constexpr int64_t kFloat = sizeof(float), kHalf = 2;
  constexpr int64_t kMostShares = 1024;          // of a row's pages among blocks: no GPU has room for more
  constexpr int64_t kRest = int64_t{4} << 20;    // padding, and what is too small to be counted
  // linear: x normalised and rounded, what swiglu takes or shares of a product, the whole weight unpacked, the library's workspace.
  const int64_t floats = shape.rows * shape.outputs;
  const int64_t linear = shape.rows * shape.inputs * (kFloat + kHalf) + (floats > kBlasShareFloats ? floats : kBlasShareFloats) * kFloat +
                         shape.unpacked * kHalf + static_cast<int64_t>(kBlasWorkspaceBytes);
  const int64_t attention = kMostShares * shape.heads * (shape.head_dim + 2) * kFloat;
  return static_cast<uint64_t>((linear > attention ? linear : attention) + kRest);
}

}  // namespace wick::cuda
