#include "wick/engine/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>

#include "wick/base/error.h"
#include "wick/base/splitmix.h"

namespace wick {
namespace {

void check_range(const char* name, double value, double low, double high) {
  require(value >= low && value <= high, "sampling: ", name, " is ", value, ", expected ", low, " to ", high);
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

TokenDraw token_draw(const SamplingParams& params, uint64_t seed, uint64_t draw) {
  TokenDraw chosen;
  if (params.temperature == 0.0f) return chosen;
  chosen.steepness = std::min(std::numbers::log2e_v<float> / params.temperature, std::numeric_limits<float>::max());
  chosen.top_p = params.top_p;
  chosen.top_k = params.top_k;
  if (params.min_p > 0.0f) {
    const double most = std::floor(-std::log2(static_cast<double>(params.min_p)) * (1 << kHalvingBits));
    chosen.least = static_cast<uint32_t>(std::min(most + 1, static_cast<double>(kWeightless)));
  }
  chosen.random = splitmix(seed, draw);
  return chosen;
}

Sampler::Sampler(int64_t vocab) : workspace_(vocab), seen_(static_cast<size_t>(vocab)) {
  if (vocab > kMostDrawTokens)
    fail(ErrorCode::kUnsupported, "a vocabulary of ", vocab, " tokens; at most ", kMostDrawTokens, " can be drawn from");
}

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
  return cpu::draw_token(token_draw(params, seed, draw), logits, workspace_);
}

}  // namespace wick
