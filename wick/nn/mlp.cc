#include "wick/nn/mlp.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "wick/base/error.h"
#include "wick/ops/activation.h"
#include "wick/ops/device.h"
#include "wick/ops/linear.h"
#include "wick/ops/softmax.h"

namespace wick::nn {
namespace {

Tensor gated(Context& ctx, Gate function, const Tensor& gate_up) {
  switch (function) {
    case Gate::kGelu: return ops::geglu(ctx, gate_up);
    case Gate::kGeluTanh: return ops::geglu_tanh(ctx, gate_up);
    default: return ops::swiglu(ctx, gate_up);
  }
}

struct Route {
  int64_t row;
  float weight;
};

// For each expert the rows that chose it, ascending. p: [T, E] f32. Rows without a choice, of NaN, go to `undefined`.
std::vector<std::vector<Route>> route(const Tensor& p, const MoeOptions& options, std::vector<int64_t>& undefined) {
  const int64_t experts = p.dim(1);
  std::vector<std::vector<Route>> routes(static_cast<size_t>(experts));
  std::vector<int64_t> order(static_cast<size_t>(experts));
  for (int64_t t = 0; t < p.dim(0); ++t) {
    const float* row = p.data<float>() + t * experts;
    if (std::isnan(row[0])) {
      undefined.push_back(t);
      continue;
    }
    std::iota(order.begin(), order.end(), 0);
    const auto last = order.begin() + options.top_k;
    std::partial_sort(order.begin(), last, order.end(), [&](int64_t a, int64_t b) { return row[a] != row[b] ? row[a] > row[b] : a < b; });
    float sum = 0;
    for (auto e = order.begin(); e != last; ++e) sum += row[*e];
    for (auto e = order.begin(); e != last; ++e) routes[static_cast<size_t>(*e)].push_back({t, options.normalise ? row[*e] / sum : row[*e]});
  }
  return routes;
}

// y[row] += weight * part for the rows of one expert.
void add_rows(Context& ctx, const std::vector<Route>& routes, const Tensor& part, const Tensor& y) {
  const int64_t size = y.dim(1);
  ctx.pool().parallel_for(static_cast<int64_t>(routes.size()), std::max<int64_t>(1, 16384 / size), [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) {
      const Route& r = routes[static_cast<size_t>(i)];
      const float* from = part.data<float>() + i * size;
      float* to = y.data<float>() + r.row * size;
      for (int64_t d = 0; d < size; ++d) to[d] += r.weight * from[d];
    }
  });
}

}  // namespace

Mlp::Mlp(Context& ctx, const Tensor& gate, const Tensor& up, const Tensor& down, Gate function) : function_(function) {
  require(gate.rank() == 2 && up.shape() == gate.shape(), "Mlp: gate is ", gate.shape(), " and up ", up.shape(), ", expected one shape of rank 2");
  require(down.shape() == Shape({gate.dim(1), gate.dim(0)}), "Mlp: down is ", down.shape(), ", expected [", gate.dim(1), ", ", gate.dim(0), "]");
  gate_up_ = Linear(ctx, {ops::weight_source(gate), ops::weight_source(up)}, Tensor(), false);
  down_ = Linear(ctx, {ops::weight_source(down)}, Tensor(), false);
}

Tensor Mlp::forward(Context& ctx, const Tensor& x) const { return down_.forward(ctx, gated(ctx, function_, gate_up_.forward(ctx, x))); }

Tensor moe(Context& ctx, const Tensor& x, const Linear& router, const std::vector<Mlp>& experts, const MoeOptions& options) {
  ops::require_cpu(ctx, "moe");
  const int64_t count = static_cast<int64_t>(experts.size());
  require(router.outputs() == count, "moe: the router has ", router.outputs(), " outputs, expected one for each of ", count, " experts");
  require(options.top_k >= 1 && options.top_k <= count, "moe: top_k is ", options.top_k, ", expected 1 to ", count);
  for (const Mlp& expert : experts) {
    require(expert.inputs() == router.inputs(), "moe: an expert has ", expert.inputs(), " inputs, the router ", router.inputs());
  }
  require(x.rank() >= 1 && x.dim(-1) == router.inputs(), "moe: x is ", x.shape(), ", expected ", router.inputs(), " in the last dimension");
  const int64_t size = x.dim(-1);
  const Tensor rows = x.to(DType::kF32).contiguous().reshape({size == 0 ? 0 : x.elements() / size, size});
  const Tensor y = Tensor::zeros(rows.shape(), DType::kF32);
  std::vector<int64_t> undefined;
  const auto routes = route(ops::softmax_last_dim(ctx, router.forward(ctx, rows)), options, undefined);
  for (size_t e = 0; e < routes.size(); ++e) {
    if (routes[e].empty()) continue;
    const Tensor own = Tensor::empty({static_cast<int64_t>(routes[e].size()), size}, DType::kF32);
    for (size_t i = 0; i < routes[e].size(); ++i) std::copy_n(rows.data<float>() + routes[e][i].row * size, size, own.data<float>() + static_cast<int64_t>(i) * size);
    add_rows(ctx, routes[e], experts[e].forward(ctx, own), y);
  }
  for (const int64_t t : undefined) std::fill_n(y.data<float>() + t * size, size, std::numeric_limits<float>::quiet_NaN());
  return y.reshape(x.shape()).to(x.dtype());
}

}  // namespace wick::nn
