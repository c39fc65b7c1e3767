// A row read once: it stays in the registers of the threads that share it. Rows too long for that are read anew for every pass.
#pragma once

#include "wick/kernels/cuda/device.cuh"

namespace wick::cuda {

// How a row is shared: kThreads of them take V neighbouring elements in turn, kVectors times at most (0: any number, from memory).
template <int kThreadsPerRow, int kVectorsPerThread>
struct RowShape {
  static constexpr int kThreads = kThreadsPerRow;
  static constexpr int kVectors = kVectorsPerThread;
  static constexpr int kBlock = kThreads == kWarp ? 128 : kThreads;
  static constexpr int kRowsPerBlock = kBlock / kThreads;
  using Sum = std::conditional_t<kVectors == 0, double, float>;  // long chains need more
};

template <class T, int V, class Shape>
class RowReader {
 public:
  __device__ RowReader(const T* row, int64_t size) : row_(row), size_(size), lane_(static_cast<int>(threadIdx.x) % Shape::kThreads) {
    if constexpr (Shape::kVectors > 0) {
#pragma unroll
      for (int j = 0; j < Shape::kVectors; ++j) {
        if (at(j) < size_) load<V>(row_ + at(j), x_[j]);
      }
    }
  }

  // Calls body(index of the first element, V elements) for the thread's share.
  template <class Body>
  __device__ void each(Body&& body) const {
    if constexpr (Shape::kVectors > 0) {
#pragma unroll
      for (int j = 0; j < Shape::kVectors; ++j) {
        if (at(j) < size_) body(at(j), x_[j]);
      }
    } else {
      for (int64_t i = int64_t{lane_} * V; i < size_; i += Shape::kThreads * V) {
        float x[V];
        load<V>(row_ + i, x);
        body(i, x);
      }
    }
  }

  // Takes what map makes of them in the elements' place, where they are kept, and shows it to visit.
  template <class Map, class Visit>
  __device__ void replace(Map&& map, Visit&& visit) {
    if constexpr (Shape::kVectors > 0) {
#pragma unroll
      for (int j = 0; j < Shape::kVectors; ++j) {
        if (at(j) >= size_) continue;
        for (float& x : x_[j]) visit(x = map(x));
      }
    } else {
      each([&](int64_t, const float(&x)[V]) {
        for (const float value : x) visit(map(value));
      });
    }
  }
  // As each(), of what replace() has made; made again where elements are not kept.
  template <class Map, class Body>
  __device__ void each_replaced(Map&& map, Body&& body) const {
    each([&](int64_t i, const float(&x)[V]) {
      if constexpr (Shape::kVectors > 0) {
        body(i, x);
      } else {
        float made[V];
        for (int j = 0; j < V; ++j) made[j] = map(x[j]);
        body(i, made);
      }
    });
  }

 private:
  __device__ int64_t at(int j) const { return int64_t{j * Shape::kThreads + lane_} * V; }

  const T* row_;
  int64_t size_;
  int lane_;
  float x_[Shape::kVectors > 0 ? Shape::kVectors : 1][V];
};

// The row of this thread.
template <class Shape>
__device__ int64_t own_row() {
  return int64_t{blockIdx.x} * Shape::kRowsPerBlock + static_cast<int>(threadIdx.x) / Shape::kThreads;
}

// Calls body(RowShape) with one that fits rows of `vectors` vectors. Few rows are shared by more threads: there is room for them, and each
// has less to wait for.
template <class Body>
void with_row_shape(int64_t rows, int64_t vectors, Body&& body) {
  constexpr int64_t kFewRows = 512;
  if (vectors <= 64) return body(RowShape<32, 2>());
  if (vectors <= 256 && rows > kFewRows) return body(RowShape<32, 8>());
  if (vectors <= 256) return body(RowShape<256, 1>());
  if (vectors <= 1024 && rows > kFewRows) return body(RowShape<256, 4>());
  if (vectors <= 1024) return body(RowShape<1024, 1>());
  if (vectors <= 4096) return body(RowShape<1024, 4>());
  body(RowShape<1024, 0>());
}

// Calls body(RowShape) with one that fits rows that are worked on in several passes: a warp would need so many registers for a row that too few
// find room (layer_norm of 2048 halves: 13.7 µs, a warp each).
template <class Body>
void with_wide_row_shape(int64_t rows, int64_t vectors, Body&& body) {
  constexpr int64_t kFewRows = 512;
  if (vectors > 64 && vectors <= 256 && rows > kFewRows) return body(RowShape<128, 2>());
  with_row_shape(rows, vectors, body);
}

}  // namespace wick::cuda
