// How a page of cached keys and values is laid out in memory. Opaque above kernels/: others only need its size.
//
// A page holds 64 consecutive positions of one layer. Per kv head, one after the other:
//   keys    [Dh][64]    transposed: the lanes of a vector are positions, so q·k is one chain over d per key, without horizontal sums,
//                       and the same chain for one query row as for many
//   values  [64][Dv]    Dv = Dh rounded up to 16, so that rows are whole vectors; the padding is never read as a result
// q8_0: 8-bit integers, and a bf16 scale per 32 of Dh and position behind each part: [ceil(Dh / 32)][64] of keys, [64][ceil(Dh / 32)]
// of values. A bf16 scale times an 8-bit integer is exact in f32, so every kernel unpacks the same numbers.
// Slots beyond a sequence's length hold whatever was there before, NaN perhaps: kernels must skip them, not multiply them by zero.
#pragma once

#include <cstddef>
#include <cstdint>

#include "wick/base/checked.h"
#include "wick/base/error.h"
#include "wick/kernels/step_batch.h"
#include "wick/tensor/dtype.h"

namespace wick {

inline constexpr int64_t kMaxHeadDim = 1024;

// Byte offsets count from the beginning of a head's part of the page; parts begin at multiples of 64 bytes.
struct KvLayout {
  DType type = DType::kF16;
  int32_t kv_heads = 0;      // K
  int32_t head_dim = 0;      // Dh
  int32_t value_stride = 0;  // Dv, in elements
  int32_t scale_blocks = 0;  // q8_0: ceil(Dh / 32), else 0
  int64_t key_scales = 0;
  int64_t values = 0;
  int64_t value_scales = 0;
  int64_t head_bytes = 0;
  int64_t page_bytes = 0;  // one layer
};

// type: f32, f16, bf16 or q8_0; head_dim: a multiple of 8, at most kMaxHeadDim. Error(kInvalidArgument) otherwise.
inline KvLayout make_kv_layout(DType type, int64_t kv_heads, int64_t head_dim) {
  const bool quantised = type == DType::kQ8_0;
  require(quantised || type == DType::kF32 || type == DType::kF16 || type == DType::kBF16, "kv cache: type ", dtype_name(type),
          ", expected f32, f16, bf16 or q8_0");
  require(kv_heads >= 1 && kv_heads <= INT32_MAX / kMaxHeadDim, "kv cache: ", kv_heads, " kv heads");
  require(head_dim >= 8 && head_dim <= kMaxHeadDim && head_dim % 8 == 0, "kv cache: head size ", head_dim,
          ", expected a multiple of 8 up to ", kMaxHeadDim);
  KvLayout layout;
  layout.type = type;
  layout.kv_heads = static_cast<int32_t>(kv_heads);
  layout.head_dim = static_cast<int32_t>(head_dim);
  layout.value_stride = static_cast<int32_t>(round_up<int64_t>(head_dim, 16));
  layout.scale_blocks = quantised ? static_cast<int32_t>(ceil_div<int64_t>(head_dim, 32)) : 0;
  const int64_t element = quantised ? 1 : traits(type).bytes;
  const int64_t scales = 2 * kPagePositions * layout.scale_blocks;
  layout.key_scales = kPagePositions * head_dim * element;
  layout.values = layout.key_scales + scales;
  layout.value_scales = layout.values + kPagePositions * layout.value_stride * element;
  layout.head_bytes = layout.value_scales + scales;
  layout.page_bytes = kv_heads * layout.head_bytes;
  return layout;
}

// The pages of one layer, consecutive in memory.
struct KvLayerView {
  KvLayout layout;
  std::byte* pages = nullptr;
  int32_t page_count = 0;

  std::byte* head(int64_t page, int64_t kv_head) const { return pages + page * layout.page_bytes + kv_head * layout.head_bytes; }
};

}  // namespace wick
