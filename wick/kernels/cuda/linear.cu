// Products with packed weights: which kernels do them, and one for few rows with weights of f32 and f16, a warp, or several, to an output.
#include <algorithm>

#include "wick/kernels/cuda/linear_parts.cuh"
#include "wick/kernels/linear_in_parts.h"

namespace wick::cuda {
namespace {

constexpr int kWarps = 8;
constexpr int kThreads = kWarps * kWarp;
constexpr int64_t kWarpsPerProcessor = 16;  // that hide the memory's latency

// Rows of f32, filled up with zeros.
__global__ void __launch_bounds__(kThreads) pad_rows(const float* x, int64_t ldx, int64_t rows, int64_t k, float* out, int64_t ld) {
  begin_kernel();
  const int64_t item = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (item >= rows * ld) return;
  const int64_t row = item / ld, i = item - row * ld;
  out[item] = i < k ? x[row * ldx + i] : 0;
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

// Weights are there before x is: what a thread reads first may be on its way already.
constexpr int kAhead = 2;

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

const float* padded(Context& ctx, const LinearArgs& args) {
  const int64_t ld = padded_inputs(args.weight->k);
  float* out = ctx.scratch<float>(args.rows * ld).data();
  launch(ctx, "linear", pad_rows, blocks_for(args.rows * ld, kThreads), kThreads, 0, args.x, args.ldx, args.rows, args.weight->k, out, ld);
  return out;
}

// Whether x can be read in vectors up to the end of a row of weights.
bool in_place(const LinearArgs& args) { return args.weight->k % kPlainPadding == 0 && args.ldx % 4 == 0 && aligned(args.x); }

// x as the weights' types ask, each form made when it is first needed.
class Inputs {
 public:
  Inputs(Context& ctx, const LinearArgs& args) : ctx_(ctx), args_(args) {}
  // Where it is, or a copy filled up with zeros.
  PlainRows plain() {
    if (in_place(args_)) return {args_.x, args_.ldx};
    if (!padded_) padded_ = padded(ctx_, args_);
    return {padded_, padded_inputs(args_.weight->k)};
  }
  RoundedInput rounded() {
    if (!rounded_) rounded_ = rounded_rows(ctx_, args_);
    return {rounded_, padded_inputs(args_.weight->k), args_.rows};
  }

 private:
  Context& ctx_;
  const LinearArgs& args_;
  const float* padded_ = nullptr;
  const __nv_bfloat16* rounded_ = nullptr;
};

void run_few(Context& ctx, const LinearArgs& args, Inputs& inputs, const Segments& segments) {
  if (segments.type == DType::kBF16 || is_quantised(segments.type)) {
    const PlainRows x = inputs.plain();
    const LinearInput input = {
        x.data, x.ld, static_cast<int>(args.rows), padded_inputs(args.weight->k), args.norm, static_cast<float>(args.eps)};
    return linear_stream(ctx, input, segments, args.swiglu);
  }
  run_plain(ctx, inputs.plain(), args.rows, args.weight->k, segments);
}

void run_many(Context& ctx, const LinearArgs& args, Inputs& inputs, const WeightSegment& segment, const LinearOutput& out) {
  if (is_quantised(segment.type) || segment.type == DType::kBF16) return linear_tiles(ctx, inputs.rounded(), segment, out);
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

// Whether the kernels below do norm and swiglu, too.
bool fuses(Context& ctx, const LinearArgs& args) {
  const auto& segments = args.weight->segments;
  if (!few_rows(ctx, args.rows) || (args.norm && !(in_place(args) && aligned(args.norm)))) return false;
  if (args.swiglu && (segments.size() != 2 || segments[0].type != segments[1].type || segments[0].rows != segments[1].rows)) return false;
  return std::all_of(segments.begin(), segments.end(),
                     [&](const WeightSegment& segment) { return can_stream(ctx, segment.type, segment.k); });
}

}  // namespace

void linear(Context& ctx, const LinearArgs& args) {
  if (args.rows == 0 || args.weight->rows == 0) return;
  if (rounds_to_bf16(ctx, *args.weight, args.rows)) return linear_many(ctx, args);
  if ((args.norm || args.swiglu) && !fuses(ctx, args)) return linear_in_parts<rms_norm, linear, activation>(ctx, args);
  const ScratchScope scope(ctx);
  Inputs inputs(ctx, args);
  Segments together = {};
  LinearOutput next = {args.y, args.ldy, args.bias, args.accumulate};
  for (const WeightSegment& segment : args.weight->segments) {
    const LinearOutput out = next;
    next = next.behind(segment.rows);
    const bool plain = segment.type == DType::kF32 || segment.type == DType::kF16;
    if (!few_rows(ctx, args.rows) || !(plain || can_stream(ctx, segment.type, segment.k))) {
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
