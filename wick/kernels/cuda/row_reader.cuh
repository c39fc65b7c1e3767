// A row read once: it stays in the registers of the threads that share it. Rows too long for that are read anew for every pass.
#pragma once

#include "wick/kernels/cuda/device.cuh"

namespace wick::cuda {

// How a row is shared: kThreads of them take V neighbouring elements in turn, kVectors times at most (0: any number, from memory). kQueue:
// how many rows have room in shared memory, on their way there while others are worked on.
template <int kThreadsPerRow, int kVectorsPerThread, int kRowsInQueue = 0>
struct RowShape {
  static constexpr int kQueue = kRowsInQueue;
  static constexpr int kThreads = kThreadsPerRow;
  static constexpr int kVectors = kVectorsPerThread;
  static constexpr int kBlock = kThreads == kWarp ? 128 : kThreads;
  static constexpr int kRowsPerBlock = kBlock / kThreads;
  static constexpr bool kFew = kVectors == 1 || kVectors == 2;   // there is room for more than a row's elements
  using Sum = std::conditional_t<kVectors == 0, double, float>;  // long chains need more

  // Where vector j of this thread's begins.
  template <int V>
  __device__ static int place(int j) {
    return (j * kThreads + static_cast<int>(threadIdx.x) % kThreads) * V;
  }
};

// Kept as T halves take half the room, and are widened anew for each pass. kOnce: nobody reads the row again.
template <class T, int V, class Shape, class Kept = float, bool kOnce = false>
class RowReader {
 public:
  __device__ RowReader(const T* row, int64_t size) : row_(row), size_(size) {
    if constexpr (Shape::kVectors > 0) {
#pragma unroll
      for (int j = 0; j < Shape::kVectors; ++j) {
        if (at(j) >= static_cast<int>(size_)) continue;
        if constexpr (kOnce) {
          x_[j] = load_once<V>(row_ + at(j));
        } else if constexpr (std::is_same_v<T, Kept>) {
          x_[j] = *reinterpret_cast<const Pack<T, V>*>(row_ + at(j));
        } else {
          load<V>(row_ + at(j), x_[j].at);
        }
      }
    }
  }

  // A row whose elements are there for each thread, vector j at shared[j][thread of the block].
  __device__ RowReader(const Pack<T, V> (&shared)[Shape::kVectors > 0 ? Shape::kVectors : 1][Shape::kBlock], int64_t size)
      : row_(nullptr), size_(size) {
    static_assert(std::is_same_v<T, Kept> && Shape::kVectors > 0);
#pragma unroll
    for (int j = 0; j < Shape::kVectors; ++j) x_[j] = shared[j][threadIdx.x];
  }

  // Calls body(index of the first element, V elements) for the thread's share.
  template <class Body>
  __device__ void each(Body&& body) const {
    each_numbered([&](int, int64_t at, const float(&x)[V]) { body(at, x); });
  }
  // The same with the vector's number among the thread's, which is known when the program is compiled; 0 where elements are not kept.
  template <class Body>
  __device__ void each_numbered(Body&& body) const {
    if constexpr (Shape::kVectors > 0) {
#pragma unroll
      for (int j = 0; j < Shape::kVectors; ++j) {
        if (at(j) >= static_cast<int>(size_)) continue;
        float x[V];
#pragma unroll
        for (int i = 0; i < V; ++i) x[i] = to_float(x_[j].at[i]);
        body(j, at(j), x);
      }
    } else {
      for (int64_t i = at(0); i < size_; i += Shape::kThreads * V) {
        float x[V];
        load<V>(row_ + i, x);
        body(0, i, x);
      }
    }
  }

  // Takes what map makes of them in the elements' place, where they are kept, and shows it to visit.
  template <class Map, class Visit>
  __device__ void replace(Map&& map, Visit&& visit) {
    if constexpr (Shape::kVectors > 0) {
#pragma unroll
      for (int j = 0; j < Shape::kVectors; ++j) {
        if (at(j) >= static_cast<int>(size_)) continue;
        for (Kept& x : x_[j].at) visit(x = map(x));
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
  __device__ static int at(int j) { return Shape::template place<V>(j); }

  const T* row_;
  int64_t size_;
  Pack<Kept, V> x_[Shape::kVectors > 0 ? Shape::kVectors : 1];
};

// V weights from index i on, f32 or of the type of x.
template <int V, class T>
__device__ void load_weight(const std::byte* weight, DType type, int64_t i, float (&w)[V]) {
  if (type == DType::kF32) {
    load<V>(reinterpret_cast<const float*>(weight) + i, w);
  } else {
    load<V>(reinterpret_cast<const T*>(weight) + i, w);
  }
}

// The thread's weights. Where few vectors are a thread's they stay in registers for all rows: f32 ones are twice as many bytes as a row of
// halves, and the small first cache does not keep them.
template <class T, int V, class Shape>
class WeightReader {
 public:
  // Without weights they are zeros.
  __device__ WeightReader(const std::byte* weight, DType type, int64_t size) : weight_(weight), type_(type) {
    if constexpr (Shape::kFew) {
#pragma unroll
      for (int j = 0; j < Shape::kVectors; ++j) {
        const int at = Shape::template place<V>(j);
        if (weight && at < static_cast<int>(size)) load_weight<V, T>(weight, type, at, w_[j]);
      }
    }
  }
  __device__ bool any() const { return weight_ != nullptr; }
  // Of the vector of that number, at index `at`.
  __device__ void get(int number, int64_t at, float (&w)[V]) const {
    if constexpr (Shape::kFew) {
      for (int i = 0; i < V; ++i) w[i] = w_[number][i];
    } else if (weight_) {
      load_weight<V, T>(weight_, type_, at, w);
    } else {
      for (float& value : w) value = 0;
    }
  }

 private:
  const std::byte* weight_;
  DType type_;
  float w_[Shape::kFew ? Shape::kVectors : 1][V] = {};
};

// The row of this thread.
template <class Shape>
__device__ int64_t own_row() {
  return int64_t{blockIdx.x} * Shape::kRowsPerBlock + static_cast<int>(threadIdx.x) / Shape::kThreads;
}

// Whether there are so many rows that they fill the device. Few are shared by more threads each: there is room for them, and each has less
// to wait for; unless sums must be the same for any number of rows.
inline bool many_rows(const Context& ctx, int64_t rows) { return ctx.batch_invariant() || rows > 512; }

// Calls body(RowShape) with one that fits rows of `vectors` vectors.
template <class Body>
void with_row_shape(bool many, int64_t vectors, Body&& body) {
  if (vectors <= 64) return body(RowShape<32, 2>());
  if (vectors <= 256 && many) return body(RowShape<32, 8>());
  if (vectors <= 256) return body(RowShape<256, 1>());
  if (vectors <= 1024 && many) return body(RowShape<256, 4>());
  if (vectors <= 1024) return body(RowShape<1024, 1>());
  if (vectors <= 4096) return body(RowShape<1024, 4>());
  body(RowShape<1024, 0>());
}

// Calls body(RowShape) with one that fits rows whose weights stay in registers or that are worked on in several passes: a warp would need
// so many for a row that too few find room. kQueue: of many such rows.
template <int kQueue, class Body>
void with_wide_row_shape(bool many, int64_t vectors, Body&& body) {
  if (vectors > 64 && vectors <= 256 && many) return body(RowShape<128, 2, kQueue>());
  if (vectors > 256 && vectors <= 512 && many) return body(RowShape<256, 2, kQueue>());
  with_row_shape(many, vectors, body);
}

}  // namespace wick::cuda
