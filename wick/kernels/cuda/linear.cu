// Products with packed weights. For few rows a matrix times vectors, bound by the weights' bytes: a warp, or several, to an output, every
// lane reading 16 bytes of quants at a time.
#include "wick/kernels/cuda/linear_parts.cuh"
#include "wick/kernels/cuda/packed_blocks.cuh"
#include "wick/kernels/linear.h"

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
__global__ void __launch_bounds__(kThreads)
    quantise_rows(const float* x, int64_t ldx, int64_t rows, const __grid_constant__ QuantisedRows out) {
  begin_kernel();
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

// Rows of f32, rounded to T and filled up with zeros.
template <class T>
__global__ void __launch_bounds__(kThreads) round_rows(const float* x, int64_t ldx, int64_t rows, int64_t k, T* out, int64_t ld) {
  begin_kernel();
  const int64_t item = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (item >= rows * ld) return;
  const int64_t row = item / ld, i = item - row * ld;
  out[item] = from_float<T>(i < k ? x[row * ldx + i] : 0);
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

// Neighbouring segments of one type, which a launch does together: blockIdx.y says which.
struct Segment {
  PackedBlocks blocks;    // of block formats
  const std::byte* data;  // of plain types
  int64_t outputs;
  LinearOutput out;
};
constexpr int kMostSegments = 4;
struct Segments {
  DType type;
  int count;
  int64_t outputs;  // of the largest
  Segment at[kMostSegments];
};

// Weights are there before x is: what a thread reads first may be on its way already.
constexpr int kAhead = 2;
__device__ void prefetch(const void* p) { asm volatile("prefetch.global.L2 [%0];" ::"l"(p)); }

template <DType kType, int kRows>
__global__ void __launch_bounds__(kThreads)
    quantised_vectors(const __grid_constant__ Segments segments, const __grid_constant__ QuantisedRows x, int rows, int warps_per_output) {
  let_next_begin();
  const Segment& segment = segments.at[blockIdx.y];
  const PackedBlocks& weight = segment.blocks;
  const int64_t outputs = segment.outputs;
  const int warp = static_cast<int>(threadIdx.x) / kWarp, lane = static_cast<int>(threadIdx.x) % kWarp;
  const int64_t n = int64_t{blockIdx.x} * (kWarps / warps_per_output) + warp / warps_per_output;
  float sums[kRows] = {};
  if (n < outputs) {
    constexpr int64_t kBytes = format_traits(kType).high_bits == 4 ? 32 : 16;
    for (int i = 0; i < kAhead; ++i) {
      const int64_t b = min(int64_t{(warp % warps_per_output + i * warps_per_output) * kWarp + lane}, x.blocks - 1);
      prefetch(weight.quants + (n * x.blocks + b) * kBytes);
    }
  }
  wait_for_input();
  if (n < outputs) {
    for (int64_t b = warp % warps_per_output * kWarp + lane; b < x.blocks; b += warps_per_output * kWarp) {
      const BlockIntegers q = packed_integers<kType>(weight, n * x.blocks + b);
      const BlockScales scales = packed_scales<kType>(weight, n * x.blocks + b);
#pragma unroll
      for (int t = 0; t < kRows; ++t) sums[t] += block_product<kType>(q, scales, x, min(t, rows - 1), b);
    }
  }
  put_sums(sums, warps_per_output, n, outputs, rows, segment.out);
}

// x: f32, weights [outputs, ld] of T.
template <class T, int kRows>
__global__ void __launch_bounds__(kThreads)
    plain_vectors(const __grid_constant__ Segments segments, const float* x, int64_t ldx, int64_t ld, int rows, int warps_per_output) {
  let_next_begin();
  const Segment& segment = segments.at[blockIdx.y];
  const T* weight = reinterpret_cast<const T*>(segment.data);
  const int64_t outputs = segment.outputs;
  constexpr int V = kVectorOf<T>;
  const int warp = static_cast<int>(threadIdx.x) / kWarp, lane = static_cast<int>(threadIdx.x) % kWarp;
  const int64_t n = int64_t{blockIdx.x} * (kWarps / warps_per_output) + warp / warps_per_output;
  const int64_t first = (warp % warps_per_output * kWarp + lane) * V, step = warps_per_output * kWarp * V;
  float sums[kRows] = {};
  if (n < outputs) {
    for (int i = 0; i < kAhead; ++i) prefetch(weight + n * ld + min(first + i * step, ld - V));
  }
  wait_for_input();
  if (n < outputs) {
#pragma unroll 4
    for (int64_t i = first; i < ld; i += step) {
      float w[V];
      load<V>(weight + n * ld + i, w);
#pragma unroll
      for (int t = 0; t < kRows; ++t) {
        const float* row = x + min(t, rows - 1) * ldx + i;
#pragma unroll
        for (int j = 0; j < V; j += 4) {
          float part[4];
          load<4>(row + j, part);
          for (float& value : part) value = rounded_input<T>(value);
          for (int l = 0; l < 4; ++l) sums[t] = fmaf(part[l], w[j + l], sums[t]);
        }
      }
    }
  }
  put_sums(sums, warps_per_output, n, outputs, rows, segment.out);
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

dim3 grid_of(const Segments& segments, int warps_per_output) {
  return dim3(blocks_for(segments.outputs, kWarps / warps_per_output), static_cast<unsigned>(segments.count));
}

struct PlainRows {
  const float* data;
  int64_t ld;
};

void run_quantised(Context& ctx, const QuantisedRows& x, int64_t rows, const Segments& segments) {
  const int warps = warps_per_output(ctx, segments.outputs * segments.count, x.blocks);
  with_quantised(segments.type, [&](auto type) {
    with_rows(rows, [&](auto count) {
      launch(ctx, "linear", quantised_vectors<decltype(type)::kDType, decltype(count)::value>, grid_of(segments, warps), kThreads, 0,
             segments, x, static_cast<int>(rows), warps);
    });
  });
}

void run_plain(Context& ctx, const PlainRows& x, int64_t rows, int64_t k, const Segments& segments) {
  const int64_t ld = padded_inputs(k);
  with_type(segments.type, [&](auto element) {
    using T = decltype(element);
    const int warps = warps_per_output(ctx, segments.outputs * segments.count, ld / kVectorOf<T>);
    with_rows(rows, [&](auto count) {
      launch(ctx, "linear", plain_vectors<T, decltype(count)::value>, grid_of(segments, warps), kThreads, 0, segments, x.data, x.ld, ld,
             static_cast<int>(rows), warps);
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
T* round(Context& ctx, const LinearArgs& args) {
  const int64_t ld = padded_inputs(args.weight->k);
  T* out = ctx.scratch<T>(args.rows * ld).data();
  launch(ctx, "linear", round_rows<T>, blocks_for(args.rows * ld, kThreads), kThreads, 0, args.x, args.ldx, args.rows, args.weight->k, out,
         ld);
  return out;
}

// x as the weights' types ask, each form made when it is first needed.
class Inputs {
 public:
  Inputs(Context& ctx, const LinearArgs& args) : ctx_(ctx), args_(args) {}
  const QuantisedRows& quantised() {
    if (!quantised_.quants) quantised_ = quantise(ctx_, args_);
    return quantised_;
  }
  // Where it is when it can be read in vectors up to the end of a row of weights, else a copy filled up with zeros.
  PlainRows plain() {
    if (args_.weight->k % kPlainPadding == 0 && args_.ldx % 4 == 0 && aligned(args_.x)) return {args_.x, args_.ldx};
    if (!padded_) padded_ = round<float>(ctx_, args_);
    return {padded_, padded_inputs(args_.weight->k)};
  }
  const __nv_bfloat16* bf16() {
    if (!bf16_) bf16_ = round<__nv_bfloat16>(ctx_, args_);
    return bf16_;
  }

 private:
  Context& ctx_;
  const LinearArgs& args_;
  QuantisedRows quantised_ = {};
  float* padded_ = nullptr;
  __nv_bfloat16* bf16_ = nullptr;
};

void run_few(Context& ctx, const LinearArgs& args, Inputs& inputs, const Segments& segments) {
  if (is_quantised(segments.type)) return run_quantised(ctx, inputs.quantised(), args.rows, segments);
  run_plain(ctx, inputs.plain(), args.rows, args.weight->k, segments);
}

void run_many(Context& ctx, const LinearArgs& args, Inputs& inputs, const WeightSegment& segment, const LinearOutput& out) {
  if (is_quantised(segment.type) || segment.type == DType::kBF16) return linear_tiles(ctx, inputs.bf16(), args.rows, segment, out);
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
  const ScratchScope scope(ctx);
  Inputs inputs(ctx, args);
  Segments together = {};
  int64_t column = 0;
  for (const WeightSegment& segment : args.weight->segments) {
    const LinearOutput out = {args.y + column, args.ldy, args.bias ? args.bias + column : nullptr, args.accumulate};
    column += segment.rows;
    if (args.rows > kFewRows) {
      run_many(ctx, args, inputs, segment, out);
      continue;
    }
    if (together.count == kMostSegments || (together.count > 0 && together.type != segment.type)) {
      run_few(ctx, args, inputs, together);
      together = {};
    }
    Segment& added = together.at[together.count++];
    added.data = segment.storage->data();
    added.outputs = segment.rows;
    added.out = out;
    if (is_quantised(segment.type)) added.blocks = packed_blocks(segment.type, segment.rows, segment.k, segment.storage->data());
    together.type = segment.type;
    together.outputs = std::max(together.outputs, segment.rows);
  }
  if (together.count > 0) run_few(ctx, args, inputs, together);
}

}  // namespace wick::cuda
