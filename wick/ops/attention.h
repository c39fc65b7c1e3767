// Attention: on plain tensors, and on the paged cache that the engine uses. Both run the same kernel (kernels/attention.h has its
// arithmetic); rows never depend on what else is in the call or on the number of threads, bit for bit.
#pragma once

#include <cstdint>

#include "wick/kernels/kv_page.h"
#include "wick/kernels/step_batch.h"
#include "wick/tensor/context.h"
#include "wick/tensor/tensor.h"

namespace wick::ops {

struct AttentionOptions {
  float scale = 0;      // 0: 1 / sqrt(Dh)
  bool causal = false;  // row t sees keys 0 .. t + S - T
  int64_t window = 0;   // causal only: of these the last `window`, the row's own included; 0: all
  float softcap = 0;    // scores become softcap * tanh(score / softcap); 0: none
  Tensor alibi = {};         // causal only: [H] f32, slopes: alibi * (j - the row's own position) is added to a score, so a slope
                        // above 0, as 2^(-8 (h + 1) / H), favours near keys (Press et al. 2021, arXiv:2108.12409)
  Tensor sinks = {};         // [H] f32: of each head the score of one more key, whose value is zero (Xiao et al. 2023, arXiv:2309.17453)
};

// y[b,h,t] = Σ_j softmax_j(q[b,h,t] · k[b,g,j] * scale) v[b,g,j],  g = h / (H / K): grouped heads, K and V are not repeated.
// q: [B, H, T, Dh];  k, v: [B, K, S, Dh], any strides, one dtype of f32 | f16 | bf16; Dh a multiple of 8 up to 1024.
// y: shape and dtype of q, any strides, may be q. Sums in f32, rounded once; a row that sees no key gives zeros.
// Throws Error(kInvalidArgument) on a mismatch, Error(kUnsupported) on a device without the kernel.
void attention(Context& ctx, const Tensor& q, const Tensor& k, const Tensor& v, const AttentionOptions& options, const Tensor& y);
Tensor attention(Context& ctx, const Tensor& q, const Tensor& k, const Tensor& v, const AttentionOptions& options = {});

// For each row of a step: rotates its q and k heads in place (y0 = x0 cos - x1 sin, y1 = x0 sin + x1 cos) by the tables' row of its
// position, and writes k and v into the cache's pages, rounded once to the cache's type.
// qkv: f32 [T, (H + 2K) * Dh], rows contiguous: q heads, k heads, v heads;  cos, sin: f32 [positions, R / 2] contiguous, R <= Dh.
// interleaved: pairs (2i, 2i + 1), else (i, i + R / 2). Throws Error(kInvalidArgument) on a mismatch or a position beyond the tables.
void rope_append(Context& ctx, const Tensor& qkv, const Tensor& cos, const Tensor& sin, bool interleaved, const StepBatch& batch,
                 const KvLayerView& cache);

struct PagedAttentionOptions {
  float scale = 0;     // 0: 1 / sqrt(Dh)
  int64_t window = 0;  // keys that a row sees at most, its own included; 0: all
  float softcap = 0;
  Tensor alibi = {}, sinks = {};  // as in AttentionOptions
};

// out[t] = causal attention of row t over its sequence's cached positions up to its own, which rope_append has written.
// q: f32 [T, H * Dh] or [T, H, Dh], heads contiguous, K divides H;  out: f32 (CUDA: or bf16, rounded once) [T, H * Dh], rows
// contiguous, in f32 may be q.
// Throws Error(kInvalidArgument) on a mismatch.
void paged_attention(Context& ctx, const Tensor& q, const StepBatch& batch, const KvLayerView& cache, const PagedAttentionOptions& options,
                     const Tensor& out);

// rope_append, and then paged_attention of the rotated q heads: what a layer does with its projections, in one where the device can.
// qkv holds anything afterwards.
void rope_append_attention(Context& ctx, const Tensor& qkv, const Tensor& cos, const Tensor& sin, bool interleaved, const StepBatch& batch,
                           const KvLayerView& cache, const PagedAttentionOptions& options, const Tensor& out);

}  // namespace wick::ops
