#include "wick/kernels/activation.h"

#include <algorithm>

#include "wick/kernels/cuda/device.cuh"

namespace wick::cuda {
namespace {

constexpr unsigned kMostThreads = 256;

// The part of the normal distribution beyond |x|, to 4e-5 of it up to 13: e^(-x^2 / 2) times a polynomial in 1 / (1 + 0.38 |x|), fitted
// for the least relative error.
__device__ inline float normal_tail(float x) {
  const float t = fast_reciprocal(fmaf(0.38183766184f, fabsf(x), 1));
  float sum = fmaf(-0.08940087475f, t, 0.18426360463f);
  sum = fmaf(sum, t, 0.09526583188f);
  sum = fmaf(sum, t, 0.15783095083f);
  sum = fmaf(sum, t, 0.15202101908f);
  return sum * t * fast_exp2(-0.72134752044f * x * x);
}

// The same to a few units in the last place of f32, fitted up to 13.3, where it is as small as f32 goes. The exponent is kept in two parts:
// what rounding it once leaves would cost as much as the rest.
__device__ inline float precise_normal_tail(float x) {
  constexpr float kMost = 14, kRate = -0.72134752044f;  // -log2(e) / 2
  const float size = fminf(fabsf(x), kMost);
  const float t = fast_reciprocal(fmaf(0.3f, size, 1));
  float sum = fmaf(0.036036465875f, t, -0.158714206176f);
  sum = fmaf(sum, t, 0.208965483133f);
  sum = fmaf(sum, t, -0.056096594646f);
  sum = fmaf(sum, t, 0.129843744645f);
  sum = fmaf(sum, t, 0.099522977273f);
  sum = fmaf(sum, t, 0.120816904210f);
  sum = fmaf(sum, t, 0.119625164862f);
  const float square = size * size, exponent = kRate * square;
  const float rest = fmaf(kRate, fmaf(size, size, -square), fmaf(kRate, square, -exponent));
  const float power = fast_exp2(exponent);
  return sum * t * fmaf(power, 0.69314718056f * rest, power);
}

// 1 / (1 + e^-x)
template <class T>
__device__ float sigmoid(float x) {
  if constexpr (sizeof(T) == 2) return fast_reciprocal(1 + fast_exp(-x));
  return 1 / (1 + expf(-x));
}

// In f32 to a few units in the last place, for the halves to a small part of theirs.
template <Activation kFunction, class T>
__device__ float apply(float x) {
  constexpr bool kHalf = sizeof(T) == 2;
  if constexpr (kFunction == Activation::kSilu) return kHalf ? x * sigmoid<T>(x) : silu(x);
  if constexpr (kFunction == Activation::kSigmoid) return sigmoid<T>(x);
  if constexpr (kFunction == Activation::kGelu) {
    const float tail = kHalf ? normal_tail(x) : precise_normal_tail(x);
    return x * (x < 0 ? tail : 1 - tail);
  }
  if constexpr (kFunction == Activation::kGeluTanh) {
    if constexpr (!kHalf) return x / (1 + expf(-1.5957691216057308f * (x + 0.044715f * x * x * x)));
    return x * sigmoid<T>(x * fmaf(0.07135481282f, x * x, 1.59576912161f));
  }
}

// Where a row begins. Rows of more than one even step cost a call, and the registers that it keeps.
template <bool kEven, class T>
__device__ T* row_at(const RowsView& rows, int64_t row) {
  if constexpr (kEven) return reinterpret_cast<T*>(rows.data) + row * rows.strides[0];
  return row_of<T>(rows, row);
}

// A thread works on V neighbouring elements of a row, a block within one row.
template <class T, int V, bool kEven, bool kGated, Activation kFunction>
__global__ void __launch_bounds__(kMostThreads) activation_kernel(const __grid_constant__ ActivationArgs args, uint32_t blocks_per_row,
                                                                  int64_t blocks) {
  begin_kernel();
  for (int64_t block = blockIdx.x; block < blocks; block += gridDim.x) {
    const int64_t row = blocks <= UINT32_MAX ? static_cast<uint32_t>(block) / blocks_per_row : block / blocks_per_row;
    const int64_t at = ((block - row * blocks_per_row) * blockDim.x + threadIdx.x) * V;
    if (at >= args.y.size) continue;
    float x[V];
    load<V>(row_at<kEven, T>(args.gate, row) + at, x);
    float up[V];
    if constexpr (kGated) load<V>(row_at<kEven, T>(args.up, row) + at, up);
#pragma unroll
    for (int i = 0; i < V; ++i) {
      x[i] = apply<kFunction, T>(x[i]);
      if constexpr (kGated) x[i] *= up[i];
    }
    store_whole<V>(x, row_at<kEven, T>(args.y, row) + at);
  }
}

template <class T, int V, bool kEven, bool kGated>
void run(Context& ctx, const ActivationArgs& args) {
  const int64_t per_row = (args.y.size + V - 1) / V;
  const unsigned threads = static_cast<unsigned>(std::min<int64_t>((per_row + kWarp - 1) / kWarp * kWarp, kMostThreads));
  const int64_t blocks_per_row = (per_row + threads - 1) / threads, blocks = blocks_per_row * args.y.count;
  const unsigned grid = static_cast<unsigned>(std::min<int64_t>(blocks, INT32_MAX));
  const auto with = [&](void (*kernel)(const ActivationArgs, uint32_t, int64_t)) {
    launch(ctx, "activation", kernel, grid, threads, 0, args, static_cast<uint32_t>(blocks_per_row), blocks);
  };
  switch (args.function) {
    case Activation::kSilu: return with(activation_kernel<T, V, kEven, kGated, Activation::kSilu>);
    case Activation::kGelu: return with(activation_kernel<T, V, kEven, kGated, Activation::kGelu>);
    case Activation::kGeluTanh: return with(activation_kernel<T, V, kEven, kGated, Activation::kGeluTanh>);
    case Activation::kSigmoid: return with(activation_kernel<T, V, kEven, kGated, Activation::kSigmoid>);
  }
}

template <class T, int V, bool kEven>
void run(Context& ctx, const ActivationArgs& args) {
  args.up.data ? run<T, V, kEven, true>(ctx, args) : run<T, V, kEven, false>(ctx, args);
}

// Rows with nothing between them are one.
bool without_gaps(const RowsView& rows) { return rows.step == 1 && (rows.count == 1 || (rows.leading == 1 && rows.strides[0] == rows.size)); }
void join(RowsView& rows) {
  rows.size *= rows.count;
  rows.count = 1;
}

}  // namespace

void activation(Context& ctx, const ActivationArgs& given) {
  ActivationArgs args = given;
  if (args.y.count * args.y.size == 0) return;
  const auto all = [&](auto&& holds) { return holds(args.gate) && holds(args.y) && (!args.up.data || holds(args.up)); };
  if (all(without_gaps)) {
    for (RowsView* rows : {&args.gate, &args.up, &args.y}) join(*rows);
  }
  const bool vectors = all([](const RowsView& rows) { return rows.leading <= 1 && in_vectors(rows); });
  with_type(args.y.type, [&](auto element) {
    using T = decltype(element);
    vectors ? run<T, kVectorOf<T>, true>(ctx, args) : run<T, 1, false>(ctx, args);
  });
}

}  // namespace wick::cuda
