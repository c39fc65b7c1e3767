#include "wick/nn/attention.h"

#include <algorithm>
#include <utility>

#include "wick/base/error.h"
#include "wick/ops/linear.h"

namespace wick::nn {
namespace {

void check_weight(const char* name, const Tensor& weight, int64_t outputs, int64_t inputs) {
  require(weight.defined() && weight.shape() == Shape({outputs, inputs}), "QkvProjection: ", name, " is ", weight.shape(), ", expected [", outputs,
          ", ", inputs, "]");
}

// The three biases in one row; undefined when there are none.
Tensor join_biases(const Context& ctx, const Tensor& q, const Tensor& k, const Tensor& v, int64_t q_size, int64_t kv_size) {
  if (!q.defined() && !k.defined() && !v.defined()) return {};
  Tensor joined = Tensor::empty({q_size + 2 * kv_size}, DType::kF32);
  float* out = joined.data<float>();
  for (const auto& [bias, size] : {std::pair{&q, q_size}, {&k, kv_size}, {&v, kv_size}}) {
    require(bias->defined() && bias->dtype() == DType::kF32 && bias->shape() == Shape({size}), "QkvProjection: a bias is ",
            dtype_name(bias->dtype()), " ", bias->shape(), ", expected f32 [", size, "] for each of q, k and v, or none");
    out = std::copy_n(bias->contiguous().data<float>(), size, out);
  }
  return joined.to(ctx.device());
}

}  // namespace

QkvProjection::QkvProjection(Context& ctx, const HeadDims& dims, const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& q_bias,
                             const Tensor& k_bias, const Tensor& v_bias)
    : dims_(dims) {
  require(dims.heads > 0 && dims.kv_heads > 0 && dims.head_dim > 0 && dims.heads % dims.kv_heads == 0, "QkvProjection: ", dims.heads,
          " heads, ", dims.kv_heads, " kv heads of ", dims.head_dim, ", expected positive numbers, the first a multiple of the second");
  require(q.rank() == 2, "QkvProjection: q has rank ", q.rank(), ", expected 2");
  const int64_t q_size = dims.heads * dims.head_dim;
  const int64_t kv_size = dims.kv_heads * dims.head_dim;
  check_weight("q", q, q_size, q.dim(1));
  check_weight("k", k, kv_size, q.dim(1));
  check_weight("v", v, kv_size, q.dim(1));
  linear_ = Linear(ctx, {ops::weight_source(q), ops::weight_source(k), ops::weight_source(v)}, join_biases(ctx, q_bias, k_bias, v_bias, q_size, kv_size), false);
}

QkvProjection::Output QkvProjection::forward(Context& ctx, const Tensor& x) const {
  require(x.rank() == 3, "QkvProjection: x has rank ", x.rank(), ", expected 3");
  Tensor joined = linear_.forward(ctx, x);
  const Tensor heads = joined.reshape({x.dim(0), x.dim(1), dims_.heads + 2 * dims_.kv_heads, dims_.head_dim}).transpose(1, 2);
  const int64_t k = dims_.heads;
  const int64_t v = k + dims_.kv_heads;
  return {heads.slice(1, 0, k), heads.slice(1, k, v), heads.slice(1, v, v + dims_.kv_heads)};
}

Attention::Attention(QkvProjection qkv, Linear output, std::optional<Rotary> rotary, ops::AttentionOptions options, int64_t cache_chunk)
    : qkv_(std::move(qkv)), output_(std::move(output)), rotary_(std::move(rotary)), options_(std::move(options)), cache_(2, cache_chunk) {
  const int64_t width = qkv_.dims().heads * qkv_.dims().head_dim;
  require(output_.inputs() == width, "Attention: output has ", output_.inputs(), " inputs, expected ", width);
}

void Attention::rotate(Context& ctx, QkvProjection::Output& heads, int64_t position) {
  if (rotary_) std::tie(heads.q, heads.k) = rotary_->forward(ctx, heads.q, heads.k, position);
}

Tensor Attention::attend(Context& ctx, const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& x) const {
  const HeadDims& dims = qkv_.dims();
  const Tensor joined = Tensor::empty({x.dim(0), x.dim(1), dims.heads * dims.head_dim}, x.dtype(), ctx.device());
  ops::attention(ctx, q, k, v, options_, joined.reshape({x.dim(0), x.dim(1), dims.heads, dims.head_dim}).transpose(1, 2));
  return output_.forward(ctx, joined);
}

Tensor Attention::forward(Context& ctx, const Tensor& x, int64_t position) {
  QkvProjection::Output heads = qkv_.forward(ctx, x);
  rotate(ctx, heads, position);
  return attend(ctx, heads.q, heads.k, heads.v, x);
}

Tensor Attention::forward_with_cache(Context& ctx, const Tensor& x, int64_t position) {
  require(position == cache_.current_seq_len(), "Attention: position is ", position, ", the cache holds ", cache_.current_seq_len(), " positions");
  QkvProjection::Output heads = qkv_.forward(ctx, x);
  rotate(ctx, heads, position);
  const auto [k, v] = cache_.append(ctx, heads.k, heads.v);
  return attend(ctx, heads.q, k, v, x);
}

}  // namespace wick::nn
