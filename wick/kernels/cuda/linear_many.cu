// Many rows times a packed weight: x is rounded to bf16 first, normalised on the way where that is wanted, and all segments' products with
// it run on the tensor cores.
#include <algorithm>

#include "wick/kernels/cuda/linear_parts.cuh"
#include "wick/kernels/cuda/row_reader.cuh"

namespace wick::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kVector = 4;

struct RoundArgs {
  const float* x;
  int64_t rows, k, ldx;
  const float* norm;  // or none
  float eps;
  __nv_bfloat16* out;
  int64_t ld;  // behind k zeros
};

template <int V, class Shape>
__global__ void __launch_bounds__(Shape::kBlock) round_rows(const __grid_constant__ RoundArgs args) {
  begin_kernel();
  const int64_t row = own_row<Shape>();
  if (row >= args.rows) return;
  const WeightReader<float, V, Shape> norm(reinterpret_cast<const std::byte*>(args.norm), DType::kF32, args.k);
  const RowReader<float, V, Shape> x(args.x + row * args.ldx, args.k);
  float scale = 1;
  if (norm.any()) {
    typename Shape::Sum sum = 0;
    x.each([&](int64_t, const float(&v)[V]) {
      for (int i = 0; i < V; ++i) sum += v[i] * v[i];
    });
    scale = 1 / sqrtf(static_cast<float>(row_sum<Shape::kThreads>(sum)) / static_cast<float>(args.k) + args.eps);
  }
  __nv_bfloat16* const out = args.out + row * args.ld;
  x.each_numbered([&](int number, int64_t at, const float(&v)[V]) {
    float y[V];
    if (norm.any()) norm.get(number, at, y);
    for (int i = 0; i < V; ++i) y[i] = norm.any() ? y[i] * (v[i] * scale) : v[i];
    store<V>(y, out + at);
  });
  for (int64_t i = args.k + static_cast<int>(threadIdx.x) % Shape::kThreads; i < args.ld; i += Shape::kThreads)
    out[i] = from_float<__nv_bfloat16>(0);
}

template <int V>
void round_all(Context& ctx, const RoundArgs& args) {
  with_row_shape(many_rows(ctx, args.rows), (args.k + V - 1) / V, [&](auto shape) {
    using Shape = decltype(shape);
    launch(ctx, "linear", round_rows<V, Shape>, blocks_for(args.rows, Shape::kRowsPerBlock), Shape::kBlock, 0, args);
  });
}

// Shares of a product that is added up into `out`, whose rows are then normalised as the next product wants them.
struct SumArgs {
  BatchShares product;
  int64_t rows, outputs;
  LinearOutput out;
  const float* norm;
  float eps;
  __nv_bfloat16* normed;
};

template <class Shape>
__global__ void __launch_bounds__(Shape::kBlock) sum_and_norm_rows(const __grid_constant__ SumArgs args) {
  begin_kernel();
  constexpr int V = kVector;
  const int64_t row = own_row<Shape>();
  if (row >= args.rows) return;
  float* const y = args.out.y + row * args.out.ld;
  float sums[Shape::kVectors][V], squares = 0;
#pragma unroll
  for (int j = 0; j < Shape::kVectors; ++j) {
    const int64_t at = Shape::template place<V>(j);
    if (at >= args.outputs) continue;
    float(&sum)[V] = sums[j];
    for (float& value : sum) value = 0;
#pragma unroll 4
    for (int s = 0; s < args.product.count; ++s) {
      float own[V];
      load<V>(args.product.partial + (s * args.rows + row) * args.outputs + at, own);
      for (int i = 0; i < V; ++i) sum[i] += own[i];
    }
    float old[V] = {};
    if (args.out.accumulate) load<V>(y + at, old);
    for (int i = 0; i < V; ++i) {
      sum[i] = old[i] + args.out.with_bias(at + i, sum[i]);
      squares += sum[i] * sum[i];
    }
    store<V>(sum, y + at);
  }
  const float scale = 1 / sqrtf(row_sum<Shape::kThreads>(squares) / static_cast<float>(args.outputs) + args.eps);
#pragma unroll
  for (int j = 0; j < Shape::kVectors; ++j) {
    const int64_t at = Shape::template place<V>(j);
    if (at >= args.outputs) continue;
    float w[V];
    load<V>(args.norm + at, w);
    for (int i = 0; i < V; ++i) w[i] *= sums[j][i] * scale;
    store<V>(w, args.normed + row * args.outputs + at);
  }
}

