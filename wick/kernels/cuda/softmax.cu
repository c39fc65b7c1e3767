#include "wick/kernels/cuda/row_reader.cuh"
#include "wick/kernels/softmax.h"

namespace wick::cuda {
namespace {

constexpr unsigned kColumnThreads = 128;

// e^x of an output of type T.
template <class T>
__device__ float exp_of(float x) {
  if constexpr (sizeof(T) == 2) return fast_exp(x);
  return expf(x);
}

template <class T, int V, class Shape>
__global__ void __launch_bounds__(Shape::kBlock) softmax_rows(const __grid_constant__ SoftmaxArgs args) {
  begin_kernel();
  const int64_t row = own_row<Shape>();
  if (row >= args.x.count) return;
  RowReader<T, V, Shape> x(row_of<T>(args.x, row), args.x.size);
  T* y = row_of<T>(args.y, row);
  float peak = -INFINITY;
  x.each([&](int64_t, const float(&v)[V]) {
    for (int i = 0; i < V; ++i) peak = fmaxf(peak, v[i]);
  });
  peak = row_max<Shape::kThreads>(peak);
  typename Shape::Sum sum = 0;
  if (args.log) {
    x.each([&](int64_t, const float(&v)[V]) {
      for (int i = 0; i < V; ++i) sum += exp_of<T>(v[i] - peak);
    });
    const float log_total = logf(static_cast<float>(row_sum<Shape::kThreads>(sum)));
    x.each([&](int64_t at, const float(&v)[V]) {
      float out[V];
      for (int i = 0; i < V; ++i) out[i] = v[i] - peak - log_total;
      store<V>(out, y + at);
    });
    return;
  }
  const auto weight = [&](float v) { return exp_of<T>(v - peak); };
  x.replace(weight, [&](float e) { sum += e; });
  const float inverse = 1 / static_cast<float>(row_sum<Shape::kThreads>(sum));
  x.each_replaced(weight, [&](int64_t at, const float(&e)[V]) {
    float out[V];
    for (int i = 0; i < V; ++i) out[i] = e[i] * inverse;
    store<V>(out, y + at);
  });
}

// Rows whose elements are not neighbours, but whose first elements often are: a thread for each.
template <class T>
__global__ void __launch_bounds__(kColumnThreads) softmax_columns(const __grid_constant__ SoftmaxArgs args) {
  begin_kernel();
  const int64_t row = int64_t{blockIdx.x} * kColumnThreads + threadIdx.x;
  if (row >= args.x.count) return;
  const T* x = row_of<T>(args.x, row);
  T* y = row_of<T>(args.y, row);
  const auto at = [&](int64_t i) { return to_float(x[i * args.x.step]); };
  float peak = -INFINITY;
  for (int64_t i = 0; i < args.x.size; ++i) peak = fmaxf(peak, at(i));
  double sum = 0;
  for (int64_t i = 0; i < args.x.size; ++i) sum += expf(at(i) - peak);
  const float inverse = static_cast<float>(1 / sum), log_total = logf(static_cast<float>(sum));
  for (int64_t i = 0; i < args.x.size; ++i) {
    const float offset = at(i) - peak;
    y[i * args.y.step] = from_float<T>(args.log ? offset - log_total : expf(offset) * inverse);
  }
}

template <class T, int V>
void run_rows(Context& ctx, const SoftmaxArgs& args) {
  with_row_shape(many_rows(ctx, args.x.count), (args.x.size + V - 1) / V, [&](auto shape) {
    using Shape = decltype(shape);
    launch(ctx, "softmax", softmax_rows<T, V, Shape>, blocks_for(args.x.count, Shape::kRowsPerBlock), Shape::kBlock, 0, args);
  });
}

}  // namespace

void softmax(Context& ctx, const SoftmaxArgs& args) {
  with_type(args.x.type, [&](auto element) {
    using T = decltype(element);
    if (args.x.step != 1 || args.y.step != 1) {
      launch(ctx, "softmax", softmax_columns<T>, blocks_for(args.x.count, kColumnThreads), kColumnThreads, 0, args);
    } else if (in_vectors({&args.x, &args.y})) {
      run_rows<T, kVectorOf<T>>(ctx, args);
    } else {
      run_rows<T, 1>(ctx, args);
    }
  });
}

}  // namespace wick::cuda
