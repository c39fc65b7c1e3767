// Attention on plain tensors: copies K and V into pages in scratch and runs the paged kernel on them, so that there is one attention.
#include <algorithm>
#include <cstdint>
#include <cstring>

#include "wick/base/checked.h"
#include "wick/kernels/attention.h"
#include "wick/kernels/kv_append.h"
#include "wick/tensor/half.h"

namespace wick::cpu {
namespace {

template <class T>
void widen(const std::byte* from, int64_t stride, int64_t n, float* to) {
  const T* x = reinterpret_cast<const T*>(from);
  for (int64_t i = 0; i < n; ++i) to[i] = static_cast<float>(x[i * stride]);
}

template <class T>
void narrow(const float* from, int64_t n, std::byte* to, int64_t stride) {
  T* y = reinterpret_cast<T*>(to);
  for (int64_t i = 0; i < n; ++i) y[i * stride] = T(from[i]);
}

void read_row(const HeadsView& view, int64_t b, int64_t head, int64_t position, int64_t n, float* to) {
  const std::byte* from = view.at(b, head, position);
  switch (view.type) {
    case DType::kF32: return widen<float>(from, view.strides[3], n, to);
    case DType::kF16: return widen<F16>(from, view.strides[3], n, to);
    default: return widen<BF16>(from, view.strides[3], n, to);
  }
}

void write_row(const HeadsView& view, int64_t b, int64_t head, int64_t position, int64_t n, const float* from) {
  std::byte* to = view.at(b, head, position);
  switch (view.type) {
    case DType::kF32: return narrow<float>(from, n, to, view.strides[3]);
    case DType::kF16: return narrow<F16>(from, n, to, view.strides[3]);
    default: return narrow<BF16>(from, n, to, view.strides[3]);
  }
}

// Sequence b has rows b * T .. and pages b * P ..; its rows stand at the positions of the last key that they see.
StepBatch make_batch(Context& ctx, const DenseAttentionArgs& args, int64_t pages) {
  int32_t* positions = ctx.scratch<int32_t>(args.batch * args.rows).data();
  int32_t* first_row = ctx.scratch<int32_t>(args.batch + 1).data();
  int32_t* table = ctx.scratch<int32_t>(args.batch * pages).data();
  for (int64_t b = 0; b <= args.batch; ++b) first_row[b] = static_cast<int32_t>(b * args.rows);
  for (int64_t i = 0; i < args.batch * pages; ++i) table[i] = static_cast<int32_t>(i);
  for (int64_t i = 0; i < args.batch * args.rows; ++i) {
    const int64_t last = args.causal ? std::max<int64_t>(-1, i % args.rows + args.keys - args.rows) : args.keys - 1;
    positions[i] = static_cast<int32_t>(last);
  }
  StepBatch batch;
  batch.rows = static_cast<int32_t>(args.batch * args.rows);
  batch.sequences = static_cast<int32_t>(args.batch);
  batch.table_stride = static_cast<int32_t>(pages);
  batch.positions = positions;
  batch.first_row = first_row;
  batch.page_table = table;
  return batch;
}

KvLayerView pack_pages(Context& ctx, const DenseAttentionArgs& args, int64_t pages) {
  KvLayerView cache;
  cache.layout = make_kv_layout(args.k.type, args.kv_heads, args.head_dim);
  cache.page_count = static_cast<int32_t>(args.batch * pages);
  cache.pages = ctx.scratch<std::byte>(cache.page_count * cache.layout.page_bytes).data();
  const int64_t dim = args.head_dim;
  float* rows = ctx.scratch<float>(2 * kPagePositions * dim * ctx.threads()).data();
  ctx.pool().parallel_for(cache.page_count * args.kv_heads, 1, [&](int64_t begin, int64_t end, int worker) {
    float* k = rows + 2 * kPagePositions * dim * worker;
    float* v = k + kPagePositions * dim;
    for (int64_t i = begin; i < end; ++i) {
      const int64_t head = i % args.kv_heads;
      const int64_t page = i / args.kv_heads;
      const int64_t first = page % pages * kPagePositions;
      const int64_t count = std::min(kPagePositions, args.keys - first);
      for (int64_t t = 0; t < count; ++t) {
        read_row(args.k, page / pages, head, first + t, dim, k + t * dim);
        read_row(args.v, page / pages, head, first + t, dim, v + t * dim);
      }
      kv_write(ctx.isa(), cache, page, head, 0, count, k, v, dim);
    }
  });
  return cache;
}

}  // namespace

void attention(Context& ctx, const DenseAttentionArgs& args) {
  const ScratchScope scope(ctx);
  const int64_t pages = ceil_div(args.keys, kPagePositions);
  const StepBatch batch = make_batch(ctx, args, pages);
  const KvLayerView cache = pack_pages(ctx, args, pages);
  const int64_t width = args.heads * args.head_dim;
  float* rows = ctx.scratch<float>(batch.rows * width).data();
  const auto each_row = [&](auto&& body) {
    ctx.pool().parallel_for(batch.rows, 16, [&](int64_t begin, int64_t end, int) {
      for (int64_t i = begin; i < end; ++i) {
        for (int64_t h = 0; h < args.heads; ++h) body(i / args.rows, h, i % args.rows, rows + i * width + h * args.head_dim);
      }
    });
  };
  each_row([&](int64_t b, int64_t h, int64_t t, float* row) { read_row(args.q, b, h, t, args.head_dim, row); });
  AttentionArgs paged;
  paged.q = rows;
  paged.q_stride = width;
  paged.out = rows;
  paged.out_stride = width;
  paged.heads = static_cast<int32_t>(args.heads);
  paged.alibi = args.alibi;
  paged.sinks = args.sinks;
  paged.scale = args.scale;
  paged.window = args.window;
  paged.softcap = args.softcap;
  paged_attention(ctx, paged, batch, cache);
  each_row([&](int64_t b, int64_t h, int64_t t, const float* row) { write_row(args.y, b, h, t, args.head_dim, row); });
}

}  // namespace wick::cpu
