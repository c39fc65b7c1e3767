// Products with packed weights. For few rows a matrix times vectors, bound by the weights' bytes: a warp, or several, to an output, every lane
// reading 16 bytes of quants at a time.
#include "wick/kernels/linear.h"

#include "wick/kernels/cuda/linear_parts.cuh"
#include "wick/kernels/cuda/packed_blocks.cuh"

namespace wick::cuda {
namespace {

constexpr int kWarps = 8;
constexpr int kThreads = kWarps * kWarp;
constexpr int64_t kWarpsPerProcessor = 16;  // that hide the memory's latency

// x in blocks of 32 as two runs of 8 bits: x = s1 * q1 + s2 * q2. For each row four planes of 16 bytes per block, q1 and q2 of both
// halves, and for each block {s1, s2, the sums of both halves}.
struct QuantisedRows {
  uint4* quants;   // [rows, 4, blocks]
  float4* scales;  // [rows, blocks]
  int64_t blocks;  // of a row
};

__device__ float block_peak(float x) {
  float peak = fabsf(x);
  bool finite = isfinite(x);
  peak = warp_max(peak);
  finite = __all_sync(kAllLanes, finite);
  return finite ? peak : NAN;
}

// A lane's element of a block, as the largest magnitude of it says.
__device__ float quantise(float x, float peak, float& scale) {
  scale = peak / 127.0f;
  return peak >= 1e-36f ? rintf(x * (127.0f / peak)) : 0.0f;
}

// A warp for every block.
__global__ void __launch_bounds__(kThreads) quantise_rows(const float* x, int64_t ldx, int64_t rows, const __grid_constant__ QuantisedRows out) {
  const int64_t item = int64_t{blockIdx.x} * kWarps + threadIdx.x / kWarp;
  if (item >= rows * out.blocks) return;
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int64_t row = item / out.blocks, block = item - row * out.blocks;
  const float value = x[row * ldx + block * kBlock + lane];
  float s1, s2;
  const float q1 = quantise(value, block_peak(value), s1);
  const float rest = fmaf(-q1, s1, value);
  const float q2 = quantise(rest, block_peak(rest), s2);
  auto* bytes = reinterpret_cast<int8_t*>(out.quants + row * 4 * out.blocks);
  const int64_t half = lane / 16;
  bytes[(half * out.blocks + block) * 16 + lane % 16] = static_cast<int8_t>(q1);
  bytes[((2 + half) * out.blocks + block) * 16 + lane % 16] = static_cast<int8_t>(q2);
  float sum1 = q1, sum2 = q2;
  for (int step = 8; step > 0; step /= 2) {  // of each half of the warp
    sum1 += __shfl_xor_sync(kAllLanes, sum1, step);
    sum2 += __shfl_xor_sync(kAllLanes, sum2, step);
  }
  const float sum = s1 * sum1 + s2 * sum2;
  const float upper = __shfl_sync(kAllLanes, sum, 16);
  if (lane == 0) out.scales[row * out.blocks + block] = {s1, s2, sum, upper};
}

// Rows of f32, rounded to what the weights' type asks and filled up with zeros.
template <class T>
__global__ void __launch_bounds__(kThreads) round_rows(const float* x, int64_t ldx, int64_t rows, int64_t k, bool to_bf16, T* out, int64_t ld) {
  const int64_t item = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (item >= rows * ld) return;
  const int64_t row = item / ld, i = item - row * ld;
  float value = i < k ? x[row * ldx + i] : 0;
  if (to_bf16) value = to_float(__float2bfloat16_rn(value));
  out[item] = from_float<T>(value);
}

__device__ int dot16(const uint32_t (&w)[4], const uint4& x) {
  int sum = __dp4a(static_cast<int>(w[0]), static_cast<int>(x.x), 0);
  sum = __dp4a(static_cast<int>(w[1]), static_cast<int>(x.y), sum);
  sum = __dp4a(static_cast<int>(w[2]), static_cast<int>(x.z), sum);
  return __dp4a(static_cast<int>(w[3]), static_cast<int>(x.w), sum);
}

// The product of a block of weights with one of x: 0 and 1 in `part` are its halves, which have scales of their own in Q6_K only.
template <DType kType>
__device__ float block_product(const BlockIntegers& q, const BlockScales& w, const QuantisedRows& x, int64_t row, int64_t block) {
  constexpr FormatTraits kFormat = format_traits(kType);
  const uint4* planes = x.quants + row * 4 * x.blocks + block;
  const float4 s = x.scales[row * x.blocks + block];
  const int low1 = dot16(q.low, planes[0]), high1 = dot16(q.high, planes[x.blocks]);
  const int low2 = dot16(q.low, planes[2 * x.blocks]), high2 = dot16(q.high, planes[3 * x.blocks]);
  if constexpr (kType == DType::kQ6_K) {
    const float low = s.x * static_cast<float>(low1) + s.y * static_cast<float>(low2) - kFormat.offset * s.z;
    const float high = s.x * static_cast<float>(high1) + s.y * static_cast<float>(high2) - kFormat.offset * s.w;
    return w.scale[0] * low + w.scale[1] * high;
  }
  const float product = s.x * static_cast<float>(low1 + high1) + s.y * static_cast<float>(low2 + high2);
  if constexpr (kFormat.minimum) return w.scale[0] * product + w.minimum * (s.z + s.w);
  return w.scale[0] * (product - kFormat.offset * (s.z + s.w));
}

// Adds up the shares of the warps that work on one output, in order. Every thread of the block calls it.
template <int kRows>
__device__ void put_sums(float (&sums)[kRows], int warps_per_output, int64_t n, int64_t outputs, int rows, const LinearOutput& out) {
  __shared__ float parts[kWarps][kRows];
  const int warp = static_cast<int>(threadIdx.x) / kWarp, lane = static_cast<int>(threadIdx.x) % kWarp;
#pragma unroll
  for (int t = 0; t < kRows; ++t) {
    sums[t] = warp_sum(sums[t]);
    if (lane == 0) parts[warp][t] = sums[t];
  }
  __syncthreads();
  if (warp % warps_per_output != 0 || lane >= rows || n >= outputs) return;
  float sum = 0;
  for (int w = 0; w < warps_per_output; ++w) sum += parts[warp + w][lane];
  out.put(lane, n, sum);
}

template <DType kType, int kRows>
__global__ void __launch_bounds__(kThreads) quantised_vectors(const __grid_constant__ PackedBlocks weight, const __grid_constant__ QuantisedRows x, int64_t outputs, int rows,
                                                              int warps_per_output, const __grid_constant__ LinearOutput out) {
  const int warp = static_cast<int>(threadIdx.x) / kWarp, lane = static_cast<int>(threadIdx.x) % kWarp;
  const int64_t n = int64_t{blockIdx.x} * (kWarps / warps_per_output) + warp / warps_per_output;
  float sums[kRows] = {};
  if (n < outputs) {
    for (int64_t b = warp % warps_per_output * kWarp + lane; b < x.blocks; b += warps_per_output * kWarp) {
      const BlockIntegers q = packed_integers<kType>(weight, n * x.blocks + b);
      const BlockScales scales = packed_scales<kType>(weight, n * x.blocks + b);
#pragma unroll
      for (int t = 0; t < kRows; ++t) sums[t] += block_product<kType>(q, scales, x, min(t, rows - 1), b);
    }
  }
  put_sums(sums, warps_per_output, n, outputs, rows, out);
}

// x: f32 [rows, ld], weights [outputs, ld] of T.
template <class T, int kRows>
__global__ void __launch_bounds__(kThreads) plain_vectors(const T* weight, const float* x, int64_t ld, int64_t outputs, int rows, int warps_per_output,
                                                          const __grid_constant__ LinearOutput out) {
  constexpr int V = kVectorOf<T>;
  const int warp = static_cast<int>(threadIdx.x) / kWarp, lane = static_cast<int>(threadIdx.x) % kWarp;
  const int64_t n = int64_t{blockIdx.x} * (kWarps / warps_per_output) + warp / warps_per_output;
  float sums[kRows] = {};
  if (n < outputs) {
#pragma unroll 4
    for (int64_t i = (warp % warps_per_output * kWarp + lane) * V; i < ld; i += warps_per_output * kWarp * V) {
      float w[V];
      load<V>(weight + n * ld + i, w);
#pragma unroll
      for (int t = 0; t < kRows; ++t) {
        const float* row = x + min(t, rows - 1) * ld + i;
#pragma unroll
        for (int j = 0; j < V; j += 4) {
          float part[4];
          load<4>(row + j, part);
          for (int l = 0; l < 4; ++l) sums[t] = fmaf(part[l], w[j + l], sums[t]);
        }
      }
    }
  }
  put_sums(sums, warps_per_output, n, outputs, rows, out);
}

// How many warps share an output, so that there are enough of them and each has something to do.
int warps_per_output(Context& ctx, int64_t outputs, int64_t lanes) {
  int warps = 1;
  while (warps < kWarps && outputs * warps < kWarpsPerProcessor * stream_of(ctx).multiprocessors() && warps * kWarp < lanes) warps *= 2;
  return warps;
}

// Calls body(std::integral_constant<int, the number of rows that a kernel is compiled for>).
template <class Body>
void with_rows(int64_t rows, Body&& body) {
  if (rows == 1) return body(std::integral_constant<int, 1>());
  if (rows == 2) return body(std::integral_constant<int, 2>());
  if (rows <= 4) return body(std::integral_constant<int, 4>());
  body(std::integral_constant<int, kFewRows>());
}

void run_quantised(Context& ctx, const QuantisedRows& x, int64_t rows, const WeightSegment& segment, const LinearOutput& out) {
  const int warps = warps_per_output(ctx, segment.rows, x.blocks);
  const PackedBlocks weight = packed_blocks(segment.type, segment.rows, segment.k, segment.storage->data());
  with_quantised(segment.type, [&](auto type) {
    with_rows(rows, [&](auto count) {
      launch(ctx, "linear", quantised_vectors<decltype(type)::kDType, decltype(count)::value>, blocks_for(segment.rows, kWarps / warps), kThreads, 0, weight, x,
             segment.rows, static_cast<int>(rows), warps, out);
    });
  });
}

void run_plain(Context& ctx, const float* x, int64_t rows, const WeightSegment& segment, const LinearOutput& out) {
  const int64_t ld = padded_inputs(segment.k);
  with_type(segment.type, [&](auto element) {
    using T = decltype(element);
    const int warps = warps_per_output(ctx, segment.rows, ld / kVectorOf<T>);
    with_rows(rows, [&](auto count) {
      launch(ctx, "linear", plain_vectors<T, decltype(count)::value>, blocks_for(segment.rows, kWarps / warps), kThreads, 0,
             reinterpret_cast<const T*>(segment.storage->data()), x, ld, segment.rows, static_cast<int>(rows), warps, out);
    });
  });
}

QuantisedRows quantise(Context& ctx, const LinearArgs& args) {
  QuantisedRows x;
  x.blocks = args.weight->k / kBlock;
  x.quants = ctx.scratch<uint4>(args.rows * 4 * x.blocks).data();
  x.scales = ctx.scratch<float4>(args.rows * x.blocks).data();
  launch(ctx, "linear", quantise_rows, blocks_for(args.rows * x.blocks, kWarps), kThreads, 0, args.x, args.ldx, args.rows, x);
  return x;
}

template <class T>
T* round(Context& ctx, const LinearArgs& args, bool to_bf16) {
  const int64_t ld = padded_inputs(args.weight->k);
  T* out = ctx.scratch<T>(args.rows * ld).data();
  launch(ctx, "linear", round_rows<T>, blocks_for(args.rows * ld, kThreads), kThreads, 0, args.x, args.ldx, args.rows, args.weight->k, to_bf16, out, ld);
  return out;
}

void run_few(Context& ctx, const LinearArgs& args, const WeightSegment& segment, const LinearOutput& out) {
  const ScratchScope scope(ctx);
  if (is_quantised(segment.type)) return run_quantised(ctx, quantise(ctx, args), args.rows, segment, out);
  run_plain(ctx, round<float>(ctx, args, segment.type == DType::kBF16), args.rows, segment, out);
}

void run_many(Context& ctx, const LinearArgs& args, const WeightSegment& segment, const LinearOutput& out) {
  const ScratchScope scope(ctx);
  if (is_quantised(segment.type) || segment.type == DType::kBF16) return linear_tiles(ctx, round<__nv_bfloat16>(ctx, args, false), args.rows, segment, out);
  const int64_t bytes = traits(segment.type).bytes;
  MatmulArgs product;
  product.x = args.x;
  product.ldx = args.ldx;
  product.rows = args.rows;
  product.b = {segment.storage->data(), segment.type, segment.rows, segment.k, padded_inputs(segment.k) * bytes, bytes};
  product.bias = out.bias;
  product.y = out.y;
  product.ldy = out.ld;
  product.accumulate = out.accumulate;
  matmul(ctx, product);
}

}  // namespace

void linear(Context& ctx, const LinearArgs& args) {
  if (args.rows == 0 || args.weight->rows == 0) return;
  int64_t column = 0;
  for (const WeightSegment& segment : args.weight->segments) {
    const LinearOutput out = {args.y + column, args.ldy, args.bias ? args.bias + column : nullptr, args.accumulate};
    args.rows <= kFewRows ? run_few(ctx, args, segment, out) : run_many(ctx, args, segment, out);
    column += segment.rows;
  }
}

}  // namespace wick::cuda
