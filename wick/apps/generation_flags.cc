#include "wick/apps/generation_flags.h"

#include <limits>
#include <random>

#include "wick/apps/terminal.h"
#include "wick/apps/values.h"
#include "wick/base/error.h"

namespace wick::apps {
namespace {

// "ID=BIAS[,ID=BIAS…]"; -inf bans a token.
void parse_logit_bias(std::string_view text, std::map<int32_t, float>& out) {
  constexpr double kLargest = 1e30;
  while (true) {
    const size_t comma = text.find(',');
    const std::string_view item = text.substr(0, comma);
    const size_t equals = item.find('=');
    require(equals != std::string_view::npos, "'", shown(item), "' is not ID=BIAS");
    const auto id = static_cast<int32_t>(parse_integer(item.substr(0, equals), 0, std::numeric_limits<int32_t>::max()));
    const std::string_view bias = item.substr(equals + 1);
    out[id] = bias == "-inf" ? -std::numeric_limits<float>::infinity() : static_cast<float>(parse_number(bias, -kLargest, kLargest));
    if (comma == std::string_view::npos) return;
    text.remove_prefix(comma + 1);
  }
}

uint64_t random_seed() {
  std::random_device device;
  return static_cast<uint64_t>(device()) << 32 | device();
}

}  // namespace

void GenerationFlags::declare(Flags& flags) {
  flags.group("Answer");
  flags.integer("-n,--max-tokens", "N", 0, std::numeric_limits<int64_t>::max(), max_tokens_, "Tokens at most; default: to the end of text or context");
  flags.custom(
      "--stop", "TEXT",
      [this](const std::string& text) {
        require(!text.empty(), "a stop text must not be empty");
        stop_.push_back(text);
      },
      "End before this text; may be repeated", true);
  flags.toggle("--ignore-eos", ignore_eos_, "Go on after the end of text");
  flags.group("Sampling");
  flags.number("--temperature,--temp", "T", 0, 100, temperature_, "0: always the most likely token; default: the model's, else 0.7");
  flags.integer("--top-k", "K", 0, std::numeric_limits<int32_t>::max(), top_k_, "Among the K most likely; 0: all");
  flags.number("--top-p", "P", 0, 1, top_p_, "Among the most likely that together reach P; 1: all; default: the model's, else 0.95");
  flags.number("--min-p", "P", 0, 1, min_p_, "Among those at least P times as likely as the best; 0: all");
  flags.number("--repeat-penalty", "X", 0.01, 100, repeat_penalty_, "Makes recent tokens less likely; 1: off");
  flags.custom("-s,--seed", "N", [this](const std::string& text) { seed_ = parse_unsigned(text); }, "Same seed, same answer; default: random, printed");
  flags.custom("--logit-bias", "ID=BIAS", [this](const std::string& text) { parse_logit_bias(text, logit_bias_); },
               "Added to the logit of token ID, -inf bans it; commas between several; may be repeated", true);
}

void GenerationFlags::apply(const SamplingParams& defaults, Request& request, bool announce) const {
  SamplingParams& sampling = request.sampling;
  sampling = defaults;
  if (temperature_) sampling.temperature = static_cast<float>(*temperature_);
  if (top_k_) sampling.top_k = static_cast<int32_t>(*top_k_);
  if (top_p_) sampling.top_p = static_cast<float>(*top_p_);
  if (min_p_) sampling.min_p = static_cast<float>(*min_p_);
  if (repeat_penalty_) sampling.repeat_penalty = static_cast<float>(*repeat_penalty_);
  sampling.logit_bias = logit_bias_;
  sampling.seed = seed_ ? *seed_ : random_seed();
  request.max_tokens = max_tokens_.value_or(-1);
  request.stop = stop_;
  request.ignore_eos = ignore_eos_;
  if (!announce) return;
  say(LogLevel::kInfo, concat("temperature ", sampling.temperature, ", top-k ", sampling.top_k, ", top-p ", sampling.top_p, ", min-p ", sampling.min_p,
                              ", repeat penalty ", sampling.repeat_penalty));
}

}  // namespace wick::apps
