// How much scratch the kernels of a model's step take, so that it can be counted and reserved before the first one.
#pragma once

#include <cstdint>

namespace wick {

struct StepShape {
  int64_t rows = 0;
  int64_t inputs = 0;      // of the widest product's x
  int64_t outputs = 0;     // of the widest product that is followed by swiglu
  int64_t unpacked = 0;    // elements of the largest matrix of a block format; 0: there is none
  int64_t heads = 0;
  int64_t head_dim = 0;
};

namespace cuda {
// At most so many bytes; more than `rows` needs where other rows need more.
uint64_t scratch_bytes(const StepShape& shape);
}  // namespace cuda

}  // namespace wick
