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

struct LayerNormArgs {
  RowsView x;                         // f32, f16, bf16 (ref: f64 too); rows contiguous
  const std::byte* weight = nullptr;  // [x.size] contiguous
  const std::byte* bias = nullptr;    // as weight, or none
  DType weight_type = DType::kF32;    // f32 or the type of x
  RowsView y;                         // as x; may be x
  double eps = 0;
};

// y = x / sqrt(mean(x^2) + eps) * weight, row by row. With a residual r: r = round(r + x), y = r / sqrt(mean(r^2) + eps) * weight.
// cpu: squares summed in f32 in chains whose order depends on the row's size only, 1,024 elements at a time, those sums and the scale in
// f64; (x * scale) * weight in f32, rounded once. cuda: all in f32, sums in an order that depends on the row's size and alignment and on
// whether there are more than 512 rows, on ctx's stream. ref: all in f64.
//
// y = (x - m) / sqrt(mean((x - m)^2) + eps) * weight + bias, m = mean(x).
// cpu: sums as above. m is a sum of two floats, the second the mean of what the first leaves: a mean far from zero costs no precision,
// where E[x^2] - m^2 would cancel and the last bit of a single float would count.
namespace ref {
void rms_norm(Context& ctx, const RmsNormArgs& args);
void layer_norm(Context& ctx, const LayerNormArgs& args);
}  // namespace ref
namespace cpu {
void rms_norm(Context& ctx, const RmsNormArgs& args);
void layer_norm(Context& ctx, const LayerNormArgs& args);
}  // namespace cpu
namespace cuda {
void rms_norm(Context& ctx, const RmsNormArgs& args);
void layer_norm(Context& ctx, const LayerNormArgs& args);
}  // namespace cuda

}  // namespace wick
