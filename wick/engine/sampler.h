// Choosing a token from logits, the same everywhere for the same seed and logits.
//
// Order: logit bias, repeat penalty, temperature, top-k, top-p, min-p, then one draw. Probabilities are computed in f64 with an exponential
// made of plain additions and multiplications, so they do not depend on a math library. The random numbers are splitmix64: draw n of a
// request is mix(seed + (n + 1) * 0x9e3779b97f4a7c15), its upper 53 bits / 2^53, with
//   mix(z): z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;  z = (z ^ z >> 27) * 0x94d049bb133111eb;  z ^ z >> 31.
// The draw walks the kept tokens from the most to the least probable (lower id first among equals).
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "wick/engine/sampling.h"

namespace wick {

// Throws Error(kInvalidArgument) naming the parameter that is out of range or not finite. `vocab` bounds logit_bias.
void check_sampling(const SamplingParams& params, int64_t vocab);

// Working memory for one vocabulary, shared by the sequences of an engine: choosing allocates nothing.
class Sampler {
 public:
  explicit Sampler(int64_t vocab);
  // The next token. `logits` [V] is used as working memory; `history` is every token so far; `draw` counts the draws of this request.
  // Returns -1 when a logit is NaN or +infinity, or all are -infinity.
  int32_t choose(const SamplingParams& params, std::span<float> logits, std::span<const int32_t> history, uint64_t seed, uint64_t draw);

 private:
  struct Candidate {
    float logit;
    int32_t id;
  };
  static bool by_logit(const Candidate& a, const Candidate& b);
  int64_t keep_candidates(const SamplingParams& params, std::span<const float> logits);
  std::vector<Candidate> candidates_;
  std::vector<double> weights_;
  std::vector<uint8_t> seen_;
};

}  // namespace wick
