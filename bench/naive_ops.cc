#include "bench/naive_ops.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "wick/base/error.h"
#include "wick/ops/matmul.h"
#include "wick/tensor/half.h"

namespace wick::bench::naive {
namespace {

// Calls body(element of the dtype) with a null pointer of that type.
template <class Body>
void with_type(DType type, Body&& body) {
  switch (type) {
    case DType::kF32: return body(static_cast<float*>(nullptr));
    case DType::kF16: return body(static_cast<F16*>(nullptr));
    case DType::kBF16: return body(static_cast<BF16*>(nullptr));
    default: fail(ErrorCode::kInvalidArgument, "naive ops: no ", dtype_name(type));
  }
}

// Calls body(where y's row lies, and where those of the inputs, in elements) for every row of y's shape. Sizes of 1 are repeated.
template <class Body>
void each_row(const Shape& shape, const Tensor& a, const Tensor& b, Body&& body) {
  const int last = shape.rank() - 1;
  const auto strides = [&](const Tensor& x) {
    Dims steps = shape;
    for (int i = 0; i < last; ++i) {
      const int axis = i - (shape.rank() - x.rank());
      steps[i] = axis >= 0 && x.shape()[axis] > 1 ? x.strides()[axis] : 0;
    }
    return steps;
  };
  const Dims a_steps = strides(a), b_steps = strides(b);
  Dims index = shape;
  for (int i = 0; i < last; ++i) index[i] = 0;
  int64_t a_at = 0, b_at = 0;
  const int64_t elements = element_count(shape);
  for (int64_t y_at = 0; y_at < elements; y_at += shape[last]) {
    body(y_at, a_at, b_at);
    for (int i = last - 1; i >= 0; --i) {
      a_at += a_steps[i];
      b_at += b_steps[i];
      if (++index[i] < shape[i]) break;
      a_at -= a_steps[i] * shape[i];
      b_at -= b_steps[i] * shape[i];
      index[i] = 0;
    }
  }
}

int64_t last_step(const Tensor& x) { return x.dim(-1) > 1 ? x.strides()[x.rank() - 1] : 0; }

template <class Function>
Tensor binary(const Tensor& a, const Tensor& b, Function function) {
  Tensor y = Tensor::empty(a.shape(), a.dtype());
  const int64_t n = a.dim(-1);
  with_type(a.dtype(), [&]<class T>(T*) {
    each_row(a.shape(), a, b, [&](int64_t to, int64_t from_a, int64_t from_b) {
      T* out = y.data<T>() + to;
      const T* x0 = a.data<T>() + from_a;
      const T* x1 = b.data<T>() + from_b;
      if (last_step(a) == 1 && last_step(b) == 1) {
        for (int64_t i = 0; i < n; ++i) out[i] = T(function(static_cast<float>(x0[i]), static_cast<float>(x1[i])));
      } else {
        for (int64_t i = 0; i < n; ++i) out[i] = T(function(static_cast<float>(x0[i * last_step(a)]), static_cast<float>(x1[i * last_step(b)])));
      }
    });
  });
  return y;
}

template <class Function>
Tensor unary(const Tensor& x, Function function) {
  Tensor y = Tensor::empty(x.shape(), x.dtype());
  with_type(x.dtype(), [&]<class T>(T*) {
    for (int64_t i = 0; i < x.elements(); ++i) y.data<T>()[i] = T(function(static_cast<float>(x.data<T>()[i])));
  });
  return y;
}

template <class Function>
Tensor reduce(const Tensor& x, float start, Function function) {
  Shape shape = x.shape();
  const int64_t n = x.dim(-1);
  shape[x.rank() - 1] = 1;
  Tensor y = Tensor::empty(shape, x.dtype());
  with_type(x.dtype(), [&]<class T>(T*) {
    for (int64_t row = 0; row < y.elements(); ++row) {
      float value = start;
      for (int64_t i = 0; i < n; ++i) value = function(value, static_cast<float>(x.data<T>()[row * n + i]));
      y.data<T>()[row] = T(value);
    }
  });
  return y;
}

void copy_into(const Tensor& x, const Tensor& y) {
  const int64_t n = x.dim(-1);
  if (n == 1 && x.rank() > 1 && x.dim(-2) > 1) return copy_into(x.transpose(x.rank() - 2, x.rank() - 1), y.transpose(x.rank() - 2, x.rank() - 1));
  with_type(x.dtype(), [&]<class T>(T*) {
    each_row(x.shape(), x, y, [&](int64_t, int64_t from, int64_t to) {
      const T* in = x.data<T>() + from;
      T* out = y.data<T>() + to;
      if (last_step(x) == 1 && last_step(y) == 1) {
        std::copy(in, in + n, out);
      } else {
        for (int64_t i = 0; i < n; ++i) out[i * last_step(y)] = in[i * last_step(x)];
      }
    });
  });
}

Tensor repeat_heads(const Tensor& x, int64_t times) {
  const Shape& s = x.shape();
  Tensor y = Tensor::empty({s[0], s[1], times, s[2], s[3]}, x.dtype());
  for (int64_t i = 0; i < times; ++i) copy_into(x.reshape({s[0], s[1], 1, s[2], s[3]}), y.slice(2, i, i + 1));
  return y.reshape({s[0], s[1] * times, s[2], s[3]});
}

}  // namespace

Tensor contiguous(const Tensor& x) {
  Tensor y = Tensor::empty(x.shape(), x.dtype());
  copy_into(x, y);
  return y;
}

Tensor narrow(const Tensor& x, int dim, int64_t begin, int64_t end) { return contiguous(x.slice(dim, begin, end)); }

Tensor concat(const Tensor& a, const Tensor& b, int dim) {
  Shape shape = a.shape();
  const int axis = dim < 0 ? dim + a.rank() : dim;
  shape[axis] = a.dim(axis) + b.dim(axis);
  Tensor y = Tensor::empty(shape, a.dtype());
  copy_into(a, y.slice(axis, 0, a.dim(axis)));
  copy_into(b, y.slice(axis, a.dim(axis), shape[axis]));
  return y;
}

Tensor add(const Tensor& a, const Tensor& b) { return binary(a, b, [](float x, float y) { return x + y; }); }
Tensor subtract(const Tensor& a, const Tensor& b) { return binary(a, b, [](float x, float y) { return x - y; }); }
Tensor multiply(const Tensor& a, const Tensor& b) { return binary(a, b, [](float x, float y) { return x * y; }); }
Tensor divide(const Tensor& a, const Tensor& b) { return binary(a, b, [](float x, float y) { return x / y; }); }
Tensor exp(const Tensor& x) { return unary(x, [](float v) { return std::exp(v); }); }
Tensor log(const Tensor& x) { return unary(x, [](float v) { return std::log(v); }); }
Tensor sqrt(const Tensor& x) { return unary(x, [](float v) { return std::sqrt(v); }); }
Tensor tanh(const Tensor& x) { return unary(x, [](float v) { return std::tanh(v); }); }
Tensor erf(const Tensor& x) { return unary(x, [](float v) { return std::erf(v); }); }
Tensor affine(const Tensor& x, float factor, float offset) {
  return unary(x, [=](float v) { return factor * v + offset; });
}
Tensor max_last_dim(const Tensor& x) {
  return reduce(x, -std::numeric_limits<float>::infinity(), [](float a, float b) { return std::max(a, b); });
}
Tensor sum_last_dim(const Tensor& x) { return reduce(x, 0, [](float a, float b) { return a + b; }); }

Tensor rope(const Tensor& x, const Tensor& cos, const Tensor& sin) {
  const int64_t half = cos.dim(-1);
  const Tensor x0 = narrow(x, 3, 0, half);
  const Tensor x1 = narrow(x, 3, half, 2 * half);
  return concat(subtract(multiply(x0, cos), multiply(x1, sin)), add(multiply(x0, sin), multiply(x1, cos)), 3);
}

Tensor rope_i(const Tensor& x, const Tensor& cos, const Tensor& sin) {
  const Shape& s = x.shape();
  const int64_t half = cos.dim(-1);
  const Tensor pairs = x.reshape({s[0], s[1], s[2], half, 2});
  const Tensor x0 = narrow(pairs, 4, 0, 1).reshape({s[0], s[1], s[2], half});
  const Tensor x1 = narrow(pairs, 4, 1, 2).reshape({s[0], s[1], s[2], half});
  const Shape column = {s[0], s[1], s[2], half, 1};
  return concat(subtract(multiply(x0, cos), multiply(x1, sin)).reshape(column), add(multiply(x0, sin), multiply(x1, cos)).reshape(column), 4)
      .reshape(s);
}

Tensor softmax(const Tensor& x) {
  const Tensor e = exp(subtract(x, max_last_dim(x)));
  return divide(e, sum_last_dim(e));
}

Tensor log_softmax(const Tensor& x) {
  const Tensor shifted = subtract(x, max_last_dim(x));
  return subtract(shifted, log(sum_last_dim(exp(shifted))));
}

Tensor rms_norm(const Tensor& x, const Tensor& w, float eps) {
  const float n = static_cast<float>(x.dim(-1));
  return multiply(divide(x, sqrt(affine(sum_last_dim(multiply(x, x)), 1 / n, eps))), w);
}

Tensor layer_norm(const Tensor& x, const Tensor& w, const Tensor& b, float eps) {
  const float n = static_cast<float>(x.dim(-1));
  const Tensor centred = subtract(x, affine(sum_last_dim(x), 1 / n, 0));
  return add(multiply(divide(centred, sqrt(affine(sum_last_dim(multiply(centred, centred)), 1 / n, eps))), w), b);
}

Tensor silu(const Tensor& x) { return divide(x, affine(exp(affine(x, -1, 0)), 1, 1)); }
Tensor gelu(const Tensor& x) { return multiply(affine(x, 0.5f, 0), affine(erf(affine(x, 0.70710678f, 0)), 1, 1)); }
Tensor gelu_tanh(const Tensor& x) {
  const Tensor cubic = multiply(x, affine(multiply(x, x), 0.0356774081f, 0.79788456f));
  return multiply(affine(x, 0.5f, 0), affine(tanh(cubic), 1, 1));
}

Tensor attention(Context& ctx, const Tensor& q, const Tensor& k, const Tensor& v) {
  const int64_t group = q.dim(1) / k.dim(1);
  const int64_t rows = q.dim(2), keys = k.dim(2);
  Tensor mask = Tensor::zeros({rows, keys}, q.dtype());
  with_type(q.dtype(), [&]<class T>(T*) {
    for (int64_t t = 0; t < rows; ++t) {
      std::fill(mask.data<T>() + t * keys + keys - rows + t + 1, mask.data<T>() + (t + 1) * keys, T(-std::numeric_limits<float>::infinity()));
    }
  });
  const Tensor scores = ops::matmul(ctx, q, repeat_heads(k, group).transpose(2, 3));
  return ops::matmul(ctx, softmax(add(affine(scores, 1 / std::sqrt(static_cast<float>(q.dim(3))), 0), mask)), repeat_heads(v, group));
}

}  // namespace wick::bench::naive
