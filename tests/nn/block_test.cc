// The blocks: QkvProjection, Attention, Mlp, moe, norms, Embedding. What they compute is what their ops compute in turn.
#include <gtest/gtest.h>

#include "tests/ops/support.h"
#include "wick/nn/attention.h"
#include "wick/nn/embedding.h"
#include "wick/nn/mlp.h"
#include "wick/nn/norm.h"
#include "wick/ops/activation.h"
#include "wick/ops/linear.h"
#include "wick/ops/matmul.h"
#include "wick/ops/rope.h"
#include "wick/ops/softmax.h"

namespace wick::nn {
namespace {

using namespace test;  // NOLINT(google-build-using-namespace)

constexpr HeadDims kDims{4, 2, 16};
constexpr int64_t kD = 48;

Tensor scaled(const Shape& shape, uint32_t seed, float factor) {
  Tensor t = normal_tensor(shape, DType::kF32, seed);
  for (int64_t i = 0; i < t.elements(); ++i) t.data<float>()[i] *= factor;
  return t;
}

struct Weights {
  Tensor q = scaled({64, kD}, 1, 0.2f), k = scaled({32, kD}, 2, 0.2f), v = scaled({32, kD}, 3, 0.2f), o = scaled({kD, 64}, 4, 0.2f);
};

RopeConfig rope() {
  RopeConfig config;
  config.rotary_dim = 16;
  config.max_positions = 64;
  return config;
}

Attention make_attention(Context& ctx, const Weights& w, int64_t chunk = 3) {
  return Attention(QkvProjection(ctx, kDims, w.q, w.k, w.v), Linear(ctx, w.o), Rotary(rope()), {.causal = true}, chunk);
}

TEST(QkvProjection, SplitsIntoHeads) {
  Context ctx;
  const Weights w;
  const Tensor bq = normal_tensor({64}, DType::kF32, 5), bk = normal_tensor({32}, DType::kF32, 6), bv = normal_tensor({32}, DType::kF32, 7);
  for (const DType type : kHalfAndSingle) {
    const Tensor x = normal_tensor({2, 5, kD}, type, 8);
    const auto heads = QkvProjection(ctx, kDims, w.q, w.k.to(DType::kF16), w.v, bq, bk, bv).forward(ctx, x);
    EXPECT_EQ(heads.q.shape(), Shape({2, 4, 5, 16}));
    EXPECT_EQ(heads.v.shape(), Shape({2, 2, 5, 16}));
    EXPECT_TRUE(same_bits(heads.q, ops::linear(ctx, x, w.q, {.bias = &bq}).reshape({2, 5, 4, 16}).transpose(1, 2)));
    EXPECT_TRUE(same_bits(heads.k, ops::linear(ctx, x, w.k.to(DType::kF16), {.bias = &bk}).reshape({2, 5, 2, 16}).transpose(1, 2)));
    EXPECT_TRUE(same_bits(heads.v, ops::linear(ctx, x, w.v, {.bias = &bv}).reshape({2, 5, 2, 16}).transpose(1, 2)));
  }
}

class LinearOnDevice : public OnDevice {};
WICK_ON_EVERY_DEVICE(LinearOnDevice);

// Weights of one type lie together on some devices: the same outputs as each alone.
TEST_P(LinearOnDevice, WeightsSideBySide) {
  Context ctx(Device::parse(GetParam()), {2});
  const int64_t k = 64;
  const Tensor weights[] = {normal_tensor({40, k}, DType::kBF16, 1), normal_tensor({24, k}, DType::kBF16, 2), normal_tensor({8, k}, DType::kF32, 3),
                            normal_tensor({16, k}, DType::kBF16, 4), normal_tensor({56, k}, DType::kBF16, 5)};
  std::vector<WeightSource> sources;
  for (const Tensor& weight : weights) sources.push_back(ops::weight_source(weight));
  const Linear together(ctx, sources, Tensor(), false);
  for (const int64_t t : {1, 8, 9, 70, 200}) {
    const Tensor x = on(ctx, normal_tensor({t, k}, DType::kF32, 6));
    const Tensor y = together.forward(ctx, x).to(Device::cpu());
    int64_t column = 0;
    for (const Tensor& weight : weights) {
      const Tensor alone = Linear(ctx, weight).forward(ctx, x).to(Device::cpu());
      expect_values(y.slice(1, column, column + weight.dim(0)).contiguous(), values_of(alone), 1e-4);
      column += weight.dim(0);
    }
  }
}

// The whole block without fused parts: repeated K and V, explicit mask, in f64.
Tensor plain_attention(Context& ctx, const Weights& w, const Tensor& x) {
  const int64_t batch = x.dim(0), rows = x.dim(1);
  const auto heads = [&](const Tensor& weight, int64_t count) {
    return ops::matmul(ctx, x.to(DType::kF64), weight.to(DType::kF64).transpose(0, 1)).reshape({batch, rows, count, 16}).transpose(1, 2);
  };
  RopeTable table(rope());
  table.ensure(ctx, rows);
  const Tensor cos = table.cos().slice(0, 0, rows).to(DType::kF64), sin = table.sin().slice(0, 0, rows).to(DType::kF64);
  const Tensor q = ops::rope(ctx, heads(w.q, 4), cos, sin), k = ops::rope(ctx, heads(w.k, 2), cos, sin), v = heads(w.v, 2);
  const Tensor joined = Tensor::empty({batch, rows, 4, 16}, DType::kF64);
  for (int64_t b = 0; b < batch; ++b) {
    for (int64_t h = 0; h < 4; ++h) {
      const auto at = [&](const Tensor& t, int64_t head) { return t.slice(0, b, b + 1).slice(1, head, head + 1).contiguous().reshape({rows, 16}); };
      const Tensor scores = ops::matmul(ctx, at(q, h), at(k, h / 2).transpose(0, 1));
      for (int64_t i = 0; i < rows * rows; ++i) scores.data<double>()[i] = i % rows > i / rows ? -INFINITY : scores.data<double>()[i] / 4;
      const Tensor y = ops::matmul(ctx, ops::softmax_last_dim(ctx, scores), at(v, h / 2));
      for (int64_t t = 0; t < rows; ++t) {
        for (int64_t d = 0; d < 16; ++d) joined.data<double>()[((b * rows + t) * 4 + h) * 16 + d] = y.data<double>()[t * 16 + d];
      }
    }
  }
  return ops::matmul(ctx, joined.reshape({batch, rows, 64}), w.o.to(DType::kF64).transpose(0, 1));
}

TEST(Attention, IsTheBlockWithoutFusedParts) {
  const Weights w;
  const Tensor x = normal_tensor({2, 11, kD}, DType::kF32, 9);
  Context plain;
  const Tensor expected = plain_attention(plain, w, x);
  for (const auto& ctx : contexts()) {
    Nmse nmse;
    nmse.add(make_attention(*ctx, w).forward(*ctx, x, 0), expected);
    EXPECT_LE(nmse.error(), 1e-10) << name_of(*ctx);
  }
}

TEST(Attention, PrefillAndCachedStepsAreTheWholeInOne) {
  const Weights w;
  const Tensor x = normal_tensor({2, 11, kD}, DType::kF32, 9);
  for (const auto& ctx : contexts()) {
    const Tensor whole = make_attention(*ctx, w).forward(*ctx, x, 0);
    Attention attention = make_attention(*ctx, w);
    for (const auto& [begin, end] : {std::pair<int64_t, int64_t>{0, 6}, {6, 7}, {7, 10}, {10, 11}}) {
      const Tensor y = attention.forward_with_cache(*ctx, x.slice(1, begin, end), begin);
      EXPECT_TRUE(same_bits(y, whole.slice(1, begin, end))) << name_of(*ctx) << " rows " << begin;
    }
    EXPECT_EQ(attention.cache().current_seq_len(), 11);
    expect_error([&] { attention.forward_with_cache(*ctx, x, 3); }, "position is 3, the cache holds 11");
  }
}

TEST(Mlp, IsItsOpsInTurn) {
  Context ctx;
  const Tensor gate = scaled({80, kD}, 1, 0.2f), up = scaled({80, kD}, 2, 0.2f), down = scaled({kD, 80}, 3, 0.2f);
  for (const DType type : kHalfAndSingle) {
    const Tensor x = normal_tensor({2, 3, kD}, type, 4);
    const Tensor g = ops::linear(ctx, x, gate), u = ops::linear(ctx, x, up);
    const Tensor hidden = Tensor::empty(g.shape(), type);
    ops::swiglu(ctx, g, u, hidden);
    EXPECT_TRUE(same_bits(Mlp(ctx, gate, up, down).forward(ctx, x), ops::linear(ctx, hidden, down)));
    ops::geglu(ctx, g, u, hidden);
    EXPECT_TRUE(same_bits(Mlp(ctx, gate, up, down, Gate::kGelu).forward(ctx, x), ops::linear(ctx, hidden, down)));
  }
  expect_error([&] { Mlp(ctx, gate, up, down.transpose(0, 1)); }, "Mlp: down is [80, 48], expected [48, 80]");
}

class Moe : public testing::Test {
 protected:
  Context ctx_;
  Tensor router_ = normal_tensor({5, kD}, DType::kF32, 20);
  std::vector<Mlp> experts_;
  Moe() {
    for (uint32_t e = 0; e < 5; ++e) experts_.emplace_back(ctx_, scaled({64, kD}, 30 + e, 0.2f), scaled({64, kD}, 40 + e, 0.2f), scaled({kD, 64}, 50 + e, 0.2f));
  }
};

TEST_F(Moe, IsTheWeightedSumOfTheChosen) {
  const Tensor x = normal_tensor({3, 7, kD}, DType::kF32, 21);
  for (const bool normalise : {true, false}) {
    const Tensor y = moe(ctx_, x, Linear(ctx_, router_), experts_, {2, normalise});
    const Tensor p = ops::softmax_last_dim(ctx_, ops::linear(ctx_, x, router_)).reshape({21, 5});
    for (int64_t t = 0; t < 21; ++t) {
      const float* row = p.data<float>() + t * 5;
      const auto first = std::max_element(row, row + 5) - row;
      int64_t second = first == 0 ? 1 : 0;
      for (int64_t e = 0; e < 5; ++e) second = e != first && row[e] > row[second] ? e : second;
      const float sum = normalise ? row[first] + row[second] : 1;
      const Tensor one = x.reshape({21, kD}).slice(0, t, t + 1);
      const Tensor a = experts_[static_cast<size_t>(first)].forward(ctx_, one), b = experts_[static_cast<size_t>(second)].forward(ctx_, one);
      for (int64_t d = 0; d < kD; ++d) {
        const float expected = row[first] / sum * a.data<float>()[d] + row[second] / sum * b.data<float>()[d];
        EXPECT_NEAR(y.data<float>()[t * kD + d], expected, 1e-5f * (1 + std::fabs(expected)));
      }
      EXPECT_TRUE(same_bits(moe(ctx_, one, Linear(ctx_, router_), experts_, {2, normalise}), y.reshape({21, kD}).slice(0, t, t + 1)));  // whatever the company
    }
  }
}

TEST_F(Moe, AllExpertsNanRowsTypesAndMisuse) {
  const Linear router(ctx_, router_);
  EXPECT_EQ(moe(ctx_, Tensor::zeros({0, kD}, DType::kF32), router, experts_).shape(), Shape({0, kD}));
  EXPECT_EQ(moe(ctx_, normal_tensor({kD}, DType::kBF16, 1), router, experts_, {5}).dtype(), DType::kBF16);
  const Tensor x = normal_tensor({2, kD}, DType::kF32, 2);
  const Tensor clean = moe(ctx_, x.slice(0, 1, 2), router, experts_);
  x.data<float>()[3] = NAN;
  const Tensor y = moe(ctx_, x, router, experts_);
  EXPECT_TRUE(std::isnan(y.data<float>()[0]));
  EXPECT_TRUE(same_bits(y.slice(0, 1, 2), clean));
  expect_error([&] { moe(ctx_, x, router, experts_, {6}); }, "moe: top_k is 6, expected 1 to 5");
  expect_error([&] { moe(ctx_, x, router, {experts_[0]}, {1}); }, "the router has 5 outputs, expected one for each of 1 experts");
}

TEST(NormsAndEmbedding, AreTheirOps) {
  Context ctx;
  const Tensor w = normal_tensor({kD}, DType::kF32, 1), b = normal_tensor({kD}, DType::kF32, 2), x = normal_tensor({3, kD}, DType::kF32, 3);
  EXPECT_TRUE(same_bits(RmsNorm(w, 1e-5).forward(ctx, x), ops::rms_norm(ctx, x, w, 1e-5)));
  EXPECT_TRUE(same_bits(LayerNorm(w, b, 1e-5).forward(ctx, x), ops::layer_norm(ctx, x, w, b, 1e-5)));
  EXPECT_TRUE(same_bits(LayerNorm(w, {}, 1e-5).forward(ctx, x), ops::layer_norm(ctx, x, w, 1e-5)));
  std::vector<int32_t> ids = {2, 0, 1};
  const Embedding embedding(ctx, x);
  EXPECT_TRUE(same_bits(embedding.forward(ctx, Tensor::from_memory(ids.data(), {3}, DType::kI32)).slice(0, 0, 1), x.slice(0, 2, 3)));
  EXPECT_TRUE(same_bits(embedding.as_linear().forward(ctx, x), ops::linear(ctx, x, x)));
}

}  // namespace
}  // namespace wick::nn
