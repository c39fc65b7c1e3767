// The feed-forward blocks of a decoder layer: gated, and as a mixture of experts.
#pragma once

#include <cstdint>
#include <vector>

#include "wick/nn/linear.h"

namespace wick::nn {

enum class Gate { kSilu, kGelu, kGeluTanh };

// y = down(gate_function(gate(x)) * up(x)).
class Mlp {
 public:
  Mlp() = default;
  // gate, up: [F, D];  down: [D, F], plain or quantised. Throws Error(kInvalidArgument) on a shape mismatch.
  Mlp(Context& ctx, const Tensor& gate, const Tensor& up, const Tensor& down, Gate function = Gate::kSilu);
  // x: [..., D] f32|f16|bf16, rank >= 1;  y: as x.
  Tensor forward(Context& ctx, const Tensor& x) const;
  int64_t inputs() const { return gate_up_.inputs(); }

 private:
  Linear gate_up_;  // side by side: one dispatch
  Linear down_;
  Gate function_ = Gate::kSilu;
};

struct MoeOptions {
  int64_t top_k = 2;
  bool normalise = true;  // the weights of the chosen experts are divided by their sum
};

// y[t] = sum over the top_k experts e of largest router probability of p[t, e] * experts[e](x[t]),  p = softmax(router(x)).
// x: [..., D] f32|f16|bf16;  router: D -> experts.size(). Rows are grouped by expert; the sum runs over experts in ascending order in f32,
// rounded once, so a row's result does not depend on the others. Of equal probabilities the lower expert wins. A row whose probabilities
// are NaN gives NaN. Throws Error(kInvalidArgument) unless 1 <= top_k <= experts and sizes agree.
Tensor moe(Context& ctx, const Tensor& x, const Linear& router, const std::vector<Mlp>& experts, const MoeOptions& options = {});

}  // namespace wick::nn
