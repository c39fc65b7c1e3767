// The tensor types of GGUF files: number, name and size of each, also of those that wick has no kernels for, so that a file can be listed.
#pragma once

#include <cstdint>
#include <optional>

#include "wick/tensor/dtype.h"

namespace wick {

// `block` consecutive elements of a row take `bytes` bytes.
struct GgufType {
  uint32_t id;
  const char* name;
  uint32_t block;
  uint32_t bytes;
  std::optional<DType> dtype;  // nothing: listed, but not readable
};

// Null for a number that is not in the table, and for a dtype that the format has no number for (u8).
const GgufType* find_gguf_type(uint32_t id);
const GgufType* find_gguf_type(DType dtype);

}  // namespace wick
