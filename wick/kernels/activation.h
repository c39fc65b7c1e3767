// Elementwise activation functions. Not checked here: ops/ does that.
#pragma once

#include "wick/kernels/rows.h"
#include "wick/tensor/context.h"

namespace wick {

enum class Activation {
  kSilu,      // x / (1 + e^-x)
  kGelu,      // x * (1 + erf(x / sqrt(2))) / 2
  kGeluTanh,  // x * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3))) / 2
  kSigmoid,   // 1 / (1 + e^-x)
};

// Views of one shape and type, f32, f16, bf16 (ref: f64 too), rows contiguous. y may be gate or up.
struct ActivationArgs {
  Activation function = Activation::kSilu;
  RowsView gate;
  RowsView up;  // without data: none
  RowsView y;

  // Rows are worked on in pieces of this many elements, so that one long row is shared among threads too.
  static constexpr int64_t kPiece = 4096;
  int64_t pieces_per_row() const { return (gate.size + kPiece - 1) / kPiece; }
};

// y = function(gate), or function(gate) * up.
// cpu: in f32, rounded once. Where e^-x overflows to infinity, silu and sigmoid are the zero they should be; gelu_tanh is
// x / (1 + e^-t), t = 2 sqrt(2 / pi) (x + 0.044715 x^3); gelu through the tail of the normal distribution, which does not
// cancel for negative x. For f16 and bf16 with relative errors of a fraction of their last place; gelu in bf16 below -5.5 only within
// 1.1e-7. cuda: on ctx's stream, the same, f16 and bf16 with relative errors of 4e-5. ref: in f64.
namespace ref {
void activation(Context& ctx, const ActivationArgs& args);
}
namespace cpu {
void activation(Context& ctx, const ActivationArgs& args);
}
namespace cuda {
void activation(Context& ctx, const ActivationArgs& args);
}

}  // namespace wick
