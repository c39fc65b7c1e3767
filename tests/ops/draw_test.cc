#include "wick/ops/draw.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>

#include "tests/ops/support.h"

namespace wick {
namespace {

using namespace test;  // NOLINT(google-build-using-namespace)

class DrawOnDevice : public OnDevice {};
WICK_ON_EVERY_DEVICE(DrawOnDevice);

TEST(DrawWeight, IsTheHalvedPowerAndNeverGrows) {
  uint64_t last = draw_weight(0);
  EXPECT_EQ(last, uint64_t{1} << 42);
  for (uint32_t q = 1; q < 2u << kHalvingBits; ++q) {
    const uint64_t weight = draw_weight(q);
    ASSERT_LE(weight, last) << q;
    if (q % 101 == 0) {
      const double exact = std::exp2(42 - static_cast<double>(q) / (1 << kHalvingBits));
      ASSERT_NEAR(static_cast<double>(weight) / exact, 1, 4e-9) << q;
    }
    last = weight;
  }
  for (uint32_t halving = 0; halving < 42; ++halving) EXPECT_EQ(draw_weight(halving << kHalvingBits), uint64_t{1} << (42 - halving));
  EXPECT_EQ(draw_weight(kWeightless), 0u);
  EXPECT_EQ(draw_weight(63u << kHalvingBits), 0u);
  EXPECT_EQ(halvings(1, -INFINITY, 1), 63u << kHalvingBits);
  EXPECT_EQ(halvings(1, 1, 3e38f), 0u);
}

TEST(DrawWeight, SharesAndDraws) {
  EXPECT_EQ(share_of_weight(0, 1000), 1u);
  EXPECT_EQ(share_of_weight(0.25f, 1000), 250u);
  EXPECT_EQ(share_of_weight(0.2505f, 1000), 251u);
  EXPECT_EQ(share_of_weight(1, ~uint64_t{0} << 42), ~uint64_t{0} << 42);
  EXPECT_EQ(drawn_weight(0, 5), 1u);
  EXPECT_EQ(drawn_weight(~uint64_t{0}, 5), 5u);
  EXPECT_EQ(drawn_weight(~uint64_t{0}, ~uint64_t{0}), ~uint64_t{0});
  EXPECT_EQ(drawn_weight(uint64_t{1} << 63, uint64_t{7} << 40), (uint64_t{7} << 39) + 1);
}

// All tokens in order, one after another.
int32_t drawn(const TokenDraw& draw, const float* logits, int64_t vocab) {
  float best = -INFINITY;
  for (int64_t i = 0; i < vocab; ++i) {
    if (std::isnan(logits[i])) return -1;
    best = std::max(best, logits[i]);
  }
  if (!std::isfinite(best)) return -1;
  std::vector<int32_t> ids(static_cast<size_t>(vocab));
  std::iota(ids.begin(), ids.end(), 0);
  std::stable_sort(ids.begin(), ids.end(), [&](int32_t a, int32_t b) { return logits[a] > logits[b]; });
  if (draw.top_k > 0 && draw.top_k < vocab) ids.resize(static_cast<size_t>(draw.top_k));
  const auto weight = [&](int32_t id) { return draw_weight(halvings(best, logits[id], draw.steepness)); };
  uint64_t total = 0, kept = 0, sum = 0;
  for (const int32_t id : ids) total += weight(id);
  for (const int32_t id : ids) {
    if (kept >= share_of_weight(draw.top_p, total) || halvings(best, logits[id], draw.steepness) >= draw.least) break;
    kept += weight(id);
  }
  for (const int32_t id : ids) {
    sum += weight(id);
    if (sum >= drawn_weight(draw.random, kept)) return id;
  }
  return -2;
}

void expect_drawn(Context& ctx, const Tensor& logits, const std::vector<TokenDraw>& draws, const char* what) {
  const int64_t rows = logits.dim(0), vocab = logits.dim(1);
  ASSERT_EQ(static_cast<int64_t>(draws.size()), rows);
  const Tensor plain =
      Tensor::from_memory(const_cast<TokenDraw*>(draws.data()), {rows, static_cast<int64_t>(sizeof(TokenDraw) / 4)}, DType::kI32);
  const Tensor there = on(ctx, logits), how = on(ctx, plain);
  const Tensor y = Tensor::empty({rows}, DType::kI32, ctx.device()), next = Tensor::empty({rows}, DType::kI32, ctx.device());
  ops::draw_tokens(ctx, there, reinterpret_cast<const TokenDraw*>(how.raw()), y, next);
  ctx.synchronize();
  const Tensor ids = y.to(Device::cpu()), next_ids = next.to(Device::cpu());
  for (int64_t row = 0; row < rows; ++row) {
    const TokenDraw& draw = draws[static_cast<size_t>(row)];
    const int32_t id = drawn(draw, logits.data<float>() + row * vocab, vocab);
    ASSERT_EQ(ids.data<int32_t>()[row], id) << what << ", row " << row << " of " << vocab << ": steepness " << draw.steepness << ", top_k "
                                            << draw.top_k << ", top_p " << draw.top_p << ", least " << draw.least;
    ASSERT_EQ(next_ids.data<int32_t>()[row], std::max(id, 0));
  }
}

TokenDraw some_draw(std::mt19937_64& random) {
  const auto one_of = [&](auto... values) {
    const double all[] = {static_cast<double>(values)...};
    return all[random() % sizeof...(values)];
  };
  TokenDraw draw;
  draw.steepness = static_cast<float>(one_of(1e-3, 0.1, 0.5, 1.4427, 2, 10, 3e38));
  draw.top_p = static_cast<float>(one_of(1, 1, 0.95, 0.9, 0.5, 0.1, 0));
  draw.top_k = static_cast<int32_t>(one_of(0, 0, 1, 2, 40, 1000, 20000, 1 << 30));
  draw.least = static_cast<uint32_t>(one_of(kWeightless, kWeightless, 1, 1 << 22, 70 << 20, 10 << 24));
  draw.random = one_of(0, 1, 1) != 0 ? random() : 0;
  return draw;
}

// Each with the rules in many combinations: what few of them see are bins with more tokens than are sorted at once.
TEST_P(DrawOnDevice, TakesWhatAllTokensInOrderWouldGive) {
  constexpr int64_t kRows = 40;
  std::mt19937_64 random(7);
  for (const auto& ctx : contexts(GetParam())) {
    for (const int64_t vocab : {1, 2, 33, 1000, 4096, 49157}) {
      const Tensor logits = normal_tensor({kRows, vocab}, DType::kF32, static_cast<int>(vocab));
      for (const float scale : {1.0f, 6.0f, 0.01f}) {
        Tensor scaled = Tensor::empty(logits.shape(), DType::kF32);
        for (int64_t i = 0; i < scaled.elements(); ++i) scaled.data<float>()[i] = logits.data<float>()[i] * scale;
        std::vector<TokenDraw> draws(kRows);
        std::generate(draws.begin(), draws.end(), [&] { return some_draw(random); });
        ASSERT_NO_FATAL_FAILURE(expect_drawn(*ctx, scaled, draws, "normal"));
        // Many of the same.
        for (int64_t i = 0; i < scaled.elements(); ++i) scaled.data<float>()[i] = std::round(logits.data<float>()[i] * scale);
        ASSERT_NO_FATAL_FAILURE(expect_drawn(*ctx, scaled, draws, "whole numbers"));
      }
    }
  }
}

TEST_P(DrawOnDevice, RowsThatAreAllTheSameOrNoNumbers) {
  constexpr int64_t kVocab = 20000;
  for (const auto& ctx : contexts(GetParam())) {
    Tensor logits = Tensor::zeros({7, kVocab}, DType::kF32);
    float* rows = logits.data<float>();
    rows[1 * kVocab + kVocab - 1] = NAN;
    rows[2 * kVocab + 5] = INFINITY;
    std::fill_n(rows + 3 * kVocab, kVocab, -INFINITY);
    rows[4 * kVocab + 99] = -INFINITY;
    for (int64_t i = 0; i < kVocab; ++i) rows[5 * kVocab + i] = i % 2 ? 0.0f : -0.0f;
    rows[6 * kVocab + 77] = 3e38f;
    TokenDraw draw;
    draw.steepness = 1;
    draw.top_k = 0;
    for (const uint64_t random : {uint64_t{0}, uint64_t{1} << 62, ~uint64_t{0}}) {
      draw.random = random;
      for (const float top_p : {1.0f, 0.3f}) {
        draw.top_p = top_p;
        ASSERT_NO_FATAL_FAILURE(expect_drawn(*ctx, logits, std::vector<TokenDraw>(7, draw), "special"));
      }
    }
  }
}

TEST_P(DrawOnDevice, ManyRows) {
  std::mt19937_64 random(8);
  const Tensor logits = normal_tensor({300, 5000}, DType::kF32, 3);
  std::vector<TokenDraw> draws(300);
  std::generate(draws.begin(), draws.end(), [&] { return some_draw(random); });
  for (const auto& ctx : contexts(GetParam())) expect_drawn(*ctx, logits, draws, "many rows");
}

TEST_P(DrawOnDevice, WithoutDrawsTheLargest) {
  constexpr int64_t kVocab = 128256;
  for (const auto& ctx : contexts(GetParam())) {
    Tensor logits = normal_tensor({6, kVocab}, DType::kF32, 1);
    float* rows = logits.data<float>();
    rows[0 * kVocab + 77777] = 100;
    rows[1 * kVocab + kVocab - 1] = NAN;
    rows[2 * kVocab + 5] = INFINITY;
    std::fill_n(rows + 3 * kVocab, kVocab, -INFINITY);
    rows[4 * kVocab + 99] = -INFINITY;
    const Tensor there = on(*ctx, logits), y = Tensor::empty({6}, DType::kI32, ctx->device()),
                 next = Tensor::empty({6}, DType::kI32, ctx->device());
    ops::draw_tokens(*ctx, there, nullptr, y, next);
    ctx->synchronize();
    const Tensor chosen = y.to(Device::cpu()), ids = next.to(Device::cpu());
    const auto largest = [&](int64_t row) {
      return std::max_element(rows + row * kVocab, rows + (row + 1) * kVocab) - (rows + row * kVocab);
    };
    const int64_t expected[] = {77777, -1, -1, -1, largest(4), largest(5)};
    for (int i = 0; i < 6; ++i) {
      EXPECT_EQ(chosen.data<int32_t>()[i], expected[i]) << i;
      EXPECT_EQ(ids.data<int32_t>()[i], std::max<int64_t>(expected[i], 0)) << i;
    }
  }
}

TEST(Draw, Misuse) {
  Context ctx;
  const Tensor logits = Tensor::zeros({2, 4}, DType::kF32), ids = Tensor::zeros({2}, DType::kI32);
  expect_error([&] { ops::draw_tokens(ctx, Tensor(), nullptr, ids, ids); }, "draw_tokens: logits is an empty handle");
  expect_error([&] { ops::draw_tokens(ctx, logits.slice(0, 0, 0).reshape({0, 4}).slice(1, 0, 0), nullptr, ids, ids); }, "draw_tokens: ");
  expect_error([&] { ops::draw_tokens(ctx, Tensor::zeros({2, 4}, DType::kF16), nullptr, ids, ids); }, "draw_tokens: logits are f16 [2, 4]");
  expect_error([&] { ops::draw_tokens(ctx, logits.transpose(0, 1), nullptr, ids, ids); }, "expected contiguous f32 [N, V]");
  expect_error([&] { ops::draw_tokens(ctx, logits, nullptr, Tensor(), ids); }, "draw_tokens: y is not contiguous i32 [2]");
  expect_error([&] { ops::draw_tokens(ctx, logits, nullptr, ids, Tensor::zeros({3}, DType::kI32)); },
               "draw_tokens: next is not contiguous i32 [2]");
}

}  // namespace
}  // namespace wick
