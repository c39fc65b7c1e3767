// Products of more rows than linear_stream takes and fewer than make a product bound by arithmetic: a block has 256 outputs, 32 to a warp,
// and a share of the steps along k, so that all multiprocessors have something to do. Weights are asked for before x is there.
//
// Where a row must not depend on those beside it shares are the same for any number of rows, and a block of a product of more rows goes
// through all of them, adding them up as they would be elsewhere.
#include <algorithm>
#include <cmath>
#include <utility>

#include "wick/base/checked.h"
#include "wick/kernels/cuda/batch_weights.cuh"

namespace wick::cuda {
namespace {

struct BatchArgs {
  RoundedInput x;
  int k;
  int64_t outputs;  // of all segments
  int shares, steps, steps_per_share;
  LinearOutput out;  // of a product with one share
  float* partial;    // else [shares, rows, outputs]
};

// The weights of a segment, and where its tiles and outputs begin.
template <class Weights>
struct BatchSegments {
  Weights weights[kMostSegments];
  int first_tile[kMostSegments];
  int64_t first_output[kMostSegments];
  int count, tiles;

  // That of a tile.
  __device__ int of(int tile) const {
    int segment = 0;
    while (segment + 1 < count && tile >= first_tile[segment + 1]) ++segment;
    return segment;
  }
};

// How many stages of shared memory a block has, and how many blocks a multiprocessor: from 32 rows on one, which then has the registers
// that it takes to have the next products' operands on their way.
template <int kRows, class Weights>
struct BatchShape {
  static constexpr int kStageBytes = Weights::kStageBytes + kRows * Weights::kDepth * 2;
  static constexpr int kMostBytes = 226 * 1024, kMostStages = 6, kFewestStages = 3;
  static constexpr int kBlocks = kRows < 32 && kMostBytes / 2 - 1024 >= kFewestStages * kStageBytes ? 2 : 1;
  static constexpr int kFitting = (kMostBytes / kBlocks - 1024) / kStageBytes;
  static constexpr int kStages = kFitting < kMostStages ? kFitting : kMostStages;
  static constexpr int kBytes = kStages * kStageBytes;
};

template <int kRows, bool kAllShares, class Weights>
__global__ void __launch_bounds__(kBatchThreads, (BatchShape<kRows, Weights>::kBlocks))
    batch_kernel(const __grid_constant__ BatchArgs args, const __grid_constant__ BatchSegments<Weights> segments) {
  let_next_begin();
  using Shape = BatchShape<kRows, Weights>;
  constexpr int kStages = Shape::kStages, kDepth = Weights::kDepth, kTiles = kRows / 8;
  extern __shared__ __align__(128) std::byte shared[];
  const int tile = static_cast<int>(kAllShares ? blockIdx.y : blockIdx.x), share = static_cast<int>(kAllShares ? 0 : blockIdx.y);
  const int segment = segments.of(tile);
  const Weights& weights = segments.weights[segment];
  const uint32_t first = static_cast<uint32_t>(tile - segments.first_tile[segment]) * kBatchOutputs;
  const int lane = static_cast<int>(threadIdx.x) % kWarp, warp = static_cast<int>(threadIdx.x) / kWarp;
  const int begin = share * args.steps_per_share, end = kAllShares ? args.steps : min(args.steps, begin + args.steps_per_share);
  const int64_t first_row = kAllShares ? int64_t{blockIdx.x} * kRows : 0;
  const __nv_bfloat16* const source = args.x.x + first_row * args.x.ld;
  const uint32_t rows = static_cast<uint32_t>(min(args.x.rows - first_row, int64_t{kRows})), ld = static_cast<uint32_t>(args.x.ld);
  const auto x_of = [&](std::byte* stage) { return reinterpret_cast<__nv_bfloat16*>(stage + Weights::kStageBytes); };
  const auto copy_x = [&](std::byte* stage, int step) {
    copy_bf16_rows<kRows, kDepth>(x_of(stage), source, 0, rows, ld, step * kDepth, args.k);
  };

#pragma unroll 1
  for (int i = 0; i < kStages - 1 && begin + i < end; ++i) weights.copy(shared + i * Shape::kStageBytes, first, begin + i);
  wait_for_input();
#pragma unroll 1
  for (int i = 0; i < kStages - 1; ++i) {
    if (begin + i < end) copy_x(shared + i * Shape::kStageBytes, begin + i);
    end_stage();
  }

  float sums[2][kTiles][4] = {};
  [[maybe_unused]] float all[kAllShares ? 2 : 1][kTiles][4] = {};
  int stage = 0, next = kStages - 1, share_end = args.steps_per_share;
#pragma unroll 1
  for (int step = begin; step < end; ++step) {
    wait_stages<kStages - 2>();
    __syncthreads();  // and everyone has read the stage that comes next
    if (step + kStages - 1 < end) {
      weights.copy(shared + next * Shape::kStageBytes, first, step + kStages - 1);
      copy_x(shared + next * Shape::kStageBytes, step + kStages - 1);
    }
    end_stage();
    const __nv_bfloat16* const x = x_of(shared + stage * Shape::kStageBytes);
    weights.each(shared + stage * Shape::kStageBytes, first, step, [&](int sixteen, const unsigned(&a)[2][4]) {
#pragma unroll
      for (int j = 0; j < kTiles; ++j) {
        const uint2 b = bf16_four<kDepth>(x, 8 * j + lane / 4, sixteen);
        multiply<__nv_bfloat16>(sums[0][j], a[0], b.x, b.y);
        multiply<__nv_bfloat16>(sums[1][j], a[1], b.x, b.y);
      }
    });
    next = stage;
    stage = stage + 1 == kStages ? 0 : stage + 1;
    if constexpr (kAllShares) {
      if (step + 1 != min(share_end, end)) continue;
      share_end += args.steps_per_share;
#pragma unroll
      for (int m = 0; m < 2; ++m) {
#pragma unroll
        for (int j = 0; j < kTiles; ++j) {
#pragma unroll
          for (int c = 0; c < 4; ++c) all[m][j][c] += std::exchange(sums[m][j][c], 0.0f);
        }
      }
    }
  }
  float* const partial = args.partial ? args.partial + share * args.x.rows * args.outputs : nullptr;
#pragma unroll
  for (int m = 0; m < 2; ++m) {
#pragma unroll
    for (int j = 0; j < kTiles; ++j) {
#pragma unroll
      for (int c = 0; c < 4; ++c) {
        const uint32_t own = first + warp * kWarpOutputs + 16 * m + lane / 4 + c / 2 * 8, t = 8 * j + lane % 4 * 2 + c % 2;
        if (t >= rows || own >= weights.outputs) continue;
        const int64_t n = segments.first_output[segment] + own;
        if constexpr (kAllShares) {
          args.out.put(first_row + t, n, all[m][j][c]);
        } else if (partial) {
          partial[t * args.outputs + n] = sums[m][j][c];
        } else {
          args.out.put(t, n, sums[m][j][c]);
        }
      }
    }
  }
}

// Shares of k: so many that the multiprocessors have the same to do, and as few as that takes, since their sums have to be added up.
int best_shares(int64_t tiles, int steps, int64_t rows, int64_t outputs, int64_t slots, int64_t stage_bytes) {
  constexpr double kBytesPerMicrosecond = 4e6, kBlockBytesPerMicrosecond = 30e3, kBegin = 1.5;
  constexpr int kMostShares = 32;
  int best = 1;
  double least = INFINITY;
  for (int shares = 1; shares <= std::min(steps, kMostShares); ++shares) {
    const int per_share = ceil_div(steps, shares);
    if (shares > 1 && ceil_div(steps, per_share) != shares) continue;
    const int64_t blocks = tiles * shares, rounds = ceil_div(blocks, slots);
    const double step = static_cast<double>(stage_bytes) *
                        std::max(static_cast<double>(std::min(blocks, slots)) / kBytesPerMicrosecond, 1 / kBlockBytesPerMicrosecond);
    const double merge = shares == 1 ? 0 : 2 + static_cast<double>(shares * rows * outputs * 8) / kBytesPerMicrosecond;
    const double cost = static_cast<double>(rounds) * (per_share * step + kBegin) + merge;
    if (cost >= least) continue;
    least = cost;
    best = shares;
  }
  return best;
}

template <int kRows, bool kAllShares, class Weights>
void launch_batch(Context& ctx, const dim3& grid, const BatchArgs& args, const BatchSegments<Weights>& segments) {
  constexpr int kBytes = BatchShape<kRows, Weights>::kBytes;
  const auto kernel = batch_kernel<kRows, kAllShares, Weights>;
  stream_of(ctx).use();
  check(cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel), cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes), "linear");
  launch(ctx, "linear", kernel, grid, kBatchThreads, kBytes, args, segments);
}

