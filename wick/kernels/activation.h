// Elementwise activation functions. Not checked here: ops/ does that.
#pragma once

#include "wick/kernels/rows.h"
#include "wick/tensor/context.h"

namespace wick {

// Views of one shape and type, f32, f16, bf16 (ref: f64 too), rows contiguous. y may be gate or up.
struct ActivationArgs {
  RowsView gate;
  RowsView up;  // without data: none
  RowsView y;

  // Rows are worked on in pieces of this many elements, so that one long row is shared among threads too.
  static constexpr int64_t kPiece = 4096;
  int64_t pieces_per_row() const { return (gate.size + kPiece - 1) / kPiece; }
};

// silu: y = gate / (1 + e^-gate).   swiglu: y = silu(gate) * up.
// cpu: in f32 as gate * (gate < 0 ? e : 1) / (1 + e) with e = e^-|gate|, which cannot overflow; rounded once. ref: in f64.
namespace ref {
void silu(Context& ctx, const ActivationArgs& args);
void swiglu(Context& ctx, const ActivationArgs& args);
}  // namespace ref
namespace cpu {
void silu(Context& ctx, const ActivationArgs& args);
void swiglu(Context& ctx, const ActivationArgs& args);
}  // namespace cpu

}  // namespace wick