// False for rows that are too long, or not in vectors.
bool sum_and_norm(Context& ctx, const SumArgs& args) {
  constexpr int64_t kMostVectors = 4096;
  const int64_t vectors = args.outputs / kVector;
  if (args.outputs % kVector != 0 || args.out.ld % kVector != 0 || !aligned(args.out.y) || !aligned(args.norm) || vectors > kMostVectors)
    return false;
  with_row_shape(many_rows(ctx, args.rows), vectors, [&](auto shape) {
    using Shape = decltype(shape);
    if constexpr (Shape::kVectors > 0) {
      launch(ctx, "linear", sum_and_norm_rows<Shape>, blocks_for(args.rows, Shape::kRowsPerBlock), Shape::kBlock, 0, args);
    }
  });
  return true;
}

// A product's gates, then as many ups, perhaps as shares to be added up.
struct GateAndUp {
  BatchShares product;
  int64_t rows, half;
  const float* bias;  // or none
};

// y[t, i] = silu(gate) * up.
template <class T, int V>
__global__ void __launch_bounds__(kThreads)
    swiglu_rows(const __grid_constant__ GateAndUp args, unsigned blocks_per_row, T* y, int64_t ldy) {
  begin_kernel();
  const int64_t row = blockIdx.x / blocks_per_row, at = (int64_t{blockIdx.x % blocks_per_row} * kThreads + threadIdx.x) * V;
  if (at >= args.half) return;
  float gate[V] = {}, up[V] = {};
#pragma unroll 2
  for (int s = 0; s < args.product.count; ++s) {
    const float* const gates = args.product.partial + (s * args.rows + row) * 2 * args.half + at;
    float own[V];
    load<V>(gates, own);
    for (int i = 0; i < V; ++i) gate[i] += own[i];
    load<V>(gates + args.half, own);
    for (int i = 0; i < V; ++i) up[i] += own[i];
  }
  for (int i = 0; i < V; ++i) {
    if (args.bias) gate[i] += args.bias[at + i];
    if (args.bias) up[i] += args.bias[args.half + at + i];
    gate[i] = silu(gate[i]) * up[i];
  }
  store<V>(gate, y + row * ldy + at);
}

template <class T>
void swiglu(Context& ctx, const GateAndUp& args, T* y, int64_t ldy) {
  const bool vectors = args.half % kVector == 0 && ldy % kVector == 0 && aligned(y);
  const unsigned per_row = blocks_for(args.half, int64_t{kThreads} * (vectors ? kVector : 1));
  launch(ctx, "linear", vectors ? swiglu_rows<T, kVector> : swiglu_rows<T, 1>, static_cast<unsigned>(args.rows) * per_row, kThreads, 0,
         args, per_row, y, ldy);
}

// The first segments that are of one type.
std::span<const WeightSegment> neighbours(std::span<const WeightSegment> segments) {
  size_t count = 1;
  while (count < segments.size() && count < kMostSegments && segments[count].type == segments[0].type) ++count;
  return segments.first(count);
}

bool of_one_type(std::span<const WeightSegment> segments) { return neighbours(segments).size() == segments.size(); }

// Whether so few rows are faster without cuBLASLt, for which blocks have to be unpacked first, or it may not be asked.
bool suits_batch(const Context& ctx, DType type, int64_t rows) {
  return ctx.batch_invariant() || (is_quantised(type) && rows <= kBatchRows);
}

// All of the product, or swiglu of it, in one kernel; false where there is none.
bool multiply_at_once(Context& ctx, const RoundedInput& x, const PackedWeight& weight, const LinearOutput& out, bool swiglu) {
  return of_one_type(weight.segments) && linear_clusters(ctx, x, weight.segments, out, swiglu);
}

// The product of neighbours with x, where it belongs.
void multiply(Context& ctx, const RoundedInput& x, std::span<const WeightSegment> segments, LinearOutput out) {
  const ScratchScope scope(ctx);
  if (!suits_batch(ctx, segments[0].type, x.rows) && linear_blas(ctx, x, segments, out)) return;
  if (BatchShares shares; linear_batch(ctx, x, segments, out, shares)) {
    if (shares.count > 0) merge_products(ctx, shares, x.rows, outputs_of(segments), out);
    return;
  }
  for (const WeightSegment& segment : segments) {
    linear_tiles(ctx, x, segment, out);
    out = out.behind(segment.rows);
  }
}

