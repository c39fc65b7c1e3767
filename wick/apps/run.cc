// wick run: one completion, streamed.
#include <limits>

#include "wick/apps/cache.h"
#include "wick/apps/chat.h"
#include "wick/apps/command.h"
#include "wick/apps/exit_code.h"
#include "wick/apps/generate.h"
#include "wick/apps/generation_flags.h"
#include "wick/apps/interrupt.h"
#include "wick/apps/json_output.h"
#include "wick/apps/messages.h"
#include "wick/apps/model_flags.h"
#include "wick/apps/terminal.h"
#include "wick/apps/text_input.h"
#include "wick/base/error.h"

namespace wick::apps {
namespace {

using Clock = std::chrono::steady_clock;

Json answer_json(const Model& model, const Answer& answer, double load_ms) {
  const Usage& usage = answer.usage;
  return {{"model", model.name()},
          {"prompt_ids", answer.prompt_ids},
          {"ids", answer.ids},
          {"text", answer.text},
          {"finish_reason", finish_reason_name(answer.finish_reason)},
          {"seed", usage.seed},
          {"timings",
           {{"load_ms", load_ms},
            {"prompt_tokens", usage.prompt_tokens},
            {"prompt_tok_s", prompt_rate(usage)},
            {"first_token_ms", usage.first_token_ms},
            {"gen_tokens", usage.completion_tokens},
            {"gen_tok_s", generation_rate(usage)}}}};
}

class RunCommand : public Command {
 public:
  void declare(Flags& flags) override {
    flags.positional("MODEL", first_, "As --model. A single argument that is not a model is the PROMPT");
    flags.positional("PROMPT", second_, "The text; else -p, -f, --messages or standard input; on a terminal without any: chat");
    model_.declare(flags);
    text_.declare(flags);
    flags.text("--messages", "FILE", messages_, "A conversation: JSON list of {\"role\", \"content\"}, - for standard input");
    flags.text("--system", "TEXT", system_, "What the model is told first");
    flags.toggle("--raw", raw_, "The text as it is, without the chat template; special tokens in it are recognised");
    generation_.declare(flags);
    flags.group("Output");
    flags.toggle("--json", json_, "One JSON object instead of the text");
    flags.footer("Outside --raw one newline at the end of a file or of standard input is dropped. Ctrl-C stops the answer: exit status 130.");
  }

  int run(const Flags& flags) override {
    sort_out_positionals(flags);
    check_combination();
    const bool as_chat = !prompt_ && !messages_ && !text_.any() && stdin_is_terminal() && stdout_is_terminal() && !raw_ && !json_;
    Request request;
    if (!as_chat) fill_prompt(request);
    const InterruptScope interrupts;
    const Clock::time_point start = Clock::now();
    const std::shared_ptr<const Model> model = model_.load(model_.choose(flags, chosen_));
    if (!raw_) model->chat_template();
    const EngineOptions options = model_.engine_options();
    Engine engine(model, options);
    const double load_ms = std::chrono::duration<double, std::milli>(Clock::now() - start).count();
    say_engine(engine, options);
    if (as_chat) return chat(engine, generation_, system_);
    generation_.apply(model->default_sampling(), request, !json_);
    return complete(engine, std::move(request), load_ms);
  }

 private:
  // Which of the two positionals is what: two are MODEL PROMPT; one is the PROMPT when --model is there, the MODEL when the text comes
  // from elsewhere, and otherwise what it looks like.
  void sort_out_positionals(const Flags& flags) {
    if (!first_) return;
    const bool text_elsewhere = text_.given(flags) || flags.on_command_line("--messages");
    const bool model_elsewhere = flags.on_command_line("--model");
    if (second_) {
      chosen_ = first_;
      prompt_ = second_;
    } else if (model_elsewhere) {
      prompt_ = first_;
    } else if (text_elsewhere || looks_like_model(*first_)) {
      chosen_ = first_;
    } else {
      prompt_ = first_;
    }
    require(!(prompt_ && text_elsewhere), "PROMPT and --prompt, --file or --messages all give the text: give one");
  }

  void check_combination() const {
    require(!(messages_ && !prompt_ && text_.any()), "--messages and --prompt or --file both give the text: give one");
    require(!(raw_ && messages_), "--raw and --messages do not go together: messages need the chat template");
    require(!(raw_ && system_), "--raw and --system do not go together: the system text needs the chat template");
  }

  void fill_prompt(Request& request) const {
    if (system_) request.messages.push_back({"system", *system_});
    if (messages_ && !prompt_) {
      for (ChatMessage& message : read_messages(*messages_)) request.messages.push_back(std::move(message));
      return;
    }
    std::string text = prompt_ ? *prompt_ : text_.read();
    require(!text.empty(), "the prompt is empty");
    if (raw_) {
      request.prompt = std::move(text);
      return;
    }
    if (!prompt_ && text_.from_file() && !text.empty() && text.back() == '\n') text.pop_back();
    request.messages.push_back({"user", std::move(text)});
  }

  int complete(Engine& engine, Request request, double load_ms) const {
    bool at_line_start = false;
    const bool announce_seed = !generation_.has_seed() && request.sampling.temperature > 0;
    const Answer answer = generate(engine, std::move(request), [&](std::string_view piece) {
      if (json_) return;
      write_output_text(piece);
      at_line_start = piece.back() == '\n';
    });
    if (json_) {
      print_json(answer_json(engine.model(), answer, load_ms));
    } else if (!at_line_start) {
      write_output("\n");
    }
    if (!json_ && announce_seed) say(LogLevel::kWarning, concat("seed ", answer.usage.seed));
    say_timings(answer.usage);
    return answer.finish_reason == FinishReason::kCancelled ? kExitInterrupted : kExitDone;
  }

  std::optional<std::string> first_, second_, chosen_, prompt_, messages_, system_;
  ModelFlags model_;
  TextInput text_;
  GenerationFlags generation_;
  bool raw_ = false, json_ = false;
};

}  // namespace

std::unique_ptr<Command> make_run() { return std::make_unique<RunCommand>(); }

}  // namespace wick::apps
