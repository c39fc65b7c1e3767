#include "wick/kernels/block_format.h"

#include <array>
#include <bit>
#include <cstring>

#include "wick/base/error.h"
#include "wick/kernels/block_layout.h"
#include "wick/tensor/half.h"

namespace wick {
namespace {

void decode_block(const BlockFormat& format, const std::byte* row, int64_t b, float* out) {
  const auto q = std::bit_cast<std::array<uint8_t, kQuantBlock>>(read_integers(format, row, b));
  const BlockScales scales = read_scales(format, row, b);
  for (size_t e = 0; e < q.size(); ++e) out[e] = scales.weight(format, e, q[e]);
}

}  // namespace

bool has_codec(DType type) { return type == DType::kF32 || type == DType::kF16 || type == DType::kBF16 || block_format(type) != nullptr; }

void decode_blocks(DType type, const std::byte* stored, int64_t elements, float* out) {
  switch (type) {
    case DType::kF32: std::memcpy(out, stored, static_cast<size_t>(elements) * sizeof(float)); return;
    case DType::kF16:
      for (int64_t i = 0; i < elements; ++i) out[i] = f16_to_f32(load_as<uint16_t>(stored + 2 * i));
      return;
    case DType::kBF16:
      for (int64_t i = 0; i < elements; ++i) out[i] = bf16_to_f32(load_as<uint16_t>(stored + 2 * i));
      return;
    default: break;
  }
  const BlockFormat* format = block_format(type);
  if (!format) fail(ErrorCode::kUnsupported, "weights of type ", dtype_name(type), " are not supported");
  for (int64_t b = 0; b < elements / kQuantBlock; ++b) decode_block(*format, stored, b, out + b * kQuantBlock);
}

}  // namespace wick
