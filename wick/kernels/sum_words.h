// Reads memory as fast as it comes: what a measurement of its bandwidth does.
#pragma once

#include <cstdint>

#include "wick/tensor/context.h"

namespace wick::cuda {

// *sum += the words, modulo 2^64. All on the device, on ctx's stream; data lies at a multiple of 16 bytes.
void sum_words(Context& ctx, const uint64_t* data, int64_t words, uint64_t* sum);

}  // namespace wick::cuda
