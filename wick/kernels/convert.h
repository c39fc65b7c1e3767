// Copies of rows, and between float types. Not checked here: ops/ does that.
#pragma once

#include "wick/kernels/rows.h"
#include "wick/tensor/context.h"

namespace wick {

// to = from, to nearest even. Views of the same rows; f32, f16 or bf16 each, any step.
namespace ref {
void convert(const RowsView& from, const RowsView& to);
}
namespace cpu {
void convert(Context& ctx, const RowsView& from, const RowsView& to);
}
namespace cuda {
void convert(Context& ctx, const RowsView& from, const RowsView& to);
}

// to = from, bit for bit. Views of the same rows of one plain type, any step.
namespace cpu {
void copy(Context& ctx, const RowsView& from, const RowsView& to);
}
namespace cuda {
void copy(Context& ctx, const RowsView& from, const RowsView& to);
}

}  // namespace wick
