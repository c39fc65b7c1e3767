// Writing keys and values into cache pages, with the rotation of q and k on the way. Not checked here: ops/ does that.
#pragma once

#include <cstdint>

#include "wick/kernels/kv_page.h"
#include "wick/tensor/context.h"

namespace wick {

struct RopeAppendArgs {
  float* qkv = nullptr;        // [T, (H + 2K) * Dh] as projected: q heads, k heads, v heads
  int64_t stride = 0;          // elements from row to row
  int32_t heads = 0;           // H
  const float* cos = nullptr;  // [positions, R / 2]
  const float* sin = nullptr;
  int32_t half = 0;          // R / 2; 2 * half <= Dh, the rest of a head is copied
  bool interleaved = false;  // pairs (2i, 2i + 1), else (i, i + R / 2)
};

// Consecutive rows of a step whose positions lie in one page.
struct PageRun {
  int32_t sequence = 0;
  int32_t row = 0;    // first row
  int32_t count = 0;  // rows
};

namespace cpu {

// For every row: rotates the q heads and the k heads in place, y0 = x0 cos - x1 sin, y1 = x0 sin + x1 cos (each product rounded), and
// stores k and v at the row's position in the page of its sequence's table, rounded to the cache's type (nearest even; q8_0: the scale of
// 32 values is max |x| / 127 rounded up to bf16, values x / scale to nearest; blocks with a NaN or an infinity become NaN).
void rope_append(Context& ctx, const RopeAppendArgs& args, const StepBatch& batch, const KvLayerView& cache);

}  // namespace cpu
namespace cuda {
// The same bits, on ctx's stream. batch.on_device is set.
void rope_append(Context& ctx, const RopeAppendArgs& args, const StepBatch& batch, const KvLayerView& cache);
}  // namespace cuda

namespace ref {

void rope_append(const RopeAppendArgs& args, const StepBatch& batch, const KvLayerView& cache);

// One cached element as f32.
float key_at(const KvLayerView& cache, int64_t page, int64_t kv_head, int64_t slot, int64_t d);
float value_at(const KvLayerView& cache, int64_t page, int64_t kv_head, int64_t slot, int64_t d);

}  // namespace ref
}  // namespace wick
