// wick score: how probable a text is to the model, token by token.
#include <algorithm>
#include <cmath>
#include <limits>

#include "wick/apps/command.h"
#include "wick/apps/exit_code.h"
#include "wick/apps/generate.h"
#include "wick/apps/interrupt.h"
#include "wick/apps/json_output.h"
#include "wick/apps/model_flags.h"
#include "wick/apps/terminal.h"
#include "wick/apps/text_input.h"
#include "wick/apps/values.h"
#include "wick/base/error.h"

namespace wick::apps {
namespace {

// log softmax(logits)[id], in f64.
double log_probability(std::span<const float> logits, int32_t id) {
  const double largest = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const float logit : logits) sum += std::exp(static_cast<double>(logit) - largest);
  return static_cast<double>(logits[static_cast<size_t>(id)]) - largest - std::log(sum);
}

struct Score {
  std::vector<double> logprobs;  // of ids[1…]; NaN for the first token of a later window
  int64_t count = 0;
  double nll = 0;  // mean
};

class ScoreCommand : public Command {
 public:
  void declare(Flags& flags) override {
    flags.positional("MODEL", positional_, "As --model");
    model_.declare(flags);
    text_.declare(flags);
    flags.toggle("--parse-special", parse_special_, "Special tokens spelled out in the text become those tokens");
    flags.integer("--window", "N", 2, std::numeric_limits<int64_t>::max(), window_, "Tokens evaluated together; default and most: the context");
    flags.group("Output");
    flags.toggle("--json", json_, "One JSON object: ids, logprobs, perplexity, nll");
    flags.footer(
        "logprobs[i] is the natural logarithm of the probability of ids[i + 1] after those before it; nll is minus their mean,\n"
        "perplexity is e^nll. A text longer than the window is evaluated in windows that follow each other without overlap, each\n"
        "from nothing: the first token of each window is not scored (null in logprobs).");
  }

  int run(const Flags& flags) override {
    const std::string text = text_.read();
    const InterruptScope interrupts;
    const std::shared_ptr<const Model> model = model_.load(model_.choose(flags, positional_));
    const std::vector<int32_t> ids = model->tokenize(text, {.add_special = true, .parse_special = parse_special_});
    require(ids.size() >= 2, "the text has ", ids.size(), " tokens: scoring needs at least 2");
    Engine engine(model, model_.engine_options());
    const int64_t window = window_.value_or(engine.context());
    if (window > engine.context()) fail(ErrorCode::kLimitExceeded, "--window: ", window, " is more than the context of ", engine.context(), " tokens");
    print(ids, evaluate(engine, ids, window));
    return kExitDone;
  }

 private:
  static Score evaluate(Engine& engine, const std::vector<int32_t>& ids, int64_t window) {
    Score score;
    score.logprobs.assign(ids.size() - 1, std::numeric_limits<double>::quiet_NaN());
    ProgressBar bar("scoring");
    for (size_t begin = 0; begin < ids.size(); begin += static_cast<size_t>(window)) {
      const size_t end = std::min(ids.size(), begin + static_cast<size_t>(window));
      if (end - begin < 2) break;
      evaluate_window(engine, ids, begin, end, score);
      bar.update(end, ids.size());
    }
    for (const double logprob : score.logprobs) {
      if (std::isnan(logprob)) continue;
      score.nll -= logprob;
      ++score.count;
    }
    score.nll /= static_cast<double>(score.count);
    return score;
  }

  static void evaluate_window(Engine& engine, const std::vector<int32_t>& ids, size_t begin, size_t end, Score& score) {
    Request request;
    request.prompt_ids.assign(ids.begin() + static_cast<std::ptrdiff_t>(begin), ids.begin() + static_cast<std::ptrdiff_t>(end));
    request.max_tokens = 0;
    request.prompt_logits = Request::Logits::kAll;
    bool finite = true;
    request.on_prompt_logits = [&](int64_t position, std::span<const float> logits) {
      const size_t next = begin + static_cast<size_t>(position) + 1;
      if (next >= end) return;
      const double logprob = log_probability(logits, ids[next]);
      finite = finite && std::isfinite(logprob);
      score.logprobs[next - 1] = logprob;
    };
    const Answer answer = generate(engine, std::move(request), [](std::string_view) {});
    if (answer.finish_reason == FinishReason::kCancelled) fail(ErrorCode::kCancelled, "interrupted");
    if (!finite) fail(ErrorCode::kInternal, "the model's logits are not finite numbers");
  }

  void print(const std::vector<int32_t>& ids, const Score& score) const {
    const double perplexity = std::exp(score.nll);
    if (json_) {
      print_json({{"ids", ids}, {"logprobs", score.logprobs}, {"perplexity", perplexity}, {"nll", score.nll}});
      return;
    }
    write_output(concat("tokens      ", ids.size(), ", ", score.count, " scored\nnll         ", format_fixed(score.nll, 6), " per token\nperplexity  ",
                        format_fixed(perplexity, 4), "\n"));
  }

  std::optional<std::string> positional_;
  ModelFlags model_;
  TextInput text_;
  std::optional<int64_t> window_;
  bool parse_special_ = false, json_ = false;
};

}  // namespace

std::unique_ptr<Command> make_score() { return std::make_unique<ScoreCommand>(); }

}  // namespace wick::apps
