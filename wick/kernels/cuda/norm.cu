#include "wick/kernels/cuda/row_reader.cuh"
#include "wick/kernels/norm.h"

namespace wick::cuda {
namespace {

// V weights from index i on, f32 or of the type of x.
template <int V, class T>
__device__ void load_weight(const std::byte* weight, DType type, int64_t i, float (&w)[V]) {
  if (type == DType::kF32) {
    load<V>(reinterpret_cast<const float*>(weight) + i, w);
  } else {
    load<V>(reinterpret_cast<const T*>(weight) + i, w);
  }
}

template <class T, int V, class Shape>
__global__ void __launch_bounds__(Shape::kBlock) rms_norm_rows(const __grid_constant__ RmsNormArgs args) {
  begin_kernel();
  const int64_t row = own_row<Shape>();
  if (row >= args.x.count) return;
  const T* source = row_of<T>(args.x, row);
  if (args.residual.data) {
    T* residual = row_of<T>(args.residual, row);
    const RowReader<T, V, Shape> added(source, args.x.size);
    added.each([&](int64_t at, const float(&v)[V]) {
      float r[V];
      load<V>(residual + at, r);
      for (int i = 0; i < V; ++i) r[i] += v[i];
      store<V>(r, residual + at);
    });
    source = residual;  // each thread reads what it has written itself
  }
  const RowReader<T, V, Shape> x(source, args.x.size);
  typename Shape::Sum sum = 0;
  x.each([&](int64_t, const float(&v)[V]) {
    for (int i = 0; i < V; ++i) sum += v[i] * v[i];
  });
  const float mean = static_cast<float>(row_sum<Shape::kThreads>(sum)) / static_cast<float>(args.x.size);
  const float scale = 1 / sqrtf(mean + static_cast<float>(args.eps));
  T* y = row_of<T>(args.y, row);
  x.each([&](int64_t at, const float(&v)[V]) {
    float out[V];
    load_weight<V, T>(args.weight, args.weight_type, at, out);
    for (int i = 0; i < V; ++i) out[i] *= v[i] * scale;
    store<V>(out, y + at);
  });
}

template <class T, int V, class Shape>
__global__ void __launch_bounds__(Shape::kBlock) layer_norm_rows(const __grid_constant__ LayerNormArgs args) {
  begin_kernel();
  const int64_t row = own_row<Shape>();
  if (row >= args.x.count) return;
  using Sum = typename Shape::Sum;
  const RowReader<T, V, Shape> x(row_of<T>(args.x, row), args.x.size);
  const Sum size = static_cast<Sum>(args.x.size);
  Sum sum = 0;
  x.each([&](int64_t, const float(&v)[V]) {
    for (int i = 0; i < V; ++i) sum += v[i];
  });
  const float mean = static_cast<float>(row_sum<Shape::kThreads>(sum) / size);
  // What rounding left of the mean is so little that its square may be taken off the squares' mean: nothing cancels.
  Sum rests = 0, squares = 0;
  x.each([&](int64_t, const float(&v)[V]) {
    for (int i = 0; i < V; ++i) {
      const float centred = v[i] - mean;
      rests += centred;
      squares += centred * centred;
    }
  });
  const float rest = static_cast<float>(row_sum<Shape::kThreads>(rests) / size);
  const float variance = static_cast<float>(row_sum<Shape::kThreads>(squares) / size) - rest * rest;
  const float scale = 1 / sqrtf((variance < 0 ? 0 : variance) + static_cast<float>(args.eps));
  T* y = row_of<T>(args.y, row);
  x.each([&](int64_t at, const float(&v)[V]) {
    float w[V], b[V] = {};
    load_weight<V, T>(args.weight, args.weight_type, at, w);
    if (args.bias) load_weight<V, T>(args.bias, args.weight_type, at, b);
    for (int i = 0; i < V; ++i) w[i] = (v[i] - mean - rest) * scale * w[i] + b[i];
    store<V>(w, y + at);
  });
}

// Weights are read as many at a time as elements of x.
bool weights_in_vectors(const std::byte* weight) { return weight == nullptr || aligned(weight); }

template <class Args>
using RowsKernel = void (*)(Args);

template <class T, int V, class Shape>
constexpr RowsKernel<const RmsNormArgs> kernel_of(const RmsNormArgs&) {
  return rms_norm_rows<T, V, Shape>;
}
template <class T, int V, class Shape>
constexpr RowsKernel<const LayerNormArgs> kernel_of(const LayerNormArgs&) {
  return layer_norm_rows<T, V, Shape>;
}

template <class T, int V, class Args>
void run_rows(Context& ctx, const char* op, const Args& args) {
  const int64_t vectors = (args.x.size + V - 1) / V;
  const auto with = [&](auto shape) {
    using Shape = decltype(shape);
    launch(ctx, op, kernel_of<T, V, Shape>(args), blocks_for(args.x.count, Shape::kRowsPerBlock), Shape::kBlock, 0, args);
  };
  std::is_same_v<Args, LayerNormArgs> ? with_wide_row_shape(args.x.count, vectors, with) : with_row_shape(args.x.count, vectors, with);
}

template <class Args>
void run(Context& ctx, const char* op, const Args& args, bool vectors) {
  with_type(args.x.type, [&](auto element) {
    using T = decltype(element);
    if (vectors && in_vectors({&args.x, &args.y})) {
      run_rows<T, kVectorOf<T>>(ctx, op, args);
    } else {
      run_rows<T, 1>(ctx, op, args);
    }
  });
}

}  // namespace

void rms_norm(Context& ctx, const RmsNormArgs& args) {
  run(ctx, "rms_norm", args, weights_in_vectors(args.weight) && (!args.residual.data || in_vectors(args.residual)));
}

void layer_norm(Context& ctx, const LayerNormArgs& args) {
  run(ctx, "layer_norm", args, weights_in_vectors(args.weight) && weights_in_vectors(args.bias));
}

}  // namespace wick::cuda
