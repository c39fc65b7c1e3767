#include "wick/ops/arguments.h"

#include "wick/base/error.h"
#include "wick/ops/copy.h"

namespace wick::ops {

// Conditions come first and messages after: ops run in the token loop, where a message that nobody reads must not allocate.

void require_floating(const Context& ctx, const char* op, std::initializer_list<Argument> arguments) {
  for (const auto& [name, tensor] : arguments) {
    require(tensor.defined(), op, ": ", name, " is an empty handle, expected a tensor");
    if (!(tensor.device() == ctx.device())) {
      fail(ErrorCode::kInvalidArgument, op, ": ", name, " is on device ", tensor.device().name(), ", expected ", ctx.device().name());
    }
    require(traits(tensor.dtype()).floating, op, ": ", name, " is ", dtype_name(tensor.dtype()), ", expected f32, f16, bf16 or f64");
    if (tensor.dtype() == DType::kF64 && !ctx.device().is_cpu()) fail(ErrorCode::kUnsupported, op, ": ", name, " is f64, which only the CPU computes in");
  }
}

void require_same_dtype(const char* op, const Argument& model, const Argument& other) {
  require(other.tensor.dtype() == model.tensor.dtype(), op, ": ", other.name, " is ", dtype_name(other.tensor.dtype()), ", expected ",
          dtype_name(model.tensor.dtype()), " as ", model.name);
}

void require_same_shape(const char* op, const Argument& model, const Argument& other) {
  if (other.tensor.shape() == model.tensor.shape()) return;
  fail(ErrorCode::kInvalidArgument, op, ": ", other.name, " is ", other.tensor.shape().to_string(), ", expected ",
       model.tensor.shape().to_string(), " as ", model.name);
}

void require_contiguous_rows(const char* op, const Argument& output) {
  if (output.tensor.rows_contiguous()) return;
  fail(ErrorCode::kInvalidArgument, op, ": ", output.name, " has stride ", output.tensor.strides()[output.tensor.rank() - 1],
       " in its last dimension, expected 1");
}

void require_rank_1(const char* op, const Argument& argument) {
  require(argument.tensor.rank() >= 1, op, ": ", argument.name, " has rank 0, expected 1 or more");
}

namespace {

// First and one past the last byte of a view that has elements.
struct Extent {
  const std::byte* begin;
  const std::byte* end;
};

Extent extent_of(const Tensor& tensor) {
  const int64_t bytes = traits(tensor.dtype()).bytes;
  int64_t low = 0, high = 0;
  for (int i = 0; i < tensor.rank(); ++i) {
    const int64_t reach = (tensor.shape()[i] - 1) * tensor.strides()[i];
    (reach < 0 ? low : high) += reach;
  }
  return {tensor.raw() + low * bytes, tensor.raw() + (high + 1) * bytes};
}

// How far the indices of two views may differ along one dimension, and what a step there is in bytes.
struct Step {
  int64_t bytes, low, high;
};

// Whether distance can be walked with the steps, largest first, to within less than an element. Strides nest in any view made of slices and
// transpositions, so at each step only the two nearest counts can lead there.
bool reaches(int64_t distance, const Step* steps, int count, int64_t element) {
  if (count == 0) return distance > -element && distance < element;
  const int64_t size = steps->bytes;
  const int64_t below = distance / size - (distance % size < 0 ? 1 : 0);
  for (const int64_t k : {below, below + 1}) {
    if (k >= steps->low && k <= steps->high && reaches(distance - k * size, steps + 1, count - 1, element)) return true;
  }
  return false;
}

bool overlap(const Tensor& a, const Tensor& b) {
  const Extent of_a = extent_of(a);
  const Extent of_b = extent_of(b);
  if (of_a.end <= of_b.begin || of_b.end <= of_a.begin) return false;
  if (a.rank() != b.rank() || a.dtype() != b.dtype()) return true;
  const int64_t element = traits(a.dtype()).bytes;
  Step steps[Dims::kMaxRank];
  int count = 0;
  for (int i = 0; i < a.rank(); ++i) {
    const int64_t size_a = a.shape()[i], size_b = b.shape()[i];
    if (size_a == 1 && size_b == 1) continue;
    const int64_t stride = size_a > 1 ? a.strides()[i] : b.strides()[i];
    if ((size_a > 1 && size_b > 1 && a.strides()[i] != b.strides()[i]) || stride <= 0) return true;
    int at = count++;
    for (; at > 0 && steps[at - 1].bytes < stride * element; --at) steps[at] = steps[at - 1];
    steps[at] = {stride * element, -(size_b - 1), size_a - 1};
  }
  return reaches(b.raw() - a.raw(), steps, count, element);
}

bool same_view(const Tensor& a, const Tensor& b) {
  if (a.raw() != b.raw() || a.dtype() != b.dtype() || !(a.shape() == b.shape())) return false;
  for (int i = 0; i < a.rank(); ++i) {
    if (a.shape()[i] > 1 && a.strides()[i] != b.strides()[i]) return false;
  }
  return true;
}

}  // namespace

void require_disjoint_or_same(const char* op, const Argument& input, const Argument& output) {
  if (!same_view(input.tensor, output.tensor)) require_disjoint(op, input, output);
}

void require_disjoint(const char* op, const Argument& input, const Argument& output) {
  if (input.tensor.elements() == 0 || output.tensor.elements() == 0 || !overlap(input.tensor, output.tensor)) return;
  fail(ErrorCode::kInvalidArgument, op, ": ", output.name, " overlaps ", input.name, same_view(input.tensor, output.tensor) ? "" : " in part",
       ", expected memory of its own");
}

Tensor contiguous(Context& ctx, const Tensor& tensor) {
  if (tensor.is_contiguous() || ctx.device().is_cpu()) return tensor.contiguous();
  Tensor copied = Tensor::empty(tensor.shape(), tensor.dtype(), ctx.device());
  copy(ctx, tensor, copied);
  return copied;
}

Tensor with_contiguous_rows(Context& ctx, const Tensor& tensor) { return tensor.rows_contiguous() ? tensor : contiguous(ctx, tensor); }

RowsView rows_of(const Tensor& tensor) {
  RowsView rows;
  rows.data = tensor.raw();
  rows.type = tensor.dtype();
  rows.count = 1;
  rows.size = 1;
  if (tensor.rank() == 0) return rows;
  const int last = tensor.rank() - 1;
  rows.size = tensor.shape()[last];
  rows.step = rows.size > 1 ? tensor.strides()[last] : 1;
  for (int i = 0; i < last; ++i) {
    const int64_t size = tensor.shape()[i];
    const int64_t stride = tensor.strides()[i];
    rows.count *= size;
    if (size == 1) continue;
    const int outer = rows.leading - 1;
    if (outer >= 0 && rows.strides[outer] == size * stride) {
      rows.sizes[outer] *= size;
      rows.strides[outer] = stride;
    } else {
      rows.sizes[rows.leading] = size;
      rows.strides[rows.leading++] = stride;
    }
  }
  return rows;
}

bool all_contiguous(std::initializer_list<const Tensor*> tensors) {
  for (const Tensor* tensor : tensors) {
    if (!tensor->is_contiguous()) return false;
  }
  return true;
}

RowsView one_row(const Tensor& tensor) {
  RowsView rows;
  rows.data = tensor.raw();
  rows.type = tensor.dtype();
  rows.count = 1;
  rows.size = tensor.elements();
  return rows;
}

HeadsView heads_view(const Tensor& tensor) {
  HeadsView view;
  view.data = tensor.raw();
  view.type = tensor.dtype();
  for (int i = 0; i < 4; ++i) view.strides[i] = tensor.strides()[i];
  return view;
}

}  // namespace wick::ops
