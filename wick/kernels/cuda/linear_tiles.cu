// Many rows times a packed weight on the tensor cores: tiles of kTokens x 128 outputs, 32 of k at a time, three stages of shared memory.
// Blocks of quantised weights are unpacked to bf16 on their way there, one block of 32 to a row and stage.
#include "wick/kernels/cuda/blas.h"
#include "wick/kernels/cuda/linear_parts.cuh"
#include "wick/kernels/cuda/packed_blocks.cuh"
#include "wick/kernels/cuda/tensor_core.cuh"

namespace wick::cuda {
namespace {

constexpr int kOutputs = 128;
constexpr int kDepth = kBlock;
constexpr int kStride = kDepth + 8;  // elements from row to row in shared memory: eight rows of 16 bytes meet every bank once
constexpr int kStages = 3;
constexpr int kWarps = 8;
constexpr int kThreads = kWarps * kWarp;
using Element = __nv_bfloat16;

struct TileArgs {
  RoundedInput x;
  int64_t k, outputs;  // k: rounded up to a multiple of 8
  LinearOutput out;
};

// kRows rows of 32 elements from `first` and k = begin on.
template <int kRows>
__device__ void copy_rows(Element* to, const Element* from, int64_t first, int64_t rows, int64_t k, int64_t ld, int64_t begin) {
  for (int i = static_cast<int>(threadIdx.x); i < kRows * (kDepth / 8); i += kThreads) {
    const int row = i / (kDepth / 8), at = i % (kDepth / 8) * 8;
    const bool inside = first + row < rows && begin + at < k;
    copy16(to + row * kStride + at, inside ? from + (first + row) * ld + begin + at : from, inside);
  }
}

// Weights of bf16: copied as they are.
struct PlainWeights {
  const Element* data;
  int64_t ld, outputs;

  __device__ void begin(Element* to, int64_t first, int64_t step) { copy_rows<kOutputs>(to, data, first, outputs, ld, ld, step * kDepth); }
  __device__ void finish(Element*) {}
};

// Weights in blocks: two threads to a block, which is on its way in their registers for one step.
template <DType kType>
struct BlockWeights {
  PackedBlocks data;
  int64_t blocks, outputs;
  BlockIntegers q = {};
  BlockScales scales = {};
  bool inside = false;

