#include <algorithm>

#include "wick/base/checked.h"
#include "wick/kernels/cuda/row_reader.cuh"
#include "wick/kernels/cuda/tensor_core.cuh"
#include "wick/kernels/norm.h"

namespace wick::cuda {
namespace {

// Rows on their way to shared memory. Each thread copies what it will read itself, so none waits for others.
template <class T, int V, class Shape>
struct RowQueue {
  Pack<T, V> elements[Shape::kQueue][Shape::kVectors][Shape::kBlock];
  Pack<T, 4 / sizeof(T)> first[Shape::kQueue][Shape::kBlock];  // of a row

  __device__ void ask(const RowsView& rows, int64_t row, int place) {
    if (row < rows.count) {
      const int thread = static_cast<int>(threadIdx.x);
      const T* const source = row_of<T>(rows, row);
#pragma unroll
      for (int j = 0; j < Shape::kVectors; ++j) {
        const int at = Shape::template place<V>(j);
        if (at < static_cast<int>(rows.size)) copy16(&elements[place][j][thread], reinterpret_cast<const Pack<T, V>*>(source + at), true);
      }
      copy_word(&first[place][thread], source, true);
    }
    end_stage();
  }
};

// Calls body(row, its elements, the first of them, 0 and 1 by turns) for the rows of this thread's block, the next ones already on their
// way: to the shape's queue, or one to registers where a thread has few elements of each.
template <class T, int V, class Shape, class Body>
__device__ void for_rows(const RowsView& rows, Body&& body) {
  using Reader = RowReader<T, V, Shape, T>;
  constexpr int kQueue = Shape::kQueue;
  const int64_t apart = int64_t{gridDim.x} * Shape::kRowsPerBlock;
  int64_t row = own_row<Shape>();
  int turn = 0;
  if constexpr (kQueue > 0) {
    __shared__ RowQueue<T, V, Shape> queue;
    for (int i = 0; i < kQueue - 1; ++i) queue.ask(rows, row + i * apart, i);
    int place = 0;
#pragma unroll 1
    for (; row < rows.count; row += apart, turn ^= 1) {
      wait_stages<kQueue - 2>();
      queue.ask(rows, row + (kQueue - 1) * apart, (place + kQueue - 1) % kQueue);
      body(row, Reader(queue.elements[place], rows.size), to_float(queue.first[place][threadIdx.x].at[0]), turn);
      place = (place + 1) % kQueue;
    }
  } else {
    if (row >= rows.count) return;
    struct Loaded {
      Reader x;
      T first;
    };
    const auto load = [&](int64_t of) {
      const T* const source = row_of<T>(rows, of);
      return Loaded{{source, rows.size}, source[0]};
    };
    Loaded now = load(row);
#pragma unroll 1
    for (int64_t next; (next = row + apart) < rows.count; row = next, turn ^= 1) {
      if constexpr (Shape::kFew) {
        const Loaded coming = load(next);
        body(row, now.x, to_float(now.first), turn);
        now = coming;
      } else {
        body(row, now.x, to_float(now.first), turn);
        now = load(next);
      }
    }
    body(row, now.x, to_float(now.first), turn);
  }
}

template <class T, int V, class Shape>
__device__ void rms_norm_row(const RmsNormArgs& args, int64_t row, const RowReader<T, V, Shape, T>& x,
                             const WeightReader<T, V, Shape>& weight, int turn) {
  typename Shape::Sum sum = 0;
  x.each([&](int64_t, const float(&v)[V]) {
    for (int i = 0; i < V; ++i) sum += v[i] * v[i];
  });
  const float mean = static_cast<float>(row_sum<Shape::kThreads>(sum, turn)) / static_cast<float>(args.x.size);
  const float scale = 1 / sqrtf(mean + static_cast<float>(args.eps));
  T* y = row_of<T>(args.y, row);
  x.each_numbered([&](int number, int64_t at, const float(&v)[V]) {
    float out[V];
    weight.get(number, at, out);
    for (int i = 0; i < V; ++i) out[i] *= v[i] * scale;
    store<V>(out, y + at);
  });
}

template <class T, int V, class Shape>
__global__ void __launch_bounds__(Shape::kBlock) rms_norm_rows(const __grid_constant__ RmsNormArgs args) {
  begin_kernel();
  const WeightReader<T, V, Shape> weight(args.weight, args.weight_type, args.x.size);
  for_rows<T, V, Shape>(
      args.x, [&](int64_t row, const RowReader<T, V, Shape, T>& x, float, int turn) { rms_norm_row(args, row, x, weight, turn); });
}

template <class T, int V, class Shape>
__global__ void __launch_bounds__(Shape::kBlock) add_rms_norm_rows(const __grid_constant__ RmsNormArgs args) {
  begin_kernel();
  const int64_t row = own_row<Shape>();
  if (row >= args.x.count) return;
  T* residual = row_of<T>(args.residual, row);
  const RowReader<T, V, Shape, T, sizeof(T) == 2> added(row_of<T>(args.x, row), args.x.size);
  added.each([&](int64_t at, const float(&v)[V]) {
    float r[V];
    load<V>(residual + at, r);
    for (int i = 0; i < V; ++i) r[i] += v[i];
    store<V>(r, residual + at);
  });
  // Each thread reads what it has written itself.
  rms_norm_row(args, row, RowReader<T, V, Shape, T>(residual, args.x.size),
               WeightReader<T, V, Shape>(args.weight, args.weight_type, args.x.size), 0);
}

template <class Sum>
struct SumAndSquares {
  Sum sum, squares;
};
template <class Sum>
__device__ SumAndSquares<Sum> operator+(const SumAndSquares<Sum>& a, const SumAndSquares<Sum>& b) {
  return {a.sum + b.sum, a.squares + b.squares};
}
template <class Sum>
__device__ SumAndSquares<Sum> __shfl_xor_sync(unsigned lanes, const SumAndSquares<Sum>& x, int step) {
  return {::__shfl_xor_sync(lanes, x.sum, step), ::__shfl_xor_sync(lanes, x.squares, step)};
}

// The mean comes in two parts: what the first leaves of it is so little that its square may be taken off the mean of squares, and nothing
// cancels. Halves take one of the row's elements for the first part, and one pass less: of n elements that cannot lose more than n units in
// the last place of f32. Elements less the first part stay in registers where there is room.
template <class T, int V, class Shape>
__device__ void layer_norm_row(const LayerNormArgs& args, int64_t row, const RowReader<T, V, Shape, T>& x, float some_element,
                               typename Shape::Sum inverse_size, const WeightReader<T, V, Shape>& weight,
                               const WeightReader<T, V, Shape>& bias, int turn) {
  using Sum = typename Shape::Sum;
  float mean = some_element;
  if constexpr (sizeof(T) > 2 || Shape::kVectors == 0) {
    Sum sum = 0;
    x.each([&](int64_t, const float(&v)[V]) {
      for (int i = 0; i < V; ++i) sum += v[i];
    });
    mean = static_cast<float>(row_sum<Shape::kThreads>(sum, turn) * inverse_size);
  }
  constexpr bool kKeep = sizeof(T) == 2 && Shape::kFew;
  float kept[kKeep ? Shape::kVectors : 1][V];
  SumAndSquares<Sum> own = {0, 0};
  x.each_numbered([&](int number, int64_t, const float(&v)[V]) {
    for (int i = 0; i < V; ++i) {
      const float centred = v[i] - mean;
      own.sum += centred;
      own.squares = fma(static_cast<Sum>(centred), static_cast<Sum>(centred), own.squares);
      if constexpr (kKeep) kept[number][i] = centred;
    }
  });
  const auto all = row_sum<Shape::kThreads>(own, turn);
  const float rest = static_cast<float>(all.sum * inverse_size), variance = static_cast<float>(all.squares * inverse_size) - rest * rest;
  const float scale = rsqrtf((variance < 0 ? 0 : variance) + static_cast<float>(args.eps)), shift = -rest * scale;
  T* y = row_of<T>(args.y, row);
  x.each_numbered([&](int number, int64_t at, const float(&v)[V]) {
    float w[V], b[V];
    weight.get(number, at, w);
    bias.get(number, at, b);
    for (int i = 0; i < V; ++i) {
      const float centred = kKeep ? kept[kKeep ? number : 0][i] : v[i] - mean;
      w[i] = fmaf(fmaf(centred, scale, shift), w[i], b[i]);
    }
    store<V>(w, y + at);
  });
}

template <class T, int V, class Shape>
__global__ void __launch_bounds__(Shape::kBlock, sizeof(T) == 2 || Shape::kThreads == kWarp ? 1 : 768 / Shape::kBlock)
    layer_norm_rows(const __grid_constant__ LayerNormArgs args) {
  begin_kernel();
  const WeightReader<T, V, Shape> weight(args.weight, args.weight_type, args.x.size), bias(args.bias, args.weight_type, args.x.size);
  const auto inverse_size = 1 / static_cast<typename Shape::Sum>(args.x.size);
  for_rows<T, V, Shape>(args.x, [&](int64_t row, const RowReader<T, V, Shape, T>& x, float first, int turn) {
    layer_norm_row(args, row, x, first, inverse_size, weight, bias, turn);
  });
}

// Weights are read as many at a time as elements of x.
bool weights_in_vectors(const std::byte* weight) { return weight == nullptr || aligned(weight); }

template <class Args>
using RowsKernel = void (*)(Args);

template <class T, int V, class Shape>
constexpr RowsKernel<const RmsNormArgs> kernel_of(const RmsNormArgs& args) {
  return args.residual.data ? add_rms_norm_rows<T, V, Shape> : rms_norm_rows<T, V, Shape>;
}
template <class T, int V, class Shape>
constexpr RowsKernel<const LayerNormArgs> kernel_of(const LayerNormArgs&) {
  return layer_norm_rows<T, V, Shape>;
}

// Blocks for all rows, or as many as run at once, each for several rows.
template <class Shape, class Kernel>
unsigned blocks_of(Context& ctx, Kernel kernel, int64_t rows, bool several) {
  const int64_t all = ceil_div<int64_t>(rows, Shape::kRowsPerBlock), multiprocessors = stream_of(ctx).multiprocessors();
  if (!several || all <= multiprocessors) return static_cast<unsigned>(all);
  int together = 1;
  check(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&together, kernel, Shape::kBlock, 0), "norm");
  return static_cast<unsigned>(std::min<int64_t>(all, multiprocessors * std::max(1, together)));
}

// Rows of halves, and those that are worked on in two passes; not with a residual, which is read and written as well.
template <class T>
bool takes_several(const RmsNormArgs& args) {
  return sizeof(T) == 2 && !args.residual.data;
}
template <class T>
bool takes_several(const LayerNormArgs&) {
  return true;
}

template <class T, int V, class Args>
void run_rows(Context& ctx, const char* op, const Args& args) {
  const int64_t vectors = (args.x.size + V - 1) / V;
  const auto with = [&](auto shape) {
    using Shape = decltype(shape);
    const auto kernel = kernel_of<T, V, Shape>(args);
    launch(ctx, op, kernel, blocks_of<Shape>(ctx, kernel, args.x.count, takes_several<T>(args)), Shape::kBlock, 0, args);
  };
  constexpr bool kHalves = sizeof(T) == 2, kMoments = std::is_same_v<Args, LayerNormArgs>;
  constexpr int kQueue = kHalves && kMoments && V > 1 ? 4 : 0;  // registers are short: they hold two vectors of weights
  const bool many = many_rows(ctx, args.x.count);
  if constexpr (kHalves || kMoments) {
    with_wide_row_shape<kQueue>(many, vectors, with);
  } else {
    with_row_shape(many, vectors, with);
  }
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
