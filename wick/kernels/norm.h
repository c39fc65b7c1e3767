// Normalisation of rows. Not checked here: ops/ does that.
#pragma once

#include "wick/kernels/rows.h"
#include "wick/tensor/context.h"

namespace wick {

struct RmsNormArgs {
  RowsView x;                         // f32, f16, bf16 (ref: f64 too); rows contiguous
  RowsView residual;                  // as x, or without data: then x is added to it first and it is what is normalised
  const std::byte* weight = nullptr;  // [x.size] contiguous
  DType weight_type = DType::kF32;    // f32 or the type of x
  RowsView y;                         // as x; may be x
  double eps = 0;
};

// y = x / sqrt(mean(x^2) + eps) * weight, row by row. With a residual r: r = round(r + x), y = r / sqrt(mean(r^2) + eps) * weight.
// cpu: squares summed in f32 in chains whose order depends on the row's size only, 1,024 elements at a time, those sums and the scale in
// f64; (x * scale) * weight in f32, rounded once. ref: all in f64.
namespace ref {
void rms_norm(Context& ctx, const RmsNormArgs& args);
}
namespace cpu {
void rms_norm(Context& ctx, const RmsNormArgs& args);
}

}  // namespace wick
