#include "wick/models/convert_rows.h"

#include <cmath>
#include <vector>

#include "wick/base/error.h"
#include "wick/formats/printable.h"
#include "wick/kernels/block_format.h"

namespace wick {
namespace {

void check_row(const TensorInfo& tensor, uint64_t row, DType type, std::span<const float> values) {
  constexpr float kTooLargeForF16 = 65520;  // from here on rounding gives infinity
  for (size_t i = 0; i < values.size(); ++i) {
    if (std::isfinite(values[i]) && (type != DType::kF16 || std::fabs(values[i]) < kTooLargeForF16)) continue;
    fail(ErrorCode::kInvalidFile, "tensor '", printable(tensor.name), "', row ", row, ", element ", i, " is ", values[i], ", which ", dtype_name(type), " cannot hold");
  }
}

}  // namespace

uint64_t row_bytes(DType type, const Shape& shape) { return dtype_bytes(type, static_cast<uint64_t>(shape[shape.rank() - 1])); }

void read_rows_as(const ModelFile& file, const TensorInfo& tensor, DType type, uint64_t first, std::span<std::byte> out) {
  const uint64_t from = row_bytes(tensor.dtype, tensor.shape), to = row_bytes(type, tensor.shape);
  std::vector<std::byte> stored(from);
  std::vector<float> values(static_cast<size_t>(tensor.shape[tensor.shape.rank() - 1]));
  for (uint64_t row = 0; row < out.size() / to; ++row) {
    file.read(tensor, (first + row) * from, stored);
    decode_blocks(tensor.dtype, stored.data(), static_cast<int64_t>(values.size()), values.data());
    check_row(tensor, first + row, type, values);
    encode_blocks(type, values.data(), static_cast<int64_t>(values.size()), out.data() + row * to);
  }
}

}  // namespace wick