template <int kRows, class Weights>
bool run(Context& ctx, BatchArgs args, const BatchSegments<Weights>& segments, BatchShares& result) {
  using Shape = BatchShape<kRows, Weights>;
  static_assert(Shape::kStages >= 2);
  constexpr int64_t kInvariantRows = kFewRows;  // for which shares are chosen then
  const bool invariant = ctx.batch_invariant();
  const CudaStream& stream = stream_of(ctx);
  if ((invariant ? BatchShape<kBatchRows, Weights>::kBytes : Shape::kBytes) > stream.shared_bytes()) return false;
  args.steps = ceil_div(args.k, Weights::kDepth);
  args.shares = best_shares(segments.tiles, args.steps, invariant ? kInvariantRows : args.x.rows, args.outputs,
                            int64_t{invariant ? 1 : Shape::kBlocks} * stream.multiprocessors(), Weights::kStageBytes);
  args.steps_per_share = ceil_div(args.steps, args.shares);
  result = {};
  const auto tiles = static_cast<unsigned>(segments.tiles);
  if constexpr (kRows == kBatchRows) {
    if (args.x.rows > kRows) {
      launch_batch<kRows, true>(ctx, dim3(blocks_for(args.x.rows, kRows), tiles), args, segments);
      return true;
    }
  }
  if (args.shares > 1 || !args.out.anywhere()) {
    args.partial = ctx.scratch<float>(args.shares * args.x.rows * args.outputs).data();
    result = {args.partial, args.shares};
  }
  launch_batch<kRows, false>(ctx, dim3(tiles, static_cast<unsigned>(args.shares)), args, segments);
  return true;
}

