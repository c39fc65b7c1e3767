#include "wick/ops/arguments.h"

#include "wick/base/error.h"

namespace wick::ops {

// Conditions come first and messages after: ops run in the token loop, where a message that nobody reads must not allocate.

void require_floating(const Context& ctx, const char* op, std::initializer_list<Argument> arguments) {
  for (const auto& [name, tensor] : arguments) {
    require(tensor.defined(), op, ": ", name, " is an empty handle, expected a tensor");
    if (!(tensor.device() == ctx.device())) {
      fail(ErrorCode::kInvalidArgument, op, ": ", name, " is on device ", tensor.device().name(), ", expected ", ctx.device().name());
    }
    require(traits(tensor.dtype()).floating, op, ": ", name, " is ", dtype_name(tensor.dtype()), ", expected f32, f16, bf16 or f64");
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

Tensor with_contiguous_rows(const Tensor& tensor) { return tensor.rows_contiguous() ? tensor : tensor.contiguous(); }

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

}  // namespace wick::ops
