#include "wick/kernels/activation.h"
#include "wick/kernels/cuda/device.cuh"

namespace wick::cuda {
namespace {

constexpr unsigned kThreads = 256;

template <Activation kFunction>
__device__ float apply(float x) {
  if constexpr (kFunction == Activation::kSilu) return silu(x);
  if constexpr (kFunction == Activation::kSigmoid) return 1 / (1 + expf(-x));
  if constexpr (kFunction == Activation::kGelu) return 0.5f * x * erfcf(-0.70710678118654752f * x);
  if constexpr (kFunction == Activation::kGeluTanh) return x / (1 + expf(-1.5957691216057308f * (x + 0.044715f * x * x * x)));
}

// A thread works on V neighbouring elements of a row.
template <class T, int V, Activation kFunction>
__global__ void __launch_bounds__(kThreads) activation_kernel(const __grid_constant__ ActivationArgs args) {
  begin_kernel();
  const int64_t per_row = (args.y.size + V - 1) / V;
  const int64_t item = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (item >= per_row * args.y.count) return;
  const int64_t row = args.y.count == 1 ? 0 : item / per_row;
  const int64_t at = (item - row * per_row) * V;
  float x[V];
  load<V>(row_of<T>(args.gate, row) + at, x);
  for (int i = 0; i < V; ++i) x[i] = apply<kFunction>(x[i]);
  if (args.up.data) {
    float up[V];
    load<V>(row_of<T>(args.up, row) + at, up);
    for (int i = 0; i < V; ++i) x[i] *= up[i];
  }
  store<V>(x, row_of<T>(args.y, row) + at);
}

template <class T, int V>
void run(Context& ctx, const ActivationArgs& args) {
  const unsigned blocks = blocks_for((args.y.size + V - 1) / V * args.y.count, kThreads);
  const auto with = [&](void (*kernel)(const ActivationArgs)) { launch(ctx, "activation", kernel, blocks, kThreads, 0, args); };
  switch (args.function) {
    case Activation::kSilu: return with(activation_kernel<T, V, Activation::kSilu>);
    case Activation::kGelu: return with(activation_kernel<T, V, Activation::kGelu>);
    case Activation::kGeluTanh: return with(activation_kernel<T, V, Activation::kGeluTanh>);
    case Activation::kSigmoid: return with(activation_kernel<T, V, Activation::kSigmoid>);
  }
}

}  // namespace

void activation(Context& ctx, const ActivationArgs& args) {
  with_type(args.y.type, [&](auto element) {
    using T = decltype(element);
    if (in_vectors({&args.gate, &args.y}) && (!args.up.data || in_vectors(args.up))) {
      run<T, kVectorOf<T>>(ctx, args);
    } else {
      run<T, 1>(ctx, args);
    }
  });
}

}  // namespace wick::cuda
