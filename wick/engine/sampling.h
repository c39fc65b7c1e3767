// How the next token is chosen from a row of logits.
#pragma once

#include <cstdint>
#include <map>
#include <optional>

namespace wick {

struct SamplingParams {
  float temperature = 0.7f;  // 0: the largest logit, lowest id on a tie
  int32_t top_k = 0;         // keep the k largest; 0: all
  float top_p = 0.95f;       // keep the smallest set whose probability reaches p; 1: all
  float min_p = 0.0f;        // keep tokens at least this fraction as likely as the best; 0: all
  float repeat_penalty = 1.0f;             // divides positive, multiplies negative logits of tokens seen in the last repeat_window; 1: off
  int32_t repeat_window = 64;
  std::map<int32_t, float> logit_bias;     // added to the logit before anything else
  std::optional<uint64_t> seed;            // random when not given; Usage::seed says which was used
};

}  // namespace wick
