// Drawing a token from a row of logits, in integers: the sums are exact, so a draw is the same on every device and in whatever order
// weights are added up.
//
// With best the row's largest logit and s = log2(e) / temperature, all in f32:
//   halvings of a token: q = floor(2^24 · min((best - logit) · s, 63))
//   its weight: w = floor(2^42 · 2^(-q / 2^24)), the power to 4e-9; zero from 42 halvings on
// Tokens stand in order of their logits, largest first, lower ids first among equals. Of those with a weight there are kept
//   the first top_k; of these the fewest whose weights reach top_p of the weight of them all, at least one; and of these q < least.
// The token is the first at which the weights so far exceed random / 2^64 of what is kept.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "wick/kernels/rows.h"
#include "wick/tensor/context.h"

namespace wick {

inline constexpr int kHalvingBits = 24;
inline constexpr uint32_t kWeightless = 42u << kHalvingBits;  // halvings of a token that is never drawn
inline constexpr int kDrawBinShift = kHalvingBits - 5;        // halvings are sorted into bins of 1/32 first
inline constexpr int kDrawBins = static_cast<int>(kWeightless >> kDrawBinShift);
inline constexpr int64_t kMostDrawTokens = (int64_t{1} << 22) - 1;  // of a vocabulary: the sum of weights has 64 bits

// How one row's token is chosen.
struct TokenDraw {
  float steepness = 1;  // s
  float top_p = 1;
  int32_t top_k = 1;             // 0: all; 1: the largest logit, whatever the rest says
  uint32_t least = kWeightless;  // halvings from which on tokens are not kept; above 0
  uint64_t random = 0;
};

constexpr uint32_t halvings(float best, float logit, float steepness) {
  const float y = (best - logit) * steepness;
  return static_cast<uint32_t>(static_cast<int32_t>((y < 63.0f ? y : 63.0f) * static_cast<float>(1 << kHalvingBits)));
}

// 2^31 · 2^-f, f the fraction of the halvings: a polynomial that is off by 3e-11 at most, and by its last bits.
constexpr uint32_t fraction_power(uint32_t halvings) {
  constexpr uint32_t kOne = 1u << 31, kFactors[] = {1488522230, 515882355, 119192936, 20649668, 2851950, 316607, 23337};
  const uint64_t fraction = static_cast<uint32_t>(halvings << (32 - kHalvingBits));
  uint32_t sum = 0;
  for (int i = 6; i >= 0; --i) sum = kFactors[i] - static_cast<uint32_t>(fraction * sum >> 32);
  return kOne - static_cast<uint32_t>(fraction * sum >> 32);
}

// 2^42 at 0 halvings. Never larger for more halvings.
constexpr uint64_t draw_weight(uint32_t halvings) {
  return halvings < kWeightless ? uint64_t{fraction_power(halvings)} << 11 >> (halvings >> kHalvingBits) : 0;
}

// What the weights have to reach, of all of `total`.
constexpr uint64_t share_of_weight(float top_p, uint64_t total) {
  const double share = static_cast<double>(top_p) * static_cast<double>(total);
  const uint64_t whole = static_cast<uint64_t>(share);
  const uint64_t reached = whole + (static_cast<double>(whole) < share ? 1 : 0);
  return reached < 1 ? 1 : reached < total ? reached : total;
}

// What the weights have to reach to be drawn: 1 to kept.
constexpr uint64_t drawn_weight(uint64_t random, uint64_t kept) {
  const uint64_t high = (random >> 32) * (kept >> 32), low = (random & 0xffffffff) * (kept & 0xffffffff);
  const uint64_t left = (random >> 32) * (kept & 0xffffffff), right = (random & 0xffffffff) * (kept >> 32);
  const uint64_t middle = (low >> 32) + (left & 0xffffffff) + (right & 0xffffffff);
  return high + (left >> 32) + (right >> 32) + (middle >> 32) + 1;
}

struct DrawArgs {
  RowsView logits;                   // f32, rows contiguous, 1 <= size <= kMostDrawTokens
  const TokenDraw* draws = nullptr;  // [logits.count], in the device's memory; null: the largest logits
  int32_t* y = nullptr;              // [logits.count]: the token; -1 where a logit is NaN or the largest is not a finite number
  int32_t* next = nullptr;           // [logits.count]: y, with 0 for -1
};

namespace cpu {
// Working memory for rows of so many logits.
struct DrawWorkspace {
  explicit DrawWorkspace(int64_t vocab) : halvings(static_cast<size_t>(vocab)), ids(static_cast<size_t>(vocab)) {}
  std::vector<uint32_t> halvings;
  std::vector<int32_t> ids;
};
// The token of one row, as y below.
int32_t draw_token(const TokenDraw& draw, std::span<const float> logits, DrawWorkspace& workspace);
void draw_tokens(Context& ctx, const DrawArgs& args);
}  // namespace cpu
namespace cuda {
void draw_tokens(Context& ctx, const DrawArgs& args);
}  // namespace cuda

}  // namespace wick