template <class Weights>
bool run(Context& ctx, const BatchArgs& args, std::span<const WeightSegment> weights, BatchShares& result) {
  BatchSegments<Weights> segments = {};
  int64_t outputs = 0;
  for (const WeightSegment& weight : weights) {
    segments.weights[segments.count] = Weights::of(weight);
    segments.first_tile[segments.count] = segments.tiles;
    segments.first_output[segments.count++] = outputs;
    segments.tiles += static_cast<int>(ceil_div<int64_t>(weight.rows, kBatchOutputs));
    outputs += weight.rows;
  }
  if (args.x.rows <= 16) return run<16>(ctx, args, segments, result);
  if (args.x.rows <= 32) return run<32>(ctx, args, segments, result);
  return run<kBatchRows>(ctx, args, segments, result);
}

// The sum of an output's shares, in order.
__device__ float sum_of(const float* partial, int shares, int64_t stride, int64_t at) {
  float sum = 0;
#pragma unroll 4
  for (int s = 0; s < shares; ++s) sum += partial[s * stride + at];
  return sum;
}

__global__ void __launch_bounds__(kBatchThreads)
    merge_kernel(const __grid_constant__ BatchShares shares, int rows, int outputs, const __grid_constant__ LinearOutput out) {
  begin_kernel();
  const int at = static_cast<int>(blockIdx.x) * kBatchThreads + static_cast<int>(threadIdx.x), row = at / outputs;
  if (row < rows) out.put(row, at - row * outputs, sum_of(shares.partial, shares.count, int64_t{rows} * outputs, at));
}

}  // namespace

bool linear_batch(Context& ctx, const RoundedInput& x, std::span<const WeightSegment> segments, const LinearOutput& out,
                  BatchShares& result) {
  const DType type = segments[0].type;
  const int64_t k = segments[0].k;
  const bool fits = std::all_of(segments.begin(), segments.end(), [](const WeightSegment& segment) {
    return segment.storage->bytes() <= UINT32_MAX && segment.rows <= INT32_MAX;  // places of 32 bits
  });
  if (!fits || (x.rows > kBatchRows && !ctx.batch_invariant()) || x.ld > UINT32_MAX / kBatchRows ||
      (is_quantised(type) ? k % 128 != 0 : type != DType::kBF16))
    return false;
  BatchArgs args = {};
  args.x = x;
  args.k = static_cast<int>(padded_inputs(k));
  args.outputs = outputs_of(segments);
  args.out = out;
  if (type == DType::kBF16) return run<PlainBatch>(ctx, args, segments, result);
  bool done = false;
  with_quantised(type, [&](auto quantised) { done = run<BlockBatch<decltype(quantised)::kDType>>(ctx, args, segments, result); });
  return done;
}

void merge_products(Context& ctx, const BatchShares& shares, int64_t rows, int64_t outputs, const LinearOutput& out) {
  launch(ctx, "linear", merge_kernel, blocks_for(rows * outputs, kBatchThreads), kBatchThreads, 0, shares, static_cast<int>(rows),
         static_cast<int>(outputs), out);
}

}  // namespace wick::cuda
