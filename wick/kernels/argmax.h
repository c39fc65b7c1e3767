// The position of the largest element of each row. Not checked here: ops/ does that.
#pragma once

#include "wick/kernels/rows.h"
#include "wick/tensor/context.h"

namespace wick {

struct ArgmaxArgs {
  RowsView x;            // f32, f16, bf16 (ref: f64 too), rows contiguous, 1 <= size < 2^31
  int32_t* y = nullptr;  // [x.count]
  bool finite = false;   // cuda: -1 for a row whose largest element is not a finite number, too
  int32_t* next = nullptr;  // cuda: [x.count] or null: y with 0 for -1, ids that a step can be given
};

// y = the lowest position of the largest element; -1 for a row that holds a NaN.
namespace ref {
void argmax(Context& ctx, const ArgmaxArgs& args);
}
namespace cpu {
void argmax(Context& ctx, const ArgmaxArgs& args);
}
namespace cuda {
void argmax(Context& ctx, const ArgmaxArgs& args);
}

}  // namespace wick
