// Products of f32 rows with a matrix of any plain type and strides, on the ordinary cores: tiles of 64 x 64 outputs, 16 of each thread.
#include "wick/kernels/cuda/blas.h"
#include "wick/kernels/cuda/linear_parts.cuh"
#include "wick/kernels/cuda/pack.cuh"
#include "wick/kernels/linear.h"

namespace wick::cuda {
namespace {

constexpr int kTile = 64;
constexpr int kDepth = 16;
constexpr int kThreads = 256;
constexpr int kOwn = 4;  // outputs of a thread in each direction

struct Product {
  const float* x;
  int64_t ldx, rows, k, outputs;
  const std::byte* b;
  int64_t row_stride, column_stride;  // bytes
  LinearOutput out;
};

// kAlongK: neighbours in memory are neighbours in k, else in n; threads load them side by side.
template <class T, bool kAlongK>
__global__ void __launch_bounds__(kThreads) matmul_tiles(const __grid_constant__ Product args) {
  begin_kernel();
  __shared__ float xs[kDepth][kTile + 1];
  __shared__ float ws[kDepth][kTile + 1];
  const int64_t first_n = int64_t{blockIdx.x} * kTile, first_t = int64_t{blockIdx.y} * kTile;
  const int thread = static_cast<int>(threadIdx.x), own_n = thread % 16, own_t = thread / 16;
  float sums[kOwn][kOwn] = {};
  for (int64_t begin = 0; begin < args.k; begin += kDepth) {
    for (int i = thread; i < kTile * kDepth; i += kThreads) {
      const int k = i % kDepth, t = i / kDepth;
      xs[k][t] = first_t + t < args.rows && begin + k < args.k ? rounded_input<T>(args.x[(first_t + t) * args.ldx + begin + k]) : 0;
      const int wk = kAlongK ? i % kDepth : i / kTile, n = kAlongK ? i / kDepth : i % kTile;
      const bool inside = first_n + n < args.outputs && begin + wk < args.k;
      ws[wk][n] =
          inside ? to_float(*reinterpret_cast<const T*>(args.b + (first_n + n) * args.row_stride + (begin + wk) * args.column_stride)) : 0;
    }
    __syncthreads();
#pragma unroll
    for (int k = 0; k < kDepth; ++k) {
      float x[kOwn], w[kOwn];
      for (int i = 0; i < kOwn; ++i) {
        x[i] = xs[k][own_t + 16 * i];
        w[i] = ws[k][own_n + 16 * i];
      }
      for (int i = 0; i < kOwn; ++i) {
        for (int j = 0; j < kOwn; ++j) sums[i][j] = fmaf(x[i], w[j], sums[i][j]);
      }
    }
    __syncthreads();
  }
  for (int i = 0; i < kOwn; ++i) {
    for (int j = 0; j < kOwn; ++j) {
      const int64_t t = first_t + own_t + 16 * i, n = first_n + own_n + 16 * j;
      if (t < args.rows && n < args.outputs) args.out.put(t, n, sums[i][j]);
    }
  }
}

void run(Context& ctx, const Product& product, DType type) {
  // y of a launch is limited: many rows go one after the other.
  constexpr int64_t kMostRows = int64_t{65535} * kTile;
  for (int64_t first = 0; first < product.rows; first += kMostRows) {
    Product part = product;
    part.rows = std::min(kMostRows, product.rows - first);
    part.x += first * product.ldx;
    part.out.y += first * product.out.ld;
    const dim3 grid(blocks_for(part.outputs, kTile), blocks_for(part.rows, kTile));
    with_type(type, [&](auto element) {
      using T = decltype(element);
      const auto kernel = part.column_stride == static_cast<int64_t>(sizeof(T)) ? matmul_tiles<T, true> : matmul_tiles<T, false>;
      launch(ctx, "matmul", kernel, grid, kThreads, 0, part);
    });
  }
}

}  // namespace

void matmul(Context& ctx, const MatmulArgs& args) {
  if (args.rows == 0 || args.b.rows == 0) return;
  const ScratchScope scope(ctx);
  Product product = {args.x,
                     args.ldx,
                     args.rows,
                     args.b.k,
                     args.b.rows,
                     args.b.data,
                     args.b.row_stride,
                     args.b.column_stride,
                     {args.y, args.ldy, args.bias, args.accumulate}};
  DType type = args.b.type;
  if (is_quantised(type)) {  // stored rows, contiguous
    float* expanded = ctx.scratch<float>(args.b.rows * args.b.k).data();
    for (int64_t row = 0; row < args.b.rows;) {
      const int64_t row_bytes = static_cast<int64_t>(dtype_bytes(type, static_cast<uint64_t>(args.b.k)));
      const int64_t count = args.b.row_stride == row_bytes ? args.b.rows : 1;
      expand_rows(ctx, args.b.data + row * args.b.row_stride, type, count, args.b.k, expanded + row * args.b.k, args.b.k);
      row += count;
    }
    product.b = reinterpret_cast<const std::byte*>(expanded);
    product.row_stride = args.b.k * static_cast<int64_t>(sizeof(float));
    product.column_stride = sizeof(float);
    type = DType::kF32;
  }
  run(ctx, product, type);
}

bool matmul_batch(Context& ctx, const MatmulBatch& args) {
  const bool rows_of_n = args.b.column_stride == 1, rows_of_k = args.b.row_stride == 1;
  if (args.a.column_stride != 1 || args.y.column_stride != 1 || !(rows_of_n || rows_of_k)) return false;
  BlasProduct product;
  product.type = product.y_type = args.type;
  product.x = args.a.data;
  product.rows = args.rows;
  product.ldx = args.a.row_stride;
  product.weight = args.b.data;
  product.outputs = args.n;
  product.ldw = rows_of_n ? args.b.row_stride : args.b.column_stride;
  product.weight_rows_are_inputs = rows_of_n;
  product.k = args.k;
  product.y = args.y.data;
  product.ldy = args.y.row_stride;
  product.batches = args.batches;
  product.x_step = args.a.step;
  product.weight_step = args.b.step;
  product.y_step = args.y.step;
  return blas_product(ctx, product);
}

}  // namespace wick::cuda
