// Choosing a token from logits, the same everywhere for the same seed and logits.
//
// Order: logit bias, repeat penalty, temperature, top-k, top-p, min-p, then one draw, as wick/kernels/token_draw.h says: in integers, so
// that it depends on no math library, device or order of sums. The random numbers are splitmix64: draw n of a request is mix(seed + (n + 1)
// * 0x9e3779b97f4a7c15), with
//   mix(z): z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;  z = (z ^ z >> 27) * 0x94d049bb133111eb;  z ^ z >> 31.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "wick/engine/sampling.h"
#include "wick/kernels/token_draw.h"

namespace wick {

// Throws Error(kInvalidArgument) naming the parameter that is out of range or not finite. `vocab` bounds logit_bias.
void check_sampling(const SamplingParams& params, int64_t vocab);

// What draw number `draw` of a request does once biases and penalties are in the logits.
TokenDraw token_draw(const SamplingParams& params, uint64_t seed, uint64_t draw);

// Working memory for one vocabulary, shared by the sequences of an engine: choosing allocates nothing.
class Sampler {
 public:
  explicit Sampler(int64_t vocab);
  // The next token. `logits` [V] is used as working memory; `history` is every token so far; `draw` counts the draws of this request.
  // Returns -1 when a logit is NaN or +infinity, or all are -infinity.
  int32_t choose(const SamplingParams& params, std::span<float> logits, std::span<const int32_t> history, uint64_t seed, uint64_t draw);

 private:
  cpu::DrawWorkspace workspace_;
  std::vector<uint8_t> seen_;
};

}  // namespace wick
