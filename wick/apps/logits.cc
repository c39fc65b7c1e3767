// wick logits: the raw f32 logits after a text, or after each of its tokens, as a .npy file.
#include "wick/apps/command.h"
#include "wick/apps/exit_code.h"
#include "wick/apps/generate.h"
#include "wick/apps/interrupt.h"
#include "wick/apps/json_output.h"
#include "wick/apps/model_flags.h"
#include "wick/apps/npy.h"
#include "wick/apps/output_file.h"
#include "wick/apps/terminal.h"
#include "wick/apps/text_input.h"
#include "wick/apps/values.h"
#include "wick/base/checked.h"
#include "wick/base/error.h"
#include "wick/base/machine.h"

namespace wick::apps {
namespace {

class LogitsCommand : public Command {
 public:
  void declare(Flags& flags) override {
    flags.positional("MODEL", positional_, "As --model");
    model_.declare(flags);
    text_.declare(flags);
    flags.custom("--ids", "1,2,…", [this](const std::string& text) { ids_ = parse_ids(text); }, "Token ids instead of a text");
    flags.toggle("--parse-special", parse_special_, "Special tokens spelled out in the text become those tokens");
    flags.integer("--chunk", "N", 1, 65536, chunk_, "Tokens of a step at most: 1 takes the way of generated tokens; default: as for any prompt");
    flags.group("Output");
    flags.text("--out", "FILE", out_, "The .npy file to write: f32 [vocabulary], with --all [tokens, vocabulary]");
    flags.toggle("--all", all_, "Of every position, not only the last");
    flags.toggle("--json", json_, "One JSON object: shape");
    flags.footer("Nothing is added to the text but what the tokenizer adds, and nothing at all to --ids.");
  }

  int run(const Flags& flags) override {
    require(out_.has_value(), "--out FILE.npy is missing");
    require(ids_.empty() || !text_.any(), "--ids and --prompt or --file both give the text: give one");
    std::string text = ids_.empty() ? text_.read() : std::string();
    const InterruptScope interrupts;
    const std::shared_ptr<const Model> model = model_.load(model_.choose(flags, positional_));
    if (ids_.empty()) ids_ = model->tokenize(text, {.add_special = true, .parse_special = parse_special_});
    EngineOptions options = model_.engine_options();
    if (chunk_) options.prefill_chunk = *chunk_;
    Engine engine(model, options);
    const std::vector<int64_t> shape = all_ ? std::vector<int64_t>{static_cast<int64_t>(ids_.size()), model->vocab_size()}
                                            : std::vector<int64_t>{model->vocab_size()};
    const std::string content = evaluate(engine, shape);
    OutputFile file(*out_);
    file.append(content);
    file.commit();
    if (json_) {
      print_json({{"shape", shape}, {"out", *out_}});
    } else {
      say(LogLevel::kInfo, "wrote " + shown(*out_));
    }
    return kExitDone;
  }

 private:
  std::string evaluate(Engine& engine, const std::vector<int64_t>& shape) const {
    std::string content = npy_header_f32(shape);
    uint64_t bytes = sizeof(float);
    for (const int64_t size : shape) bytes = mul_or_fail(bytes, static_cast<uint64_t>(size), "logits", ErrorCode::kLimitExceeded);
    if (bytes > memory_available_bytes()) {
      fail(ErrorCode::kOutOfMemory, "the logits of ", shape[0], " positions need ", format_bytes(bytes), ", ", format_bytes(memory_available_bytes()), " are free");
    }
    content.reserve(content.size() + bytes);
    Request request;
    request.prompt_ids = ids_;
    request.max_tokens = 0;
    request.prompt_logits = all_ ? Request::Logits::kAll : Request::Logits::kLast;
    request.on_prompt_logits = [&content](int64_t, std::span<const float> logits) { append_f32(content, logits); };
    const Answer answer = generate(engine, std::move(request), [](std::string_view) {});
    if (answer.finish_reason == FinishReason::kCancelled) fail(ErrorCode::kCancelled, "interrupted");
    return content;
  }

  std::optional<std::string> positional_, out_;
  ModelFlags model_;
  TextInput text_;
  std::vector<int32_t> ids_;
  std::optional<int64_t> chunk_;
  bool parse_special_ = false, all_ = false, json_ = false;
};

}  // namespace

std::unique_ptr<Command> make_logits() { return std::make_unique<LogitsCommand>(); }

}  // namespace wick::apps
