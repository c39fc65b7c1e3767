#include "wick/ops/attention.h"

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "wick/base/checked.h"
#include "wick/kernels/attention.h"
#include "wick/kernels/kv_append.h"
#include "wick/ops/arguments.h"
#include "wick/ops/copy.h"
#include "wick/ops/device.h"

namespace wick::ops {
namespace {

float scale_or_default(float scale, int64_t head_dim) {
  return scale != 0 ? scale : static_cast<float>(1 / std::sqrt(static_cast<double>(head_dim)));
}

void check_options(const char* op, float scale, int64_t window, float softcap) {
  require(std::isfinite(scale), op, ": scale ", scale);
  require(window >= 0, op, ": window ", window);
  require(softcap >= 0 && std::isfinite(softcap), op, ": softcap ", softcap);
}

void require_here(const Context& ctx, const char* op, const char* name, const Tensor& tensor) {
  require(tensor.defined() && tensor.device() == ctx.device(), op, ": ", name, " is not a tensor on device ", ctx.device().name());
}

const float* per_head(const Context& ctx, const char* op, const char* name, const Tensor& values, int64_t heads) {
  if (!values.defined()) return nullptr;
  require_here(ctx, op, name, values);
  require(values.dtype() == DType::kF32 && values.is_contiguous() && values.shape() == Shape({heads}), op, ": ", name,
          " is ", dtype_name(values.dtype()), " ", values.shape(), ", expected contiguous f32 [", heads, "]");
  return values.data<float>();
}

void check_dense(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& y) {
  require(q.rank() == 4 && k.rank() == 4 && v.rank() == 4, "attention: q, k, v have ranks ", q.rank(), ", ", k.rank(), ", ", v.rank(),
          ", expected 4");
  const DType type = q.dtype();
  require(type == DType::kF32 || type == DType::kF16 || type == DType::kBF16, "attention: q is ", dtype_name(type),
          ", expected f32, f16 or bf16");
  require(k.dtype() == type && v.dtype() == type, "attention: k is ", dtype_name(k.dtype()), ", v is ", dtype_name(v.dtype()),
          ", expected ", dtype_name(type), " as q");
  require(k.shape() == v.shape(), "attention: k is ", k.shape().to_string(), ", v is ", v.shape().to_string(), ", expected the same shape");
  require(k.dim(0) == q.dim(0) && k.dim(3) == q.dim(3), "attention: k is ", k.shape().to_string(), ", q is ", q.shape().to_string(),
          ", expected the same first and last dimension");
  require(q.elements() == 0 || (k.dim(1) > 0 && q.dim(1) % k.dim(1) == 0), "attention: ", q.dim(1), " query heads are not a multiple of ",
          k.dim(1), " kv heads");
  require(y.dtype() == type && y.shape() == q.shape(), "attention: y is ", dtype_name(y.dtype()), " ", y.shape().to_string(), ", expected ",
          dtype_name(type), " ", q.shape().to_string());
  mul_or_fail<int32_t>(static_cast<int32_t>(std::min<int64_t>(q.dim(0), INT32_MAX)),
                       static_cast<int32_t>(std::min<int64_t>(q.dim(2), INT32_MAX)), "attention: rows of q");
  require(k.dim(2) < INT32_MAX - kPagePositions && q.dim(0) * ceil_div(k.dim(2), kPagePositions) < INT32_MAX, "attention: ", k.dim(2),
          " keys");
}

// A batch comes from the caller: what the kernels index with must be inside the tables. O(T + pages).
void check_batch(const Context& ctx, const char* op, const StepBatch& batch, const KvLayerView& cache) {
  require(batch.rows >= 0 && batch.sequences >= 0 && (batch.sequences == 0 ? batch.rows == 0 : batch.first_row[0] == 0), op,
          ": malformed batch of ", batch.rows, " rows in ", batch.sequences, " sequences");
  for (int32_t b = 0; b < batch.sequences; ++b) {
    const int32_t begin = batch.first_row[b];
    const int32_t end = batch.first_row[b + 1];
    require(begin < end && end <= batch.rows, op, ": sequence ", b, " has rows ", begin, " to ", end, " of ", batch.rows);
    for (int32_t row = begin; row < end; ++row) {
      require(batch.positions[row] >= 0 && int64_t{batch.positions[row]} == int64_t{batch.positions[begin]} + row - begin, op, ": row ",
              row, " is at position ", batch.positions[row], ", expected consecutive positions");
    }
    const int64_t pages = batch.positions[end - 1] / kPagePositions + 1;
    require(pages <= batch.table_stride, op, ": sequence ", b, " needs ", pages, " pages, its table has ", batch.table_stride);
    const int32_t* table = batch.page_table + int64_t{b} * batch.table_stride;
    for (int64_t p = 0; p < pages; ++p) {
      require(table[p] >= 0 && table[p] < cache.page_count, op, ": sequence ", b, " refers to page ", table[p], " of ", cache.page_count);
    }
  }
  require(ctx.device().is_cpu() || batch.rows == 0 || batch.on_device.positions, op, ": the batch is not on device ", ctx.device().name());
  require(batch.sequences == 0 || batch.first_row[batch.sequences] == batch.rows, op, ": the sequences do not cover the ", batch.rows,
          " rows");
}

void check_table(const Context& ctx, const char* name, const Tensor& table, const KvLayout& layout) {
  require_here(ctx, "rope_append", name, table);
  require(table.rank() == 2 && table.dtype() == DType::kF32 && table.is_contiguous() && 2 * table.dim(1) <= layout.head_dim,
          "rope_append: ", name, " is ", dtype_name(table.dtype()), " ", table.shape().to_string(),
          ", expected contiguous f32 of rank 2, at most ", layout.head_dim / 2, " wide");
}

RopeAppendArgs rope_args(const Context& ctx, const Tensor& qkv, const Tensor& cos, const Tensor& sin, bool interleaved, const StepBatch& batch,
                         const KvLayerView& cache) {
  require_kernels(ctx, "rope_append");
  const KvLayout& layout = cache.layout;
  require_here(ctx, "rope_append", "qkv", qkv);
  require(qkv.rank() == 2 && qkv.dtype() == DType::kF32 && qkv.rows_contiguous() && qkv.dim(0) == batch.rows, "rope_append: qkv is ",
          dtype_name(qkv.dtype()), " ", qkv.shape().to_string(), ", expected f32 of rank 2 with ", batch.rows, " contiguous rows");
  const int64_t heads = qkv.dim(1) / layout.head_dim - 2 * int64_t{layout.kv_heads};
  require(qkv.dim(1) % layout.head_dim == 0 && heads > 0 && heads % layout.kv_heads == 0 && heads <= INT32_MAX, "rope_append: qkv is ",
          qkv.shape().to_string(), ", expected q heads, a multiple of ", layout.kv_heads, ", and twice ", layout.kv_heads, " heads of ",
          layout.head_dim);
  check_table(ctx, "cos", cos, layout);
  check_table(ctx, "sin", sin, layout);
  require(cos.shape() == sin.shape(), "rope_append: cos is ", cos.shape().to_string(), ", sin is ", sin.shape().to_string());
  check_batch(ctx, "rope_append", batch, cache);
  for (int32_t row = 0; row < batch.rows; ++row) {
    require(batch.positions[row] < cos.dim(0), "rope_append: position ", batch.positions[row], " is beyond the tables' ", cos.dim(0));
  }
  RopeAppendArgs args;
  args.qkv = qkv.data<float>();
  args.stride = qkv.strides()[0];
  args.heads = static_cast<int32_t>(heads);
  args.cos = cos.data<float>();
  args.sin = sin.data<float>();
  args.half = static_cast<int32_t>(cos.dim(1));
  args.interleaved = interleaved;
  return args;
}

AttentionArgs attention_args(const Context& ctx, const Tensor& q, const StepBatch& batch, const KvLayerView& cache,
                             const PagedAttentionOptions& options, const Tensor& out) {
  require_kernels(ctx, "paged_attention");
  const KvLayout& layout = cache.layout;
  require_here(ctx, "paged_attention", "q", q);
  require_here(ctx, "paged_attention", "out", out);
  const bool split = q.rank() == 3 && q.dim(2) == layout.head_dim && (q.dim(1) <= 1 || q.strides()[1] == layout.head_dim);
  require((q.rank() == 2 || split) && q.dtype() == DType::kF32 && q.rows_contiguous() && q.dim(0) == batch.rows, "paged_attention: q is ",
          dtype_name(q.dtype()), " ", q.shape().to_string(), ", expected f32 [", batch.rows, ", heads * ", layout.head_dim,
          "] with contiguous rows");
  const int64_t width = split ? q.dim(1) * q.dim(2) : q.dim(1);
  const int64_t heads = width / layout.head_dim;
  require(width % layout.head_dim == 0 && heads > 0 && heads % layout.kv_heads == 0 && heads <= INT32_MAX, "paged_attention: q is ",
          q.shape().to_string(), ", expected a multiple of ", layout.kv_heads, " heads of ", layout.head_dim);
  const bool rounded = out.dtype() == DType::kBF16 && on_cuda(ctx);
  require(out.rank() == 2 && (out.dtype() == DType::kF32 || rounded) && out.rows_contiguous() && out.dim(0) == batch.rows && out.dim(1) == width,
          "paged_attention: out is ", dtype_name(out.dtype()), " ", out.shape().to_string(), ", expected f32 [", batch.rows, ", ", width,
          "] with contiguous rows");
  check_options("paged_attention", options.scale, options.window, options.softcap);
  check_batch(ctx, "paged_attention", batch, cache);
  AttentionArgs args;
  args.q = q.data<float>();
  args.q_stride = q.strides()[0];
  if (rounded) {
    args.out_bf16 = out.data<uint16_t>();
  } else {
    args.out = out.data<float>();
  }
  args.out_stride = out.strides()[0];
  args.heads = static_cast<int32_t>(heads);
  args.scale = scale_or_default(options.scale, layout.head_dim);
  args.window = options.window;
  args.softcap = options.softcap;
  args.alibi = per_head(ctx, "paged_attention", "alibi", options.alibi, heads);
  args.sinks = per_head(ctx, "paged_attention", "sinks", options.sinks, heads);
  return args;
}

}  // namespace

void attention(Context& ctx, const Tensor& q, const Tensor& k, const Tensor& v, const AttentionOptions& options, const Tensor& y) {
  require_kernels(ctx, "attention");
  for (const auto& [name, tensor] : {Argument{"q", q}, {"k", k}, {"v", v}, {"y", y}}) require_here(ctx, "attention", name, tensor);
  check_dense(q, k, v, y);
  check_options("attention", options.scale, options.window, options.softcap);
  require(options.window == 0 || options.causal, "attention: a window needs causal");
  require(!options.alibi.defined() || options.causal, "attention: alibi needs causal");
  if (q.elements() == 0) return;
  make_kv_layout(k.dtype(), k.dim(1), k.dim(3));  // checks the head size
  const Tensor q_rows = with_contiguous_rows(ctx, q), k_rows = with_contiguous_rows(ctx, k), v_rows = with_contiguous_rows(ctx, v);
  const Tensor y_rows = y.rows_contiguous() ? y : Tensor::empty(y.shape(), y.dtype(), ctx.device());
  DenseAttentionArgs args;
  args.q = heads_view(q_rows);
  args.k = heads_view(k_rows);
  args.v = heads_view(v_rows);
  args.y = heads_view(y_rows);
  args.batch = q.dim(0);
  args.heads = q.dim(1);
  args.kv_heads = k.dim(1);
  args.rows = q.dim(2);
  args.keys = k.dim(2);
  args.head_dim = q.dim(3);
  args.scale = scale_or_default(options.scale, args.head_dim);
  args.causal = options.causal;
  args.window = options.window;
  args.softcap = options.softcap;
  args.alibi = per_head(ctx, "attention", "alibi", options.alibi, args.heads);
  args.sinks = per_head(ctx, "attention", "sinks", options.sinks, args.heads);
  run_kernel<cpu::attention, cuda::attention>(ctx, args);
  if (y_rows.raw() != y.raw()) copy(ctx, y_rows, y);
}

Tensor attention(Context& ctx, const Tensor& q, const Tensor& k, const Tensor& v, const AttentionOptions& options) {
  Tensor y = Tensor::empty(q.shape(), q.dtype(), ctx.device());
  attention(ctx, q, k, v, options, y);
  return y;
}

void rope_append(Context& ctx, const Tensor& qkv, const Tensor& cos, const Tensor& sin, bool interleaved, const StepBatch& batch,
                 const KvLayerView& cache) {
  const RopeAppendArgs args = rope_args(ctx, qkv, cos, sin, interleaved, batch, cache);
  if (batch.rows > 0) run_kernel<cpu::rope_append, cuda::rope_append>(ctx, args, batch, cache);
}

void paged_attention(Context& ctx, const Tensor& q, const StepBatch& batch, const KvLayerView& cache, const PagedAttentionOptions& options,
                     const Tensor& out) {
  const AttentionArgs args = attention_args(ctx, q, batch, cache, options, out);
  if (batch.rows > 0) run_kernel<cpu::paged_attention, cuda::paged_attention>(ctx, args, batch, cache);
}

void rope_append_attention(Context& ctx, const Tensor& qkv, const Tensor& cos, const Tensor& sin, bool interleaved, const StepBatch& batch,
                           const KvLayerView& cache, const PagedAttentionOptions& options, const Tensor& out) {
  const RopeAppendArgs rope = rope_args(ctx, qkv, cos, sin, interleaved, batch, cache);
  const Tensor q = qkv.slice(1, 0, int64_t{rope.heads} * cache.layout.head_dim);
  const AttentionArgs args = attention_args(ctx, q, batch, cache, options, out);
  if (batch.rows > 0) run_kernel<cpu::rope_append_attention, cuda::rope_append_attention>(ctx, rope, args, batch, cache);
}

}  // namespace wick::ops