  __device__ void begin(Element*, int64_t first, int64_t step) {
    const int64_t n = first + threadIdx.x / 2;
    inside = n < outputs && step < blocks;
    if (!inside) return;
    q = packed_integers<kType>(data, n * blocks + step);
    scales = packed_scales<kType>(data, n * blocks + step);
  }
  __device__ void finish(Element* to) {
    const int half = static_cast<int>(threadIdx.x) % 2;
    Element* row = to + threadIdx.x / 2 * kStride + half * 16;
#pragma unroll
    for (int g = 0; g < 2; ++g) {
      Pack<Element, 8> values;
#pragma unroll
      for (int i = 0; i < 8; ++i) {
        const uint32_t word = half == 0 ? q.low[2 * g + i / 4] : q.high[2 * g + i / 4];
        const uint32_t byte = word >> 8 * (i % 4) & 255;
        const int integer = kType == DType::kQ8_0 ? static_cast<int8_t>(byte) : static_cast<int>(byte);
        values.at[i] = from_float<Element>(inside ? value_of<kType>(integer, scales, half) : 0);
      }
      *reinterpret_cast<Pack<Element, 8>*>(row + 8 * g) = values;
    }
  }
};

template <int kTokens>
constexpr size_t kSharedBytes = sizeof(Element) * kStages* kStride*(kTokens + kOutputs);

// kTokens / kWarpsT x 128 / kWarpsN outputs to a warp, in squares of 16 x 8.
template <int kTokens, int kWarpsT, class Weights>
__global__ void __launch_bounds__(kThreads) tile_kernel(const __grid_constant__ TileArgs args, Weights weights) {
  begin_kernel();
  constexpr int kWarpsN = kWarps / kWarpsT;
  constexpr int kTilesT = kTokens / kWarpsT / 16, kTilesN = kOutputs / kWarpsN / 8;
  extern __shared__ __align__(16) unsigned char shared[];
  Element* xs = reinterpret_cast<Element*>(shared);
  Element* ws = xs + kStages * kTokens * kStride;
  const int64_t first_n = int64_t{blockIdx.x} * kOutputs, first_t = int64_t{blockIdx.y} * kTokens;
  const int warp = static_cast<int>(threadIdx.x) / kWarp, lane = static_cast<int>(threadIdx.x) % kWarp;
  const int own_t = warp / kWarpsN * (kTokens / kWarpsT), own_n = warp % kWarpsN * (kOutputs / kWarpsN);
  const int64_t steps = (args.k + kDepth - 1) / kDepth;
  const auto x_stage = [&](int64_t step) { return xs + step % kStages * kTokens * kStride; };
  const auto w_stage = [&](int64_t step) { return ws + step % kStages * kOutputs * kStride; };
  // Copies of a step that there is not are empty, so that stages can be counted.
  const auto begin = [&](int64_t step) {
    if (step < steps) copy_rows<kTokens>(x_stage(step), args.x.x, first_t, args.x.rows, args.k, args.x.ld, step * kDepth);
    if (step < steps) weights.begin(w_stage(step), first_n, step);
    end_stage();
  };
  float sums[kTilesT][kTilesN][4] = {};
  begin(0);
  weights.finish(w_stage(0));
  begin(1);
  for (int64_t step = 0; step < steps; ++step) {
    weights.finish(w_stage(step + 1));  // what begin(step + 1) has loaded
    wait_stages<1>();
    __syncthreads();
    begin(step + 2);
    const Element* x = x_stage(step);
    const Element* w = w_stage(step);
#pragma unroll
    for (int k = 0; k < kDepth; k += 16) {
      unsigned a[kTilesT][4];
#pragma unroll
      for (int i = 0; i < kTilesT; ++i) load_matrices(a[i], x + (own_t + 16 * i + lane % 16) * kStride + k + lane / 16 * 8);
#pragma unroll
      for (int j = 0; j < kTilesN; j += 2) {
        unsigned b[4];  // of two squares, the halves of k in turn
        load_matrices(b, w + (own_n + 8 * j + lane % 8 + lane / 16 * 8) * kStride + k + lane / 8 % 2 * 8);
#pragma unroll
        for (int i = 0; i < kTilesT; ++i) {
          multiply<Element>(sums[i][j], a[i], b[0], b[1]);
          multiply<Element>(sums[i][j + 1], a[i], b[2], b[3]);
        }
      }
    }
  }
#pragma unroll
  for (int i = 0; i < kTilesT; ++i) {
#pragma unroll
    for (int j = 0; j < kTilesN; ++j) {
#pragma unroll
      for (int c = 0; c < 4; ++c) {
        const int64_t t = first_t + own_t + 16 * i + lane / 4 + c / 2 * 8, n = first_n + own_n + 8 * j + lane % 4 * 2 + c % 2;
        if (t < args.x.rows && n < args.outputs) args.out.put(t, n, sums[i][j][c]);
      }
    }
  }
}

template <int kTokens, int kWarpsT, class Weights>
void launch_tiles(Context& ctx, const TileArgs& args, const Weights& weights) {
  const auto kernel = tile_kernel<kTokens, kWarpsT, Weights>;
  constexpr size_t kBytes = kSharedBytes<kTokens>;
  stream_of(ctx).use();
  check(cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel), cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(kBytes)),
        "linear");
  launch(ctx, "linear", kernel, dim3(blocks_for(args.outputs, kOutputs), blocks_for(args.x.rows, kTokens)), kThreads, kBytes, args,
         weights);
}

template <class Weights>
void run(Context& ctx, const TileArgs& args, const Weights& weights) {
  args.x.rows <= 64 ? launch_tiles<32, 1>(ctx, args, weights) : launch_tiles<128, 2>(ctx, args, weights);
}

// Blocks as rows of bf16; a thread to eight elements, those of one part of four.
template <DType kType>
__global__ void __launch_bounds__(kThreads) unpack_blocks(const __grid_constant__ PackedBlocks blocks, int64_t count, Element* out) {
  begin_kernel();
  const int64_t item = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (item >= 4 * count) return;
  const int part = static_cast<int>(item % 4);
  const uint2 q = packed_eight<kType>(blocks, item / 4, part);
  const BlockScales scales = packed_scales<kType>(blocks, item / 4);
  Pack<Element, 8> values;
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    const uint32_t byte = (i < 4 ? q.x : q.y) >> 8 * (i % 4) & 255;
    const int integer = kType == DType::kQ8_0 ? static_cast<int8_t>(byte) : static_cast<int>(byte);
    values.at[i] = from_float<Element>(value_of<kType>(integer, scales, part / 2));
  }
  *reinterpret_cast<Pack<Element, 8>*>(out + 8 * item) = values;
}

// Segments as the rows of one matrix of bf16, those of a block format unpacked to scratch of the caller's scope; null where they lie apart.
const void* one_matrix(Context& ctx, std::span<const WeightSegment> segments) {
  const WeightSegment& first = segments[0];
  if (!is_quantised(first.type)) return plain_matrix(segments);
  Element* const unpacked = ctx.scratch<Element>(outputs_of(segments) * first.k).data();
  Element* next = unpacked;
  for (const WeightSegment& segment : segments) {
    const int64_t blocks = segment.rows * (segment.k / kBlock);
    with_quantised(segment.type, [&](auto type) {
      launch(ctx, "linear", unpack_blocks<decltype(type)::kDType>, blocks_for(4 * blocks, kThreads), kThreads, 0,
             packed_blocks(segment.type, segment.rows, segment.k, segment.storage->data()), blocks, next);
    });
    next += segment.rows * segment.k;
  }
  return unpacked;
}

