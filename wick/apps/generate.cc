#include "wick/apps/generate.h"

#include "wick/apps/interrupt.h"
#include "wick/apps/terminal.h"
#include "wick/base/error.h"

namespace wick::apps {

Answer generate(Engine& engine, Request request, FunctionRef<void(std::string_view)> on_text) {
  constexpr std::chrono::milliseconds kSignalCheck(50);
  ProgressBar bar("reading the prompt");
  request.on_prefill = [&bar](int64_t done, int64_t total) { bar.update(static_cast<uint64_t>(done), static_cast<uint64_t>(total)); };
  Stream stream = engine.submit(std::move(request));
  Answer answer;
  try {
    while (!stream.done()) {
      const std::optional<Piece> piece = stream.next(kSignalCheck);
      if (interrupted()) stream.cancel();
      if (!piece) continue;
      bar.finish();
      answer.ids.insert(answer.ids.end(), piece->ids.begin(), piece->ids.end());
      answer.text += piece->text;
      answer.finish_reason = piece->finish_reason;
      if (!piece->text.empty()) on_text(piece->text);
    }
  } catch (...) {
    // The engine's thread still holds `bar` through on_prefill: wait until it has let go.
    stream.cancel();
    try {
      while (!stream.done()) stream.next();
    } catch (const Error&) {
    }
    throw;
  }
  answer.prompt_ids = stream.prompt_ids();
  answer.usage = stream.usage();
  return answer;
}

double prompt_rate(const Usage& usage) { return usage.prompt_ms > 0 ? static_cast<double>(usage.prompt_tokens) * 1e3 / usage.prompt_ms : 0; }

double generation_rate(const Usage& usage) {
  return usage.generation_ms > 0 && usage.completion_tokens > 1 ? static_cast<double>(usage.completion_tokens - 1) * 1e3 / usage.generation_ms : 0;
}

void say_timings(const Usage& usage) {
  say(LogLevel::kInfo, concat("prompt ", usage.prompt_tokens, " tokens, ", format_fixed(prompt_rate(usage), 1), " tok/s; first token after ",
                              format_fixed(usage.first_token_ms, 0), " ms; answer ", usage.completion_tokens, " tokens, ",
                              format_fixed(generation_rate(usage), 1), " tok/s"));
}

}  // namespace wick::apps
