#include "wick/kernels/block_search.h"

#include <algorithm>
#include <array>
#include <cmath>

namespace wick {
namespace {

// Sums are kept in this many lanes, which the compiler turns into vectors, and added up at the end.
constexpr int kLanes = 8;
using Lanes = std::array<float, kLanes>;

float total(const Lanes& lanes) {
  return ((lanes[0] + lanes[4]) + (lanes[1] + lanes[5])) + ((lanes[2] + lanes[6]) + (lanes[3] + lanes[7]));
}

// To nearest even, for codes: |value| < 2^22. Without SSE4.1 the library's function is a call.
float round_code(float value) {
  constexpr float kUnitInLastPlace = 0x1.8p23f;
  return (value + kUnitInLastPlace) - kUnitInLastPlace;
}

float code_of(float x, float inverse, CodeRange range) { return round_code(std::min(std::max(x * inverse, range.lowest), range.highest)); }

// Sums over the codes of x * inverse: of x q and of q q.
struct ScaleSums {
  float xq, qq;
};
template <int N>
ScaleSums scale_sums(const float* x, float inverse, CodeRange range) {
  Lanes xq{}, qq{};
  for (int i = 0; i < N; i += kLanes) {
    for (int l = 0; l < kLanes; ++l) {
      const float q = code_of(x[i + l], inverse, range);
      xq[l] += x[i + l] * q;
      qq[l] += q * q;
    }
  }
  return {total(xq), total(qq)};
}

// The line through (q, x) with the smallest squared error; keeps `block` where all codes are equal.
template <int N>
BlockScale least_squares(const float* x, const float* q, BlockScale block, bool subtract_only) {
  Lanes sum_x{}, sum_q{}, sum_xq{}, sum_qq{};
  for (int i = 0; i < N; i += kLanes) {
    for (int l = 0; l < kLanes; ++l) {
      sum_x[l] += x[i + l];
      sum_q[l] += q[i + l];
      sum_xq[l] += x[i + l] * q[i + l];
      sum_qq[l] += q[i + l] * q[i + l];
    }
  }
  const float x1 = total(sum_x), q1 = total(sum_q), xq = total(sum_xq), qq = total(sum_qq);
  const float determinant = N * qq - q1 * q1;
  if (determinant > 0) {
    block.scale = std::max(0.0f, (N * xq - x1 * q1) / determinant);
    block.minimum = (block.scale * q1 - x1) / N;
  }
  if (subtract_only && block.minimum < 0) {
    block.minimum = 0;
    if (qq > 0) block.scale = std::max(0.0f, xq / qq);
  }
  return block;
}

}  // namespace

template <int N>
float nearest_codes(const float* x, BlockScale block, CodeRange range, float* q) {
  const float inverse = block.scale == 0 ? 0 : 1 / block.scale;
  Lanes error{};
  for (int i = 0; i < N; i += kLanes) {
    for (int l = 0; l < kLanes; ++l) {
      q[i + l] = code_of(x[i + l] + block.minimum, inverse, range);
      const float difference = x[i + l] - (block.scale * q[i + l] - block.minimum);
      error[l] += difference * difference;
    }
  }
  return total(error);
}

template <int N>
float fit_scale(const float* x, CodeRange range) {
  // In codes that the largest magnitude is given. More than the highest code clips it: with few bits that pays for the finer steps.
  constexpr float kFirst = -2.5f, kStep = 0.25f;
  constexpr int kCandidates = 17;
  float largest = 0;
  for (int i = 0; i < N; ++i) largest = std::max(largest, std::fabs(x[i]));
  if (largest == 0) return 0;
  float best = 0, best_gain = 0;  // by how much the sum of squares falls
  const auto consider = [&](float inverse) {
    const ScaleSums sums = scale_sums<N>(x, inverse, range);
    const float gain = sums.qq > 0 ? sums.xq * sums.xq / sums.qq : 0;
    if (gain <= best_gain) return;
    best_gain = gain;
    best = sums.xq / sums.qq;
  };
  for (int i = 0; i < kCandidates; ++i) {
    const float inverse = (-range.lowest + kFirst + kStep * static_cast<float>(i)) / largest;
    consider(inverse);
    consider(-inverse);
  }
  if (best != 0) consider(1 / best);
  return best;
}

template <int N>
BlockScale fit_line(const float* x, float highest, bool subtract_only) {
  // In codes more than there are that the range of x is given: both ends are clipped where that is above zero. One less than there are
  // is what weights need that were on a grid of half as many steps before.
  constexpr float kFirst = -1, kStep = 0.4f;
  constexpr int kCandidates = 10, kRefinements = 3;
  const CodeRange range{0, highest};
  const auto [low, high] = std::minmax_element(x, x + N);
  const float least = subtract_only ? std::min(*low, 0.0f) : *low;
  const float width = *high - least;
  if (!(width > 0)) return {0, -least};
  float q[N];
  BlockScale best;
  float best_error = INFINITY;
  const auto consider = [&](BlockScale candidate) {
    nearest_codes<N>(x, candidate, range, q);
    candidate = least_squares<N>(x, q, candidate, subtract_only);
    const float error = nearest_codes<N>(x, candidate, range, q);
    if (!(error < best_error)) return false;
    best_error = error;
    best = candidate;
    return true;
  };
  for (int i = 0; i < kCandidates; ++i) {
    const float more = kFirst + kStep * static_cast<float>(i);
    const float scale = width / (highest + more);
    consider({scale, -(least + scale * std::max(0.0f, more) / 2)});
    if (subtract_only && least == 0) consider({scale, 0});
  }
  for (int i = 0; i < kRefinements && consider(best); ++i) {
  }
  return best;
}

template float nearest_codes<16>(const float*, BlockScale, CodeRange, float*);
template float nearest_codes<32>(const float*, BlockScale, CodeRange, float*);
template float fit_scale<16>(const float*, CodeRange);
template float fit_scale<32>(const float*, CodeRange);
template BlockScale fit_line<32>(const float*, float, bool);

}  // namespace wick