// A product for cuBLASLt but for where it goes; without a weight where segments lie apart, or the library is not there: nothing is unpacked
// for it then.
BlasProduct product_of(Context& ctx, const RoundedInput& x, std::span<const WeightSegment> segments) {
  const int64_t k = segments[0].k;
  BlasProduct product;
  product.x = x.x;
  product.rows = x.rows;
  product.ldx = x.ld;
  product.weight = has_blas(ctx) ? one_matrix(ctx, segments) : nullptr;
  product.outputs = outputs_of(segments);
  product.ldw = padded_inputs(k);
  product.k = k;
  return product;
}

// Very wide products of many rows it does faster segment by segment: 619 instead of 700 µs for 28672 outputs of 2048 rows.
bool run_blas(Context& ctx, const RoundedInput& x, std::span<const WeightSegment> segments, const LinearOutput& out) {
  constexpr int64_t kManyRows = 1024, kMostOutputs = 16384;
  if (segments.size() > 1 && x.rows >= kManyRows && outputs_of(segments) > kMostOutputs) return false;
  const ScratchScope scope(ctx);
  BlasProduct product = product_of(ctx, x, segments);
  product.y = out.rounded ? static_cast<void*>(out.rounded) : out.y;
  product.y_type = out.rounded ? DType::kBF16 : DType::kF32;
  product.ldy = out.ld;
  product.bias = out.bias;
  product.accumulate = out.accumulate;
  return product.weight && blas_product(ctx, product);
}

// Shares of k with which the library's tiles, of 128 outputs and up to 64 rows, come close to one for each multiprocessor.
int shares_for(int64_t rows, int64_t outputs, int64_t k, int multiprocessors) {
  constexpr int64_t kTileOutputs = 128, kRows = 64, kLeastInputs = 512;
  const int64_t tiles = ceil_div(outputs, kTileOutputs) * ceil_div(rows, kRows);
  int shares = 1;
  while (2 * shares * tiles <= multiprocessors && k % (2 * shares * kPlainPadding) == 0 && k / (2 * shares) >= kLeastInputs &&
         2 * shares * rows * outputs <= kBlasShareFloats) {
    shares *= 2;
  }
  return shares;
}

}  // namespace

const Element* plain_matrix(std::span<const WeightSegment> segments) {
  const std::byte* next = segments[0].storage->data();
  for (const WeightSegment& segment : segments) {
    if (segment.storage->data() != next) return nullptr;
    next += segment.rows * padded_inputs(segment.k) * static_cast<int64_t>(sizeof(Element));
  }
  return reinterpret_cast<const Element*>(segments[0].storage->data());
}

bool linear_blas(Context& ctx, const RoundedInput& x, std::span<const WeightSegment> segments, LinearOutput out) {
  if (run_blas(ctx, x, segments, out)) return true;
  if (segments.size() == 1 || !run_blas(ctx, x, segments.first(1), out)) return false;
  for (size_t i = 1; i < segments.size(); ++i) {
    out = out.behind(segments[i - 1].rows);
    if (!run_blas(ctx, x, segments.subspan(i, 1), out)) linear_tiles(ctx, x, segments[i], out);
  }
  return true;
}

BatchShares blas_shares(Context& ctx, const RoundedInput& x, std::span<const WeightSegment> segments) {
  const int64_t outputs = outputs_of(segments), k = segments[0].k;
  const int shares = shares_for(x.rows, outputs, k, stream_of(ctx).multiprocessors());
  if (shares == 1) return {};
  float* const partial = ctx.scratch<float>(shares * x.rows * outputs).data();
  const ScratchScope scope(ctx);
  BlasProduct product = product_of(ctx, x, segments);
  product.k = product.x_step = product.weight_step = k / shares;
  product.batches = shares;
  product.y = partial;
  product.ldy = outputs;
  product.y_step = x.rows * outputs;
  if (!product.weight || !blas_product(ctx, product)) return {};
  return {partial, shares};
}

void linear_tiles(Context& ctx, const RoundedInput& x, const WeightSegment& segment, const LinearOutput& out) {
  const TileArgs args = {x, padded_inputs(segment.k), segment.rows, out};
  if (segment.type == DType::kBF16)
    return run(ctx, args, PlainWeights{reinterpret_cast<const Element*>(segment.storage->data()), args.k, segment.rows});
  const PackedBlocks blocks = packed_blocks(segment.type, segment.rows, segment.k, segment.storage->data());
  with_quantised(segment.type, [&](auto type) {
    run(ctx, args, BlockWeights<decltype(type)::kDType>{blocks, segment.k / kBlock, segment.rows});
  });
}

}  // namespace wick::cuda
