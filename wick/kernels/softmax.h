// Softmax of rows. Not checked here: ops/ does that.
#pragma once

#include "wick/kernels/rows.h"
#include "wick/tensor/context.h"

namespace wick {

struct SoftmaxArgs {
  RowsView x;  // f32, f16, bf16 (ref: f64 too), any step
  RowsView y;  // as x, any step; may be x
  bool log = false;
};

// y = e^(x - m) / sum(e^(x - m)), m = max(x), row by row; with log y = (x - m) - log(sum(e^(x - m))). A row of all -inf, or with a NaN or
// +inf, gives NaN.
// cpu: exponentials in f32, for a y of a half type without log with relative errors below its last place, summed in chains whose order depends on
// the row's size and type and on whether its elements are neighbours, 1,024 elements at a time, those sums in f64; rounded once. cuda: f32 sums in
// an order that depends on the same and on whether there are more than 512 rows, on ctx's stream. ref: all in f64.
namespace ref {
void softmax(Context& ctx, const SoftmaxArgs& args);
}
namespace cpu {
void softmax(Context& ctx, const SoftmaxArgs& args);
}
namespace cuda {
void softmax(Context& ctx, const SoftmaxArgs& args);
}

}  // namespace wick
