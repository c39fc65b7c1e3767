// The attention block of a decoder layer, put together from ops: QKV projection, rotary embedding, cache, grouped-head attention, output
// projection. For programs that build their own models; the engine's models run the paged form (models/).
#pragma once

#include <cstdint>
#include <optional>

#include "wick/nn/kv_cache.h"
#include "wick/nn/linear.h"
#include "wick/nn/rotary.h"
#include "wick/ops/attention.h"

namespace wick::nn {

struct HeadDims {
  int64_t heads = 0;     // H
  int64_t kv_heads = 0;  // K, divides H
  int64_t head_dim = 0;  // Dh
};

// Weights of q, k and v side by side: one dispatch, whatever their types.
class QkvProjection {
 public:
  // q: [H Dh, D];  k, v: [K Dh, D], each plain or quantised.  biases: [H Dh] and [K Dh] f32, all three or none (undefined).
  // Throws Error(kInvalidArgument) on a shape or dtype mismatch.
  QkvProjection(Context& ctx, const HeadDims& dims, const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& q_bias = {},
                const Tensor& k_bias = {}, const Tensor& v_bias = {});

  struct Output {
    Tensor q;  // (B, H, T, Dh)
    Tensor k;  // (B, K, T, Dh)
    Tensor v;  // (B, K, T, Dh)
  };
  // x: (B, T, D) f32|f16|bf16. The outputs are views of one buffer of x's dtype, ready for rope.
  Output forward(Context& ctx, const Tensor& x) const;

  const HeadDims& dims() const { return dims_; }

 private:
  HeadDims dims_;
  Linear linear_;
};

class Attention {
 public:
  // rotary: none for models with other position embeddings.  cache_chunk: positions that the cache grows by.
  Attention(QkvProjection qkv, Linear output, std::optional<Rotary> rotary, ops::AttentionOptions options = {.causal = true},
            int64_t cache_chunk = 256);

  // y = output(attention(rope(qkv(x)))).   x: (B, T, D) f32|f16|bf16, rows at positions position .. position + T - 1;  y: as x.
  // Without the cache: the rows see each other only.
  Tensor forward(Context& ctx, const Tensor& x, int64_t position);
  // The rows follow those in the cache, which holds K and V of positions 0 .. position - 1 afterwards too, and get added to it.
  // Throws Error(kInvalidArgument) when position is not the cache's length, and what the parts throw.
  Tensor forward_with_cache(Context& ctx, const Tensor& x, int64_t position);

  KvCache& cache() { return cache_; }

 private:
  Tensor attend(Context& ctx, const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& x) const;
  void rotate(Context& ctx, QkvProjection::Output& heads, int64_t position);

  QkvProjection qkv_;
  Linear output_;
  std::optional<Rotary> rotary_;
  ops::AttentionOptions options_;
  KvCache cache_;
};

}  // namespace wick::nn
