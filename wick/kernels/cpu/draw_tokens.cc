#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "wick/kernels/token_draw.h"

namespace wick::cpu {
namespace {

// The largest logit, lowest id on a tie; -1 when that is not a finite number or some logit is NaN. Looks for the value first, several
// chains at a time that the compiler can put into vectors, and for its place in the block where it was found.
int32_t best_of(std::span<const float> logits) {
  constexpr size_t kBlock = 2048, kChains = 16;
  constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();
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

// What is looked for: the first token at which so many tokens, or so much weight, have come together.
struct Goal {
  uint64_t weight;  // 0: the count is meant
  int64_t count;
};

// Walks down to tokens: bins of halvings say in which of them a goal is reached, only that one's tokens are sorted.
class Walk {
 public:
  Walk(std::span<const float> logits, float best, float steepness, DrawWorkspace& workspace) : logits_(logits), workspace_(workspace) {
    constexpr size_t kBlock = 1024;
    uint32_t powers[kBlock];
    uint32_t* const q = workspace.halvings.data();
    for (size_t first = 0; first < logits.size(); first += kBlock) {
      const size_t count = std::min(kBlock, logits.size() - first);
      for (size_t i = 0; i < count; ++i) q[first + i] = halvings(best, logits[first + i], steepness);
      for (size_t i = 0; i < count; ++i) powers[i] = fraction_power(q[first + i]);
      for (size_t i = 0; i < count; ++i) {
        const uint32_t own = q[first + i];
        if (own >= kWeightless) continue;
        weights_[own >> kDrawBinShift] += uint64_t{powers[i]} << 11 >> (own >> kHalvingBits);
        ++counts_[own >> kDrawBinShift];
      }
    }
    for (int bin = 1; bin < kDrawBins; ++bin) {
      weights_[bin] += weights_[bin - 1];
      counts_[bin] += counts_[bin - 1];
    }
  }

  uint64_t total() const { return weights_[kDrawBins - 1]; }
  int64_t count() const { return counts_[kDrawBins - 1]; }

  struct Place {
    uint64_t weight;  // up to and with this token
    int32_t id;
  };

  // The first token that reaches the goal. There has to be one.
  Place find(const Goal& goal) {
    const int bin = static_cast<int>(goal.weight ? std::lower_bound(weights_, weights_ + kDrawBins, goal.weight) - weights_
                                                 : std::lower_bound(counts_, counts_ + kDrawBins, goal.count) - counts_);
    if (bin != sorted_bin_) sort(bin);
    uint64_t weight = bin > 0 ? weights_[bin - 1] : 0;
    int64_t count = bin > 0 ? counts_[bin - 1] : 0;
    for (const int32_t* id = workspace_.ids.data();; ++id) {
      weight += draw_weight(halvings_of(*id));
      ++count;
      if (goal.weight ? weight >= goal.weight : count >= goal.count) return {weight, *id};
    }
  }

  // The weight of the tokens with fewer halvings than `least`.
  uint64_t weight_below(uint32_t least) const {
    const uint32_t bin = least >> kDrawBinShift;
    uint64_t weight = bin > 0 ? weights_[bin - 1] : 0;
    for (size_t i = 0; i < logits_.size(); ++i) {
      const uint32_t own = workspace_.halvings[i];
      if (own >> kDrawBinShift == bin && own < least) weight += draw_weight(own);
    }
    return weight;
  }

 private:
  uint32_t halvings_of(int32_t id) const { return workspace_.halvings[static_cast<size_t>(id)]; }

  void sort(int bin) {
    sorted_bin_ = bin;
    int32_t* end = workspace_.ids.data();
    for (size_t i = 0; i < logits_.size(); ++i) {
      *end = static_cast<int32_t>(i);
      end += workspace_.halvings[i] >> kDrawBinShift == static_cast<uint32_t>(bin);
    }
    std::sort(workspace_.ids.data(), end, [this](int32_t a, int32_t b) {
      const float x = logits_[static_cast<size_t>(a)], y = logits_[static_cast<size_t>(b)];
      return x > y || (x == y && a < b);
    });
  }

  std::span<const float> logits_;
  DrawWorkspace& workspace_;
  uint64_t weights_[kDrawBins] = {};  // up to and with a bin
  int64_t counts_[kDrawBins] = {};
  int sorted_bin_ = -1;
};

}  // namespace

int32_t draw_token(const TokenDraw& draw, std::span<const float> logits, DrawWorkspace& workspace) {
  const int32_t best = best_of(logits);
  if (best < 0 || draw.top_k == 1) return best;
  Walk walk(logits, logits[static_cast<size_t>(best)], draw.steepness, workspace);
  const uint64_t total = draw.top_k == 0 || draw.top_k >= walk.count() ? walk.total() : walk.find({0, draw.top_k}).weight;
  uint64_t kept = share_of_weight(draw.top_p, total);
  if (kept < total) kept = walk.find({kept, 0}).weight;
  if (draw.least < kWeightless) kept = std::min(kept, walk.weight_below(draw.least));
  return walk.find({drawn_weight(draw.random, kept), 0}).id;
}

void draw_tokens(Context& ctx, const DrawArgs& args) {
  const size_t vocab = static_cast<size_t>(args.logits.size);
  std::vector<DrawWorkspace> workspaces(static_cast<size_t>(ctx.threads()), DrawWorkspace(args.logits.size));
  ctx.pool().parallel_for(args.logits.count, 1, [&](int64_t begin, int64_t end, int worker) {
    for (int64_t row = begin; row < end; ++row) {
      const TokenDraw draw = args.draws ? args.draws[row] : TokenDraw();
      args.y[row] = draw_token(draw, {args.logits.row<float>(row), vocab}, workspaces[static_cast<size_t>(worker)]);
      args.next[row] = std::max(args.y[row], 0);
    }
  });
}

}  // namespace wick::cpu
