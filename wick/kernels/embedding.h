// Rows of a table by number, for devices whose memory the CPU does not read. Not checked here: ops/ does that.
#pragma once

#include "wick/kernels/packed_weight.h"
#include "wick/kernels/rows.h"

namespace wick {

struct EmbeddingArgs {
  const std::byte* ids = nullptr;  // [y.count] contiguous
  DType id_type = DType::kI32;     // i32 or i64
  const PackedWeight* packed = nullptr;
  RowsView table;  // without `packed`: plain rows of y's type, contiguous
  RowsView y;      // f32, f16, bf16; rows contiguous
};

// y[t] = row ids[t] of the table, exactly the values that its type defines, rounded once. An id outside the table leaves its row as it is and
// becomes the Error of the next Context::synchronize().
namespace cuda {
void embedding(Context& ctx, const EmbeddingArgs& args);
}

}  // namespace wick
