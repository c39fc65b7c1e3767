// Attention over page tables: the one attention of wick, for prefill, decode and any mixture. Not checked here: ops/ does that.
//
// Row t with position n sees keys lo..n of its sequence, lo = max(0, n + 1 - window). Arithmetic of a row and head, all in f32:
//   pages in ascending order within blocks of kAttentionBlock positions (absolute, so chunking cannot move them):
//     s_j = fma chain over ascending d of (q_d · scale · log2 e) · k_jd;   softcap c: s_j = c · tanh(q·k · scale / c) · log2 e
//     alibi a: s_j += a · log2 e · (j - n)
//     m' = max(m, max s_j);   p_j = 2^(s_j - m');   l = l · 2^(m - m') + Σ p_j
//     o = o · 2^(m - m'), then an fma chain over ascending j of p_j · v_j
//   blocks merged in ascending order in the same way;   y = o / l, zeros where no key is seen;   sink z: l += 2^(z · log2 e - m)
// Every row has this chain whatever tile, batch or thread works on it: results are bit-identical for one instruction set.
#pragma once

#include <cstdint>

#include "wick/kernels/kv_append.h"
#include "wick/kernels/kv_page.h"
#include "wick/tensor/context.h"
#include "wick/tensor/dtype.h"

namespace wick {

inline constexpr int64_t kAttentionBlock = 256;

struct AttentionArgs {
  const float* q = nullptr;  // [T, H, Dh], heads contiguous
  int64_t q_stride = 0;      // elements from row to row
  float* out = nullptr;      // [T, H, Dh]; may be q
  int64_t out_stride = 0;
  uint16_t* out_bf16 = nullptr;  // in place of out: bf16. CUDA's only
  int32_t heads = 0;  // H, a multiple of the cache's K
  float scale = 1;
  int64_t window = 0;  // 0: no bound
  float softcap = 0;   // 0: none
  const float* alibi = nullptr;  // [H] slopes, or none
  const float* sinks = nullptr;  // [H] scores of a key without a value, or none
};

// Attention on plain tensors: a strided view of [B, heads, positions, Dh].
struct HeadsView {
  std::byte* data = nullptr;
  DType type = DType::kF32;  // f32, f16, bf16
  int64_t strides[4] = {};   // elements

  std::byte* at(int64_t b, int64_t head, int64_t position) const {
    return data + (b * strides[0] + head * strides[1] + position * strides[2]) * traits(type).bytes;
  }
};

struct DenseAttentionArgs {
  HeadsView q, k, v, y;
  int64_t batch = 0, heads = 0, kv_heads = 0, rows = 0, keys = 0, head_dim = 0;
  float scale = 1;
  bool causal = false;  // row t sees keys up to t + keys - rows
  int64_t window = 0;
  float softcap = 0;
  const float* alibi = nullptr;  // causal only
  const float* sinks = nullptr;
};

namespace cpu {
// positions must not fall within a sequence; unlike StepBatch says they may repeat.
void paged_attention(Context& ctx, const AttentionArgs& args, const StepBatch& batch, const KvLayerView& cache);
// rope_append and then paged_attention, whose q is rope.qkv. rope.qkv holds anything afterwards.
inline void rope_append_attention(Context& ctx, const RopeAppendArgs& rope, const AttentionArgs& args, const StepBatch& batch,
                                  const KvLayerView& cache) {
  rope_append(ctx, rope, batch, cache);
  paged_attention(ctx, args, batch, cache);
}
// The same on plain rows, whose elements are neighbours. No scores matrix, no copy of k and v. y may be q.
void attention(Context& ctx, const DenseAttentionArgs& args);
}  // namespace cpu
namespace cuda {
// On ctx's stream. batch.on_device is set; every pointer of args but those of batch is in the device's memory.
// Rows do not depend on each other; blocks of positions are merged in an order that depends on the shape of the step, unless ctx is batch
// invariant.
void paged_attention(Context& ctx, const AttentionArgs& args, const StepBatch& batch, const KvLayerView& cache);
// One kernel where every sequence has one row (f16 and bf16 pages, head sizes 64 and 128).
void rope_append_attention(Context& ctx, const RopeAppendArgs& rope, const AttentionArgs& args, const StepBatch& batch,
                           const KvLayerView& cache);
void attention(Context& ctx, const DenseAttentionArgs& args);
}  // namespace cuda

namespace ref {
// Explicit softmax in f64.
void paged_attention(const AttentionArgs& args, const StepBatch& batch, const KvLayerView& cache);
void attention(const DenseAttentionArgs& args);
}  // namespace ref

}  // namespace wick
