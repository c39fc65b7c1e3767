// One Llama attention block put together from ops: projections, rotary embedding, cache, grouped-head attention. A prompt of five rows, then
// three rows one at a time; the last row is what all eight rows at once give. nn::Attention is the same, ready made.
#include <wick/wick.h>

#include <cmath>
#include <iostream>

using wick::Context, wick::DType, wick::Tensor;
namespace ops = wick::ops;
namespace nn = wick::nn;

constexpr int64_t kHeads = 8, kKvHeads = 2, kHeadDim = 32, kModel = 256;

Tensor weight(int64_t outputs, int64_t inputs, float seed) {
  Tensor w = Tensor::empty({outputs, inputs}, DType::kF32);
  for (int64_t i = 0; i < w.elements(); ++i) w.data<float>()[i] = std::sin(seed * static_cast<float>(i) + seed) / 16;
  return w.to(DType::kBF16);
}

struct Block {
  Context& ctx;
  Tensor q = weight(kHeads * kHeadDim, kModel, 0.7f), k = weight(kKvHeads * kHeadDim, kModel, 1.1f), v = weight(kKvHeads * kHeadDim, kModel, 1.3f);
  Tensor output = weight(kModel, kHeads * kHeadDim, 1.7f);
  nn::Rotary rotary{{.theta = 500000, .rotary_dim = kHeadDim, .max_positions = 8192}};
  nn::KvCache cache{/*dim=*/2, /*chunk=*/256};

  // x: (1, T, D) at positions cache.current_seq_len() and on.
  Tensor forward(const Tensor& x) {
    const auto heads = [&](const Tensor& w, int64_t count) {
      return ops::linear(ctx, x, w).reshape({1, x.dim(1), count, kHeadDim}).transpose(1, 2);
    };
    auto [rotated_q, rotated_k] = rotary.forward(ctx, heads(q, kHeads), heads(k, kKvHeads), cache.current_seq_len());
    auto [keys, values] = cache.append(ctx, rotated_k, heads(v, kKvHeads));
    Tensor y = Tensor::empty({1, x.dim(1), kHeads, kHeadDim}, x.dtype());
    ops::attention(ctx, rotated_q, keys, values, {.causal = true}, y.transpose(1, 2));
    return ops::linear(ctx, y.reshape({1, x.dim(1), kHeads * kHeadDim}), output);
  }
};

int main() {
  try {
    Context ctx;
    const Tensor x = weight(8, kModel, 2.3f).reshape({1, 8, kModel});
    Block whole{ctx}, stepwise{ctx};
    const Tensor expected = whole.forward(x).slice(1, 7, 8);
    Tensor y = stepwise.forward(x.slice(1, 0, 5));
    for (int64_t t = 5; t < 8; ++t) y = stepwise.forward(x.slice(1, t, t + 1));
    std::cout << y.to_string(4) << "\n" << expected.to_string(4) << "\n";
    return y.to_string() == expected.to_string() ? 0 : 1;
  } catch (const wick::Error& error) {
    std::cerr << error.what() << "\n";
    return 1;
  }
}
