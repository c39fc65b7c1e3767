#include "wick/engine/sampler.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

#include "wick/base/error.h"

namespace wick {
namespace {

constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();

double uniform(uint64_t seed, uint64_t draw) {
  uint64_t z = seed + (draw + 1) * 0x9e3779b97f4a7c15u;
  z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
  z = (z ^ z >> 27) * 0x94d049bb133111ebu;
  z ^= z >> 31;
  return static_cast<double>(z >> 11) * 0x1p-53;
}

// e^x for x <= 0, relative error below 1e-15: 2^n by its exponent bits times a Taylor polynomial on |r| <= ln(2)/2. Below e^-50 a token's
// share is less than the rounding of the sum: zero.
double exp_negative(double x) {
  if (!(x > -50.0)) return 0.0;
  constexpr double kInverseLn2 = 1.4426950408889634, kLn2High = 6.93147180369123816490e-01, kLn2Low = 1.90821492927058770002e-10;
  constexpr double kInverseFactorial[] = {1.0,        1.0,         1.0 / 2,       1.0 / 6,        1.0 / 24,        1.0 / 120,        1.0 / 720,
                                          1.0 / 5040, 1.0 / 40320, 1.0 / 362880, 1.0 / 3628800, 1.0 / 39916800, 1.0 / 479001600, 1.0 / 6227020800};
  const double n = std::nearbyint(x * kInverseLn2);
  const double r = (x - n * kLn2High) - n * kLn2Low;
  double sum = 0.0;
  for (int i = 13; i >= 0; --i) sum = sum * r + kInverseFactorial[i];
  return sum * std::bit_cast<double>(static_cast<uint64_t>(1023 + static_cast<int64_t>(n)) << 52);
}

void check_range(const char* name, double value, double low, double high) {
  require(value >= low && value <= high, "sampling: ", name, " is ", value, ", expected ", low, " to ", high);
}

// The largest logit, lowest id on a tie; -1 when that is not a finite number or some logit is NaN. Looks for the value first, several chains at
// a time that the compiler can put into vectors, and for its place in the block where it was found.
int32_t best_of(std::span<const float> logits) {
  constexpr size_t kBlock = 2048, kChains = 16;
  float best = kMinusInfinity;
  size_t begin = 0;
  bool nan = false;
  for (size_t first = 0; first < logits.size(); first += kBlock) {
    const std::span<const float> block = logits.subspan(first, std::min(kBlock, logits.size() - first));
    const size_t whole = block.size() / kChains * kChains;
    float peaks[kChains];
    int32_t nans[kChains] = {};
    std::fill_n(peaks, kChains, kMinusInfinity);
    for (size_t i = 0; i < whole; i += kChains) {
      for (size_t j = 0; j < kChains; ++j) {
        peaks[j] = block[i + j] > peaks[j] ? block[i + j] : peaks[j];
        nans[j] |= block[i + j] != block[i + j];
      }
    }
    float peak = *std::max_element(peaks, peaks + kChains);
    for (const float logit : block.subspan(whole)) {
      peak = std::max(peak, logit);
      nan |= logit != logit;
    }
    nan |= std::any_of(nans, nans + kChains, [](int32_t seen) { return seen != 0; });
    if (peak <= best) continue;
    best = peak;
    begin = first;
  }
  if (nan || !std::isfinite(best)) return -1;
  return static_cast<int32_t>(std::find(logits.begin() + static_cast<std::ptrdiff_t>(begin), logits.end(), best) - logits.begin());
}

}  // namespace

void check_sampling(const SamplingParams& params, int64_t vocab) {
  check_range("temperature", params.temperature, 0.0, 100.0);
  check_range("top_k", params.top_k, 0, std::numeric_limits<int32_t>::max());
  check_range("top_p", params.top_p, 0.0, 1.0);
  check_range("min_p", params.min_p, 0.0, 1.0);
  check_range("repeat_penalty", params.repeat_penalty, 0.01, 100.0);
  check_range("repeat_window", params.repeat_window, 0, std::numeric_limits<int32_t>::max());
  for (const auto& [id, bias] : params.logit_bias) {
    require(id >= 0 && id < vocab, "sampling: logit_bias names token ", id, ", the vocabulary has ", vocab);
    require(!std::isnan(bias) && bias < std::numeric_limits<float>::infinity(), "sampling: logit_bias of token ", id, " is not a number below infinity");
  }
}

// More probable first, lower id first among equals.
bool Sampler::by_logit(const Candidate& a, const Candidate& b) { return a.logit > b.logit || (a.logit == b.logit && a.id < b.id); }

Sampler::Sampler(int64_t vocab)
    : candidates_(static_cast<size_t>(vocab)), weights_(static_cast<size_t>(vocab)), seen_(static_cast<size_t>(vocab)) {}

int32_t Sampler::choose(const SamplingParams& params, std::span<float> logits, std::span<const int32_t> history, uint64_t seed, uint64_t draw) {
  for (const auto& [id, bias] : params.logit_bias) logits[static_cast<size_t>(id)] += bias;
  if (params.repeat_penalty != 1.0f) {
    const size_t window = std::min(history.size(), static_cast<size_t>(params.repeat_window));
    const std::span<const int32_t> recent = history.last(window);
    for (const int32_t id : recent) {
      uint8_t& seen = seen_[static_cast<size_t>(id)];
      float& logit = logits[static_cast<size_t>(id)];
      if (!seen) logit = logit > 0.0f ? logit / params.repeat_penalty : logit * params.repeat_penalty;
      seen = 1;
    }
    for (const int32_t id : recent) seen_[static_cast<size_t>(id)] = 0;
  }
  const int32_t best = best_of(logits);
  if (best < 0 || params.temperature == 0.0f) return best;

  // Weights relative to the best token, and what their running sum must reach.
  const double inverse_temperature = 1.0 / static_cast<double>(params.temperature);
  const double best_logit = logits[static_cast<size_t>(best)];
  const auto weight = [&](float logit) { return exp_negative((logit - best_logit) * inverse_temperature); };
  int64_t kept = keep_candidates(params, logits);
  double total = 0.0;
  for (int64_t i = 0; i < kept; ++i) {
    weights_[static_cast<size_t>(i)] = weight(candidates_[static_cast<size_t>(i)].logit);
    total += weights_[static_cast<size_t>(i)];
  }
  // Sorted by probability as far as it is needed: most draws and cut-offs lie among the first few dozen.
  int64_t sorted = 0;
  const auto sort_up_to = [&](int64_t count) {
    while (sorted < count) {
      const int64_t next = std::min(kept, std::max<int64_t>(128, sorted * 8));
      if (next < kept) std::nth_element(candidates_.begin() + sorted, candidates_.begin() + next, candidates_.begin() + kept, by_logit);
      std::sort(candidates_.begin() + sorted, candidates_.begin() + next, by_logit);
      for (int64_t i = sorted; i < next; ++i) weights_[static_cast<size_t>(i)] = weight(candidates_[static_cast<size_t>(i)].logit);
      sorted = next;
    }
  };
  double mass = 0.0;
  int64_t count = 0;
  while (count < kept) {
    sort_up_to(count + 1);
    const double w = weights_[static_cast<size_t>(count)];
    if (count > 0 && (w < params.min_p || mass >= params.top_p * total)) break;
    mass += w;
    ++count;
  }
  const double target = uniform(seed, draw) * mass;
  double sum = 0.0;
  for (int64_t i = 0; i < count; ++i) {
    sum += weights_[static_cast<size_t>(i)];
    if (target < sum) return candidates_[static_cast<size_t>(i)].id;
  }
  return candidates_[static_cast<size_t>(count - 1)].id;
}

// The candidates that top-k leaves, in any order.
int64_t Sampler::keep_candidates(const SamplingParams& params, std::span<const float> logits) {
  for (size_t i = 0; i < logits.size(); ++i) candidates_[i] = {logits[i], static_cast<int32_t>(i)};
  const int64_t all = static_cast<int64_t>(logits.size());
  if (params.top_k <= 0 || params.top_k >= all) return all;
  std::nth_element(candidates_.begin(), candidates_.begin() + params.top_k, candidates_.end(), by_logit);
  std::sort(candidates_.begin(), candidates_.begin() + params.top_k, by_logit);
  return params.top_k;
}

}  // namespace wick
