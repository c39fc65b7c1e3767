// Runs one request to its end while Ctrl-C can stop it.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "wick/base/function_ref.h"
#include "wick/engine/engine.h"

namespace wick::apps {

struct Answer {
  std::vector<int32_t> prompt_ids;
  std::vector<int32_t> ids;
  std::string text;
  FinishReason finish_reason = FinishReason::kNone;
  Usage usage;
};

// Calls on_text with each piece of text as it comes. Under an InterruptScope a signal ends the answer with kCancelled and what there is.
// Throws the request's Error.
Answer generate(Engine& engine, Request request, FunctionRef<void(std::string_view)> on_text);

// Tokens per second; 0 where nothing was measured.
double prompt_rate(const Usage& usage);
double generation_rate(const Usage& usage);  // after the first token
void say_timings(const Usage& usage);        // at level info

}  // namespace wick::apps
