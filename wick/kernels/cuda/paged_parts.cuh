// What the kernels for attention over pages share: arguments, and the merging of a row's shares.
#pragma once

#include "wick/base/checked.h"
#include "wick/kernels/attention.h"
#include "wick/kernels/cuda/online_softmax.cuh"
#include "wick/kernels/cuda/step.cuh"

namespace wick::cuda {

inline constexpr int kPage = static_cast<int>(kPagePositions);

struct PagedArgs {
  AttentionArgs attention;
  Step step;
  KvLayerView cache;
  ScoreRule rule;
  int32_t shares;  // of a row's pages
  int32_t chunks;  // of the query heads of a kv head
  float* partial;  // [T, H, shares, Dh + 2] sums, then peak and sum of weights; with one share unused
};

inline PagedArgs paged_args(const AttentionArgs& args, const StepBatch& batch, const KvLayerView& cache) {
  return {args, Step(batch), cache, make_score_rule(args.scale, args.softcap, args.alibi, args.sinks), 1, 1, nullptr};
}

// Dimensions of a head in pairs that a rotation turns; those behind the rotated ones are neighbours.
__device__ inline int2 rotated_pair(const RopeAppendArgs& rope, int i) {
  if (i >= rope.half || rope.interleaved) return {2 * i, 2 * i + 1};
  return {i, i + rope.half};
}

// Few blocks are not enough for the machine: shares the pages of each row, so that none has fewer than `least` of them. The partial sums
// are in scratch of the caller's scope. One share where a row must not depend on those beside it.
inline void share_pages(Context& ctx, PagedArgs& args, const StepBatch& batch, int64_t blocks, int64_t least) {
  if (ctx.batch_invariant()) return;
  int64_t pages = page_bucket(batch);
  if (args.attention.window > 0) pages = std::min(pages, ceil_div(args.attention.window, kPagePositions) + 1);
  const int64_t wanted = ceil_div<int64_t>(4 * stream_of(ctx).multiprocessors(), blocks);
  args.shares = static_cast<int32_t>(std::max<int64_t>(1, std::min(wanted, pages / least)));
  if (args.shares == 1) return;
  args.partial = ctx.scratch<float>(int64_t{batch.rows} * args.attention.heads * args.shares * (args.cache.layout.head_dim + 2)).data();
}

// Writes `count` neighbouring elements of a row's result, aligned to as many.
template <int kCount>
__device__ void put_out(const AttentionArgs& args, int64_t row, int64_t at, const float (&values)[kCount]) {
  if (args.out_bf16) {
    store<kCount>(values, reinterpret_cast<__nv_bfloat16*>(args.out_bf16) + row * args.out_stride + at);
  } else {
    store<kCount>(values, args.out + row * args.out_stride + at);
  }
}

// Writes a head's sums: the result itself, or its share of it.
__device__ inline void put_share(const PagedArgs& args, int row, int head, int share, int d, float out, float peak, float sum) {
  const AttentionArgs& attention = args.attention;
  const int64_t dim = args.cache.layout.head_dim;
  if (args.shares == 1) {
    put_out<1>(attention, row, head * dim + d, {sum == 0 ? 0 : out * final_factor(peak, sum, args.rule.sinks, head)});
    return;
  }
  float* part = args.partial + ((int64_t{row} * attention.heads + head) * args.shares + share) * (dim + 2);
  part[d] = out;
  if (d == 0) {
    part[dim] = peak;
    part[dim + 1] = sum;
  }
}

// The results of `rows` rows from their shares.
void merge_shares(Context& ctx, const PagedArgs& args, int rows);

// For steps of few rows, f16 and bf16 pages of head sizes 64 and 128; false for others, and where a row must not depend on those beside it:
// prompts have no such kernel. With rope.qkv rope_append first, of sequences of
// one row each.
bool decode_attention(Context& ctx, PagedArgs args, const RopeAppendArgs& rope, const StepBatch& batch);

}  // namespace wick::cuda
