// The typed values of GGUF key-values, as the file stores them.
#pragma once

#include <cstdint>

#include "wick/formats/gguf_cursor.h"
#include "wick/formats/metadata.h"

namespace wick {

enum class GgufValueType : uint32_t { kU8, kI8, kU16, kI16, kU32, kI32, kF32, kBool, kString, kArray, kU64, kI64, kF64 };

// Reads a value type and the value. Throws Error(kInvalidFile) for an unknown type, a bool other than 0 and 1, an array of arrays (which no
// model uses, and which would nest without bound), and an array longer than what is left of the file.
MetadataValue read_gguf_value(GgufCursor& in);

}  // namespace wick
