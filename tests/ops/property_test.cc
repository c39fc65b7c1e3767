// Random shapes, strides, dims, types and in-place use on every instruction set, against the f64 reference.
#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <array>
#include <functional>

#include "tests/ops/support.h"
#include "wick/ops/activation.h"
#include "wick/ops/attention.h"
#include "wick/ops/linear.h"
#include "wick/ops/matmul.h"
#include "wick/ops/norm.h"
#include "wick/ops/rope.h"
#include "wick/ops/softmax.h"

namespace wick {
namespace {

using namespace test;  // NOLINT(google-build-using-namespace)

class Property : public OnDevice {
 protected:
  void SetUp() override {
    OnDevice::SetUp();
    if (!IsSkipped()) machines = contexts(GetParam());
  }
  void TearDown() override { machines.clear(); }

 public:
  static inline std::vector<std::unique_ptr<Context>> machines;
};
WICK_ON_EVERY_DEVICE(Property);

Context& any_machine() { return *Property::machines[*rc::gen::inRange<size_t>(0, Property::machines.size())]; }

// What the f64 reference runs on.
Context& plain() {
  static Context ctx;
  return ctx;
}
DType any_type() { return *rc::gen::elementOf(std::vector<DType>{DType::kF32, DType::kF16, DType::kBF16}); }
int64_t any_size(int64_t most = 70) { return *rc::gen::oneOf(rc::gen::inRange<int64_t>(1, 5), rc::gen::inRange<int64_t>(1, most + 1)); }

Shape any_shape(int least_rank, int most_rank) {
  const int rank = *rc::gen::inRange(least_rank, most_rank + 1);
  std::vector<int64_t> sizes;
  int64_t elements = 1;
  for (int i = 0; i < rank; ++i) {
    sizes.push_back(elements > 3000 ? any_size(3) : any_size());
    elements *= sizes.back();
  }
  if (*rc::gen::weightedElement<bool>({{19, false}, {1, true}}) && rank > 0) sizes[static_cast<size_t>(*rc::gen::inRange(0, rank))] = 0;
  return Shape(sizes);
}

// The same elements with other strides.
Tensor any_view(const Tensor& t) {
  switch (*rc::gen::inRange(0, 4)) {
    case 0: return with_gaps(t);
    case 1: return t.rank() > 0 ? column_major(t) : t;
    case 2: {
      if (t.rank() < 2) return t;
      const int a = *rc::gen::inRange(0, t.rank()), b = *rc::gen::inRange(0, t.rank());
      return t.transpose(a, b).contiguous().transpose(a, b);
    }
    default: return t;
  }
}

// A view to write into: rows with contiguous elements, perhaps with gaps between them.
Tensor any_output(const Shape& shape, DType type) {
  const Tensor plain = Tensor::zeros(shape, type);
  if (*rc::gen::arbitrary<bool>() || shape.rank() == 0) return plain;
  return with_gaps(plain);
}

Tensor any_values(const Shape& shape, DType type, float spread = 1) {
  Tensor t = normal_tensor(shape, DType::kF32, *rc::gen::arbitrary<uint32_t>());
  for (int64_t i = 0; i < t.elements(); ++i) t.data<float>()[i] *= spread;
  return t.to(type);
}

// Each element within one unit in the last place of the rounded reference, and 1e-6 of the size of what was summed.
void expect_close(const Tensor& got, const Tensor& reference, double terms) {
  const std::vector<double> a = values_of(got), b = values_of(reference);
  RC_ASSERT(a.size() == b.size());
  const double unit = got.dtype() == DType::kF32 ? 0x1p-23 : got.dtype() == DType::kF16 ? 0x1p-10 : 0x1p-7;
  const double subnormal = got.dtype() == DType::kF16 ? 0x1p-24 : 1e-38;
  for (size_t i = 0; i < a.size(); ++i) RC_ASSERT(std::fabs(a[i] - b[i]) <= unit * std::fabs(b[i]) + 1e-6 * (terms + std::fabs(b[i])) + subnormal);
}

void check(const char* name, const std::function<void()>& property) {
  const bool holds = rc::check(name, property);
  EXPECT_TRUE(holds) << name;
}

TEST_P(Property, ActivationsOfAnyShapeAndView) {
  using Op = void (*)(Context&, const Tensor&, const Tensor&);
  check("f(x)", [] {
    Context& ctx = any_machine();
    const std::vector<Op> functions = {ops::silu, ops::gelu, ops::gelu_tanh};
    const Op op = functions[*rc::gen::inRange<size_t>(0, functions.size())];  // an index: rapidcheck prints what it drew
    const Tensor x = any_view(any_values(any_shape(0, 5), any_type(), 3));
    const Tensor expected = Tensor::empty(x.shape(), DType::kF64);
    op(plain(), x.to(DType::kF64), expected);
    const Tensor in = on(ctx, x);
    const bool in_place = x.rows_contiguous() && *rc::gen::arbitrary<bool>();
    const Tensor y = in_place ? in : on(ctx, any_output(x.shape(), x.dtype()));
    op(ctx, in, y);
    expect_close(y, expected, 0.1);
  });
}

TEST_P(Property, GatedActivations) {
  using Op = void (*)(Context&, const Tensor&, const Tensor&, const Tensor&);
  check("f(gate) up", [] {
    Context& ctx = any_machine();
    const std::vector<Op> functions = {ops::swiglu, ops::geglu, ops::geglu_tanh};
    const Op op = functions[*rc::gen::inRange<size_t>(0, functions.size())];  // an index: rapidcheck prints what it drew
    const Shape shape = any_shape(1, 4);
    const DType type = any_type();
    const Tensor gate = any_view(any_values(shape, type)), up = any_view(any_values(shape, type));
    const Tensor expected = Tensor::empty(shape, DType::kF64);
    op(plain(), gate.to(DType::kF64), up.to(DType::kF64), expected);
    const Tensor second = on(ctx, up);
    const Tensor y = up.rows_contiguous() && *rc::gen::arbitrary<bool>() ? second : on(ctx, any_output(shape, type));
    op(ctx, on(ctx, gate), second, y);
    expect_close(y, expected, 0.5);
  });
}

TEST_P(Property, SoftmaxOverAnyDimension) {
  using Op = void (*)(Context&, const Tensor&, int, const Tensor&);
  check("softmax(x, dim)", [] {
    Context& ctx = any_machine();
    const std::vector<Op> functions = {ops::softmax, ops::log_softmax};
    const Op op = functions[*rc::gen::inRange<size_t>(0, functions.size())];  // an index: rapidcheck prints what it drew
    const Tensor x = any_view(any_values(any_shape(1, 5), any_type(), 4));
    const int dim = *rc::gen::inRange(-x.rank(), x.rank());
    const Tensor expected = Tensor::empty(x.shape(), DType::kF64);
    op(plain(), x.to(DType::kF64), dim, expected);
    const Tensor in = on(ctx, x);
    const Tensor y = *rc::gen::arbitrary<bool>() ? in : on(ctx, any_view(Tensor::zeros(x.shape(), x.dtype())));
    op(ctx, in, dim, y);
    expect_close(y, expected, op == Op(ops::softmax) ? 0.1 : 30);
  });
}

TEST_P(Property, Norms) {
  check("rms_norm, layer_norm, add_rms_norm", [] {
    Context& ctx = any_machine();
    const DType type = any_type();
    const Tensor x = any_view(any_values(any_shape(1, 4), type, 2));
    const DType weight_type = *rc::gen::element(type, DType::kF32);
    const Tensor w = any_view(any_values({x.dim(-1)}, weight_type)), b = any_view(any_values({x.dim(-1)}, weight_type));
    const auto f64 = [](const Tensor& t) { return t.to(DType::kF64); };
    const Tensor before = f64(x);
    const Tensor in = on(ctx, x), weight = on(ctx, w);
    const Tensor y = x.rows_contiguous() && *rc::gen::arbitrary<bool>() ? in : on(ctx, any_output(x.shape(), type));
    switch (*rc::gen::inRange(0, 3)) {
      case 0:
        ops::rms_norm(ctx, in, weight, 1e-5, y);
        return expect_close(y, ops::rms_norm(plain(), before, f64(w), 1e-5), 4);
      case 1:
        ops::layer_norm(ctx, in, weight, on(ctx, b), 1e-5, y);
        return expect_close(y, ops::layer_norm(plain(), before, f64(w), f64(b), 1e-5), x.dim(-1) == 1 ? 300 : 30);
      default: {
        const Tensor r = on(ctx, any_values(x.shape(), type));
        std::vector<float> sums;
        const std::vector<double> values = values_of(before), residual = values_of(r);
        for (size_t i = 0; i < values.size(); ++i) sums.push_back(static_cast<float>(values[i]) + static_cast<float>(residual[i]));
        const Tensor expected = Tensor::from_values(sums, x.shape(), type);
        ops::add_rms_norm(ctx, in, r, weight, 1e-5, y);
        RC_ASSERT(same_bits(r, expected));
        return expect_close(y, ops::rms_norm(plain(), f64(expected), f64(w), 1e-5), 4);
      }
    }
  });
}

TEST_P(Property, RopeInAllLayouts) {
  using Op = void (*)(Context&, const Tensor&, const Tensor&, const Tensor&, const Tensor&);
  check("rope", [] {
    Context& ctx = any_machine();
    const std::array<Op, 4> forms = {ops::rope, ops::rope_i, ops::rope_thd, ops::rope_i_thd};
    const size_t form = *rc::gen::inRange<size_t>(0, 4);
    const DType type = any_type();
    const int64_t batch = any_size(3), heads = any_size(6), rows = any_size(20), half = any_size(40), rest = *rc::gen::inRange<int64_t>(0, 9);
    const Shape shape = form < 2 ? Shape{batch, heads, rows, 2 * half + rest} : Shape{batch, rows, heads, 2 * half + rest};
    const Tensor x = any_view(any_values(shape, type));
    const int64_t positions = rows + *rc::gen::inRange<int64_t>(0, 4);
    const Shape table_shape = *rc::gen::arbitrary<bool>() ? Shape{positions, half} : Shape{batch, positions, half};
    const DType table_type = *rc::gen::element(type, DType::kF32);
    const Tensor cos = any_view(any_values(table_shape, table_type)), sin = any_view(any_values(table_shape, table_type));
    const Tensor expected = Tensor::empty(shape, DType::kF64);
    forms[form](plain(), x.to(DType::kF64), cos.to(DType::kF64), sin.to(DType::kF64), expected);
    const Tensor in = on(ctx, x);
    const Tensor y = x.rows_contiguous() && *rc::gen::arbitrary<bool>() ? in : on(ctx, any_output(shape, type));
    forms[form](ctx, in, on(ctx, cos), on(ctx, sin), y);
    expect_close(y, expected, 1);
  });
}

TEST_P(Property, MatmulAndLinear) {
  check("a b", [] {
    Context& ctx = any_machine();
    const DType type = any_type();
    const int64_t m = any_size(20), n = any_size(50), k = any_size(80), batch = any_size(3);
    const Tensor a = any_view(any_values({batch, m, k}, type)), b = any_view(any_values({*rc::gen::element<int64_t>(1, batch), k, n}, type));
    const Tensor expected = ops::matmul(plain(), a.to(DType::kF64), b.to(DType::kF64));
    const Tensor left = on(ctx, a), y = on(ctx, any_view(Tensor::zeros({batch, m, n}, type)));
    ops::matmul(ctx, left, on(ctx, b), y);
    expect_close(y, expected, static_cast<double>(k));
    const Tensor weight = any_view(b.slice(0, 0, 1).contiguous().reshape({k, n}).transpose(0, 1).contiguous());
    ops::linear(ctx, left, on(ctx, weight), y);
    expect_close(y, ops::matmul(plain(), a.to(DType::kF64), weight.to(DType::kF64).transpose(0, 1)), static_cast<double>(k));
  });
}

TEST_P(Property, AttentionIsSoftmaxOfProducts) {
  check("attention", [] {
    Context& ctx = any_machine();
    const DType type = any_type();
    const int64_t batch = any_size(2), kv_heads = any_size(3), group = any_size(4), rows = any_size(12), keys = rows + *rc::gen::inRange<int64_t>(0, 150), dim = 8 * any_size(6);
    const bool causal = *rc::gen::arbitrary<bool>();
    const Tensor q = any_view(any_values({batch, kv_heads * group, rows, dim}, type)), k = any_view(any_values({batch, kv_heads, keys, dim}, type)),
                 v = any_view(any_values({batch, kv_heads, keys, dim}, type));
    const Tensor there = on(ctx, any_view(Tensor::zeros(q.shape(), type)));
    ops::attention(ctx, on(ctx, q), on(ctx, k), on(ctx, v), {.causal = causal}, there);
    const Tensor y = there.to(Device::cpu());
    for (int64_t b = 0; b < batch; ++b) {
      for (int64_t h = 0; h < q.dim(1); ++h) {
        const auto at = [&](const Tensor& t, int64_t head) { return t.slice(0, b, b + 1).slice(1, head, head + 1).to(DType::kF64).reshape({t.dim(2), dim}); };
        const Tensor scores = ops::matmul(plain(), at(q, h), at(k, h / group).transpose(0, 1));
        for (int64_t i = 0; i < rows * keys; ++i) {
          double& score = scores.data<double>()[i];
          score = causal && i % keys > i / keys + keys - rows ? -INFINITY : score / std::sqrt(static_cast<double>(dim));
        }
        expect_close(y.slice(0, b, b + 1).slice(1, h, h + 1), ops::matmul(plain(), ops::softmax_last_dim(plain(), scores), at(v, h / group)), 4);
      }
    }
  });
}

}  // namespace
}  // namespace wick
