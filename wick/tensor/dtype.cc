#include "wick/tensor/dtype.h"

#include "wick/base/checked.h"

namespace wick {

std::optional<DType> dtype_from_name(std::string_view name) {
  for (const DTypeTraits& row : kDTypes) {
    if (name == row.name) return row.type;
  }
  return std::nullopt;
}

uint64_t dtype_bytes(DType type, uint64_t elements) {
  const DTypeTraits& row = traits(type);
  const uint64_t block = static_cast<uint64_t>(row.block);
  require(elements % block == 0, elements, " elements of ", row.name, " are not whole blocks of ", row.block);
  return mul_or_fail<uint64_t>(elements / block, static_cast<uint64_t>(row.bytes), "size in bytes");
}

}  // namespace wick