void multiply_all(Context& ctx, const RoundedInput& x, const PackedWeight& weight, LinearOutput out) {
  for (std::span<const WeightSegment> rest = weight.segments; !rest.empty();) {
    const std::span<const WeightSegment> group = neighbours(rest);
    multiply(ctx, x, group, out);
    out = out.behind(outputs_of(group));
    rest = rest.subspan(group.size());
  }
}

// The product as shares to be added up, for whoever does more with it; none where it is better done at once.
BatchShares shares_of(Context& ctx, const RoundedInput& x, const PackedWeight& weight) {
  BatchShares shares;
  if (!of_one_type(weight.segments)) return shares;
  if (!suits_batch(ctx, weight.segments[0].type, x.rows)) return blas_shares(ctx, x, weight.segments);
  if (x.rows <= kBatchRows) linear_batch(ctx, x, weight.segments, {}, shares);
  return shares;
}

// Rows of f32 as bf16 rows of padded_inputs(k), normalised where there is a norm.
void round(Context& ctx, const float* x, int64_t ldx, int64_t rows, int64_t k, const float* norm, double eps, __nv_bfloat16* out) {
  const RoundArgs args = {x, rows, k, ldx, norm, static_cast<float>(eps), out, padded_inputs(k)};
  const bool vectors = k % kVector == 0 && ldx % kVector == 0 && aligned(x) && (!norm || aligned(norm));
  vectors ? round_all<kVector>(ctx, args) : round_all<1>(ctx, args);
}

// The product, and the norm of what it leaves in y where that is wanted.
void multiply_and_norm(Context& ctx, const RoundedInput& x, const LinearArgs& args, const LinearOutput& out) {
  auto* const normed = reinterpret_cast<__nv_bfloat16*>(args.normed_bf16);
  const bool done = multiply_at_once(ctx, x, *args.weight, out, false);
  const BatchShares shares = normed && !done ? shares_of(ctx, x, *args.weight) : BatchShares();
  if (shares.count > 0) {
    if (sum_and_norm(ctx, {shares, args.rows, args.weight->rows, out, args.next_norm, static_cast<float>(args.eps), normed})) return;
    merge_products(ctx, shares, args.rows, args.weight->rows, out);
  } else if (!done) {
    multiply_all(ctx, x, *args.weight, out);
  }
  if (normed) round(ctx, args.y, args.ldy, args.rows, args.weight->rows, args.next_norm, args.eps, normed);
}

}  // namespace

const __nv_bfloat16* rounded_rows(Context& ctx, const LinearArgs& args) {
  if (args.x_bf16) return reinterpret_cast<const __nv_bfloat16*>(args.x_bf16);
  const int64_t k = args.weight->k;
  __nv_bfloat16* const out = ctx.scratch<__nv_bfloat16>(args.rows * padded_inputs(k)).data();
  round(ctx, args.x, args.ldx, args.rows, k, args.norm, args.eps, out);
  return out;
}

bool rounds_to_bf16(const Context& ctx, const PackedWeight& weight, int64_t rows) {
  return !few_rows(ctx, rows) && weight.k % kPlainPadding == 0 &&
         std::all_of(weight.segments.begin(), weight.segments.end(),
                     [](const WeightSegment& segment) { return segment.type == DType::kBF16 || is_quantised(segment.type); });
}

void linear_many(Context& ctx, const LinearArgs& args) {
  const ScratchScope scope(ctx);
  const RoundedInput x = {rounded_rows(ctx, args), args.x_bf16 ? args.ldx : padded_inputs(args.weight->k), args.rows};
  auto* const y_bf16 = reinterpret_cast<__nv_bfloat16*>(args.y_bf16);
  if (!args.swiglu) return multiply_and_norm(ctx, x, args, {args.y, args.ldy, args.bias, args.accumulate, y_bf16});
  const int64_t outputs = args.weight->rows;
  if (multiply_at_once(ctx, x, *args.weight, {args.y, args.ldy, args.bias, false, y_bf16}, true)) return;
  BatchShares product = shares_of(ctx, x, *args.weight);
  if (product.count == 0) {
    float* const whole = ctx.scratch<float>(args.rows * outputs).data();
    multiply_all(ctx, x, *args.weight, {whole, outputs, nullptr, false});
    product = {whole, 1};
  }
  const GateAndUp gates = {product, args.rows, outputs / 2, args.bias};
  y_bf16 ? swiglu(ctx, gates, y_bf16, args.ldy) : swiglu(ctx, gates, args.y, args.ldy);
}

}  // namespace wick::cuda
