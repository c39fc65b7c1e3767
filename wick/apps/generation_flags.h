// The flags that say how an answer is chosen and when it ends: shared by run and chat.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "wick/apps/flags.h"
#include "wick/engine/engine.h"

namespace wick::apps {

class GenerationFlags {
 public:
  void declare(Flags& flags);
  // Sets sampling, limits and stops; the seed is the one given or a random one. `announce`: says how it samples, for those who want to know.
  void apply(const SamplingParams& defaults, Request& request, bool announce) const;
  bool has_seed() const { return seed_.has_value(); }

 private:
  std::optional<double> temperature_, top_p_, min_p_, repeat_penalty_;
  std::optional<int64_t> top_k_, max_tokens_;
  std::optional<uint64_t> seed_;
  std::vector<std::string> stop_;
  std::map<int32_t, float> logit_bias_;
  bool ignore_eos_ = false;
};

}  // namespace wick::apps
