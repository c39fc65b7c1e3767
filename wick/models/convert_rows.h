// Rows of a tensor of a model file in another type than the file's, for what writes files and for weights that are converted as they are
// loaded.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "wick/formats/model_file.h"

namespace wick {

uint64_t row_bytes(DType type, const Shape& shape);  // of the last dimension

// Rows `first` and following of `tensor` in `type`, as many as fill `out`. Holds one row at a time; thread-safe.
// Throws Error(kInvalidFile) for a value that is NaN or infinite, or beyond what f16 can hold when that is the type, and what
// ModelFile::read and encode_blocks (kernels/block_format.h) throw.
void read_rows_as(const ModelFile& file, const TensorInfo& tensor, DType type, uint64_t first, std::span<std::byte> out);

}  // namespace wick
