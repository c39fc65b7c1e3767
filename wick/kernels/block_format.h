// The block-quantised formats of GGUF files: tensor/dtype.h has their layouts.
#pragma once

#include <cstddef>
#include <cstdint>

#include "wick/tensor/dtype.h"

namespace wick {

// out[i] = element i of `elements` stored ones, whole blocks; plain types too. Every product and sum rounded to f32.
void decode_blocks(DType type, const std::byte* stored, int64_t elements, float* out);

}  // namespace wick
