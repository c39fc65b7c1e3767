#include "wick/ops/matmul.h"

#include <algorithm>
#include <optional>

#include "wick/kernels/linear.h"
#include "wick/ops/arguments.h"
#include "wick/ops/device.h"
#include "wick/ops/f32_rows.h"

namespace wick::ops {
namespace {

// Dimension `i` of `rank` broadcast dimensions, of a tensor with two more: 1 where it has none.
int64_t leading_size(const Tensor& tensor, int i, int rank) {
  const int own = i - (rank - (tensor.rank() - 2));
  return own < 0 ? 1 : tensor.shape()[own];
}

Shape product_shape(const Tensor& a, const Tensor& b) {
  const int rank = std::max(a.rank(), b.rank()) - 2;
  int64_t sizes[Dims::kMaxRank];
  for (int i = 0; i < rank; ++i) {
    const int64_t of_a = leading_size(a, i, rank);
    const int64_t of_b = leading_size(b, i, rank);
    require(of_a == of_b || of_a == 1 || of_b == 1, "matmul: leading dimensions of a ", a.shape(), " and b ", b.shape(), " do not broadcast");
    sizes[i] = of_a == 1 ? of_b : of_a;
  }
  sizes[rank] = a.dim(-2);
  sizes[rank + 1] = b.dim(-1);
  return Shape(std::span<const int64_t>(sizes, static_cast<size_t>(rank) + 2));
}

void check_factors(const Context& ctx, const Tensor& a, const Tensor& b) {
  require_floating(ctx, "matmul", {{"a", a}, {"b", b}});
  require_same_dtype("matmul", {"a", a}, {"b", b});
  require(a.rank() >= 2 && b.rank() >= 2, "matmul: a has rank ", a.rank(), " and b ", b.rank(), ", expected at least 2");
  require(a.dim(-1) == b.dim(-2), "matmul: a is ", a.shape(), " and b ", b.shape(), ": a's last dimension and b's last but one differ");
}

// The matrix of `tensor` at leading index `index` of `shape`.
Tensor matrix_at(const Tensor& tensor, const Shape& shape, int64_t index) {
  const int rank = shape.rank() - 2;
  const int own_rank = tensor.rank() - 2;
  Tensor matrix = tensor;
  for (int i = rank - 1; i >= 0; --i) {
    const int64_t at = index % shape[i];
    index /= shape[i];
    const int own = i - (rank - own_rank);
    if (own < 0) continue;
    const int64_t position = tensor.shape()[own] == 1 ? 0 : at;
    matrix = matrix.slice(own, position, position + 1);
  }
  return matrix;
}

void multiply_f64(const Tensor& a, const Tensor& b, const Tensor& y) {
  ref::MatmulArgs args;
  args.a = a.data<double>();
  args.b = b.data<double>();
  args.y = y.data<double>();
  args.rows = a.dim(-2);
  args.n = b.dim(-1);
  args.k = a.dim(-1);
  for (int i = 0; i < 2; ++i) {
    args.a_strides[i] = a.strides()[a.rank() - 2 + i];
    args.b_strides[i] = b.strides()[b.rank() - 1 - i];
    args.y_strides[i] = y.strides()[y.rank() - 2 + i];
  }
  ref::matmul(args);
}

// How many products of matrices there are, and how far apart those matrices lie.
struct Several {
  int64_t count = 1, a_step = 0, b_step = 0, y_step = 0;
};

// Of tensors whose leading dimensions are all 1, of the first of several.
void multiply(Context& ctx, const Tensor& a, const Tensor& b, const Tensor& y, const Several& several = {}) {
  const ScratchScope scope(ctx);
  const int64_t bytes = traits(b.dtype()).bytes;
  const bool narrow = ctx.device().is_cpu() && b.dtype() == DType::kBF16;
  MatmulArgs args;
  args.rows = a.dim(-2);
  args.b = {b.raw(), b.dtype(), b.dim(-1), b.dim(-2), b.strides()[b.rank() - 1] * bytes, b.strides()[b.rank() - 2] * bytes};
  args.count = several.count;
  args.x_step = several.a_step;
  args.b_step = several.b_step;
  args.y_step = several.y_step;
  give_input(ctx, a, narrow, args);
  const F32Rows y_rows = give_output(ctx, y, narrow, args);
  run_kernel<cpu::matmul, cuda::matmul>(ctx, args);
  finish_output(ctx, args, y_rows, y);
}

// How far apart the matrices of `tensor` lie that follow each other in the product's leading dimensions; nothing when that differs.
std::optional<int64_t> even_step(const Tensor& tensor, const Shape& shape) {
  const int rank = shape.rank() - 2, missing = rank - (tensor.rank() - 2);
  int64_t step = 0, inner = 1;  // matrices inside dimension i
  for (int i = rank - 1; i >= 0; inner *= shape[i--]) {
    if (shape[i] == 1) continue;
    const int own = i - missing;
    const int64_t stride = own < 0 || tensor.shape()[own] == 1 ? 0 : tensor.strides()[own];
    if (inner == 1) step = stride;
    if (stride != inner * step) return std::nullopt;
  }
  return step;
}

// All of them in one go, where there is a way.
bool multiply_together(Context& ctx, const Tensor& a, const Tensor& b, const Tensor& y, int64_t count) {
  const auto a_step = even_step(a, y.shape()), b_step = even_step(b, y.shape()), y_step = even_step(y, y.shape());
  if (!a_step || !b_step || !y_step || a.dim(-1) == 0) return false;
  if constexpr (kHasCuda) {
    if (on_cuda(ctx)) {
      if (count > INT32_MAX) return false;
      const auto matrix = [](const Tensor& x, int64_t step) {
        return cuda::MatmulBatch::Matrix{x.raw(), x.strides()[x.rank() - 2], x.strides()[x.rank() - 1], step};
      };
      return cuda::matmul_batch(
          ctx, {a.dtype(), count, a.dim(-2), b.dim(-1), a.dim(-1), matrix(a, *a_step), matrix(b, *b_step), matrix(y, *y_step)});
    }
  }
  const Tensor left = matrix_at(a, y.shape(), 0), out = matrix_at(y, y.shape(), 0);
  const bool narrow = bf16_row_stride(left) > 0 && bf16_row_stride(out) > 0;
  if (count == 1 || !(narrow || (is_f32_rows(left) && is_f32_rows(out)))) return false;
  multiply(ctx, left, matrix_at(b, y.shape(), 0), out, {count, *a_step, *b_step, *y_step});
  return true;
}

}  // namespace

void matmul(Context& ctx, const Tensor& a, const Tensor& b, const Tensor& y) {
  require_kernels(ctx, "matmul");
  check_factors(ctx, a, b);
  require_floating(ctx, "matmul", {{"y", y}});
  require_same_dtype("matmul", {"a", a}, {"y", y});
  const Shape shape = product_shape(a, b);
  require(y.shape() == shape, "matmul: y is ", y.shape(), ", expected ", shape);
  require_disjoint("matmul", {"a", a}, {"y", y});
  require_disjoint("matmul", {"b", b}, {"y", y});
  if (y.elements() == 0) return;
  int64_t count = 1;
  for (int i = 0; i < shape.rank() - 2; ++i) count *= shape[i];
  if (multiply_together(ctx, a, b, y, count)) return;
  for (int64_t i = 0; i < count; ++i) {
    const Tensor left = matrix_at(a, shape, i);
    const Tensor right = matrix_at(b, shape, i);
    const Tensor out = matrix_at(y, shape, i);
    if (a.dtype() == DType::kF64) {
      multiply_f64(left, right, out);
    } else {
      multiply(ctx, left, right, out);
    }
  }
}

Tensor matmul(Context& ctx, const Tensor& a, const Tensor& b) {
  check_factors(ctx, a, b);
  Tensor y = Tensor::empty(product_shape(a, b), a.dtype(), ctx.device());
  matmul(ctx, a, b, y);
  return y;
}

}  // namespace wick::ops
