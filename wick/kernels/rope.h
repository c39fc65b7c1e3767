// Rotary position embedding of plain tensors. Not checked here: ops/ does that. (The model's own rotation is part of kv_append.h.)
#pragma once

#include <cstddef>
#include <cstdint>

#include "wick/tensor/context.h"
#include "wick/tensor/dtype.h"

namespace wick {

// One of x, y, cos, sin: where the row of a head begins for each index of the three leading dimensions. A stride of 0 shares a table row.
struct RopeOperand {
  std::byte* data = nullptr;
  int64_t strides[3] = {};  // elements; the last dimension is contiguous
};

struct RopeArgs {
  int64_t sizes[3] = {};           // (B, H, T) or (B, T, H)
  int64_t head_dim = 0;            // Dh
  int64_t half = 0;                // R / 2: the first 2 * half elements rotate, the rest is copied
  bool interleaved = false;        // pairs (2i, 2i + 1), else (i, i + R / 2)
  DType type = DType::kF32;        // of x and y: f32, f16, bf16 (ref: f64 too)
  DType table_type = DType::kF32;  // of cos and sin: f32 or that of x
  RopeOperand x;
  RopeOperand y;  // may be x
  RopeOperand cos;
  RopeOperand sin;
};

// y0 = x0 * cos - x1 * sin;  y1 = x0 * sin + x1 * cos.
// cpu: each product rounded to f32, so that every instruction set gives the same bits; rounded once more to the type of y. cuda: the
// same bits, on ctx's stream. ref: in f64.
namespace ref {
void rope(Context& ctx, const RopeArgs& args);
}
namespace cpu {
void rope(Context& ctx, const RopeArgs& args);
}
namespace cuda {
void rope(Context& ctx, const RopeArgs& args);
}

}  // namespace wick
