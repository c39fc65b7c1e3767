#include "wick/kernels/convert.h"
#include "wick/kernels/cuda/device.cuh"

namespace wick::cuda {
namespace {

constexpr unsigned kThreads = 256;

// Calls body(from, to) with what lies V elements at a time in two views of the same rows; steps other than 1 only with V = 1.
template <class From, class To, int V, class Body>
__device__ void each_place(const RowsView& from, const RowsView& to, Body&& body) {
  const int64_t per_row = (from.size + V - 1) / V;
  const int64_t item = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (item >= per_row * from.count) return;
  const int64_t row = from.count == 1 ? 0 : item / per_row;
  const int64_t at = (item - row * per_row) * V;
  body(row_of<From>(from, row) + at * from.step, row_of<To>(to, row) + at * to.step);
}

template <class From, class To, int V>
__global__ void __launch_bounds__(kThreads) convert_kernel(const __grid_constant__ RowsView from, const __grid_constant__ RowsView to) {
  begin_kernel();
  each_place<From, To, V>(from, to, [](const From* source, To* target) {
    float x[V];
    load<V>(source, x);
    store<V>(x, target);
  });
}

template <class T, int V>
__global__ void __launch_bounds__(kThreads) copy_kernel(const __grid_constant__ RowsView from, const __grid_constant__ RowsView to) {
  begin_kernel();
  each_place<T, T, V>(
      from, to, [](const T* source, T* target) { *reinterpret_cast<Pack<T, V>*>(target) = *reinterpret_cast<const Pack<T, V>*>(source); });
}

template <int V>
unsigned blocks_of(const RowsView& rows) {
  return blocks_for((rows.size + V - 1) / V * rows.count, kThreads);
}

template <class T>
void copy_as(Context& ctx, const RowsView& from, const RowsView& to) {
  if (in_vectors({&from, &to})) {
    launch(ctx, "copy", copy_kernel<T, kVectorOf<T>>, blocks_of<kVectorOf<T>>(from), kThreads, 0, from, to);
  } else {
    launch(ctx, "copy", copy_kernel<T, 1>, blocks_of<1>(from), kThreads, 0, from, to);
  }
}

}  // namespace

void convert(Context& ctx, const RowsView& from, const RowsView& to) {
  with_type(from.type, [&](auto source) {
    with_type(to.type, [&](auto target) {
      using From = decltype(source);
      using To = decltype(target);
      constexpr int V = sizeof(From) > sizeof(To) ? kVectorOf<From> : kVectorOf<To>;
      if (from.count * from.size == 0) return;
      if (in_vectors({&from, &to})) {  // the wider type's vectors are whole, and so are the other's halves
        launch(ctx, "convert", convert_kernel<From, To, V>, blocks_of<V>(from), kThreads, 0, from, to);
      } else {
        launch(ctx, "convert", convert_kernel<From, To, 1>, blocks_of<1>(from), kThreads, 0, from, to);
      }
    });
  });
}

void copy(Context& ctx, const RowsView& from, const RowsView& to) {
  switch (traits(from.type).bytes) {
    case 1: return copy_as<uint8_t>(ctx, from, to);
    case 2: return copy_as<uint16_t>(ctx, from, to);
    case 4: return copy_as<uint32_t>(ctx, from, to);
    default: return copy_as<uint64_t>(ctx, from, to);
  }
}

}  // namespace wick::cuda
