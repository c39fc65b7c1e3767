#include "wick/apps/chat.h"

#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "wick/apps/command.h"
#include "wick/apps/exit_code.h"
#include "wick/apps/generate.h"
#include "wick/apps/interrupt.h"
#include "wick/apps/model_flags.h"
#include "wick/apps/terminal.h"
#include "wick/apps/values.h"
#include "wick/base/error.h"

namespace wick::apps {
namespace {

constexpr size_t kMaxLine = size_t{16} << 20;
constexpr const char* kHelp =
    "  /reset          forget the conversation\n"
    "  /system TEXT    set what the model is told first, and forget the conversation; without TEXT: nothing\n"
    "  /exit           leave (also Ctrl-D)\n"
    "  /help           this\n"
    "  \\               at the end of a line: it goes on in the next one\n"
    "  Ctrl-C          stops an answer\n";

// Lines from standard input. Blocks while there is none; editing is the terminal's.
class LineReader {
 public:
  enum class Result { kLine, kEnd, kInterrupted };

  Result next(std::string& line) {
    line.clear();
    while (true) {
      const size_t newline = buffer_.find('\n', begin_);
      if (newline != std::string::npos) {
        line.append(buffer_, begin_, newline - begin_);
        begin_ = newline + 1;
        return Result::kLine;
      }
      line.append(buffer_, begin_, std::string::npos);
      buffer_.clear();
      begin_ = 0;
      if (line.size() > kMaxLine) fail(ErrorCode::kLimitExceeded, "a line of the input is longer than ", kMaxLine, " bytes");
      char block[4096];
      if (!wait_readable(STDIN_FILENO)) return Result::kInterrupted;
      const ssize_t got = ::read(STDIN_FILENO, block, sizeof block);
      if (got < 0 && errno == EINTR) {
        buffer_.swap(line);
        line.clear();
        continue;
      }
      if (got < 0) fail(ErrorCode::kIo, "cannot read standard input: ", std::strerror(errno));
      if (got == 0) return line.empty() ? Result::kEnd : Result::kLine;
      buffer_.assign(block, static_cast<size_t>(got));
    }
  }

 private:
  std::string buffer_;
  size_t begin_ = 0;
};

class Conversation {
 public:
  Conversation(Engine& engine, const GenerationFlags& generation, const std::optional<std::string>& system)
      : engine_(engine), generation_(generation), system_(system), interactive_(stdin_is_terminal()) {
    reset();
  }

  void run() {
    if (interactive_) write_message(shown(engine_.model().name()) + ": /help lists the commands, Ctrl-D leaves\n");
    std::string line, text;
    while (true) {
      prompt(text.empty() ? "> " : ". ");
      const LineReader::Result result = reader_.next(line);
      if (result == LineReader::Result::kInterrupted) {
        clear_interrupt();
        text.clear();
        if (interactive_) write_message("\n(Ctrl-D leaves)\n");
        continue;
      }
      if (result == LineReader::Result::kEnd) break;
      if (!line.empty() && line.back() == '\\') {
        line.back() = '\n';
        text += line;
        continue;
      }
      text += line;
      if (!take(text)) return;
      text.clear();
    }
    if (!text.empty()) take(text);
    if (interactive_) write_message("\n");
  }

 private:
  void prompt(const char* mark) const {
    if (interactive_) write_message(styled("1;32", mark));
  }

  void reset() {
    messages_.clear();
    if (system_ && !system_->empty()) messages_.push_back({"system", *system_});
  }

  // False when the conversation is to end.
  bool take(const std::string& text) {
    if (text.find_first_not_of(" \t\r\n") == std::string::npos) return true;
    if (text[0] != '/') {
      answer(text);
      return true;
    }
    const size_t space = text.find(' ');
    const std::string command = text.substr(0, space);
    if (command == "/exit" || command == "/quit") return false;
    if (command == "/reset") {
      reset();
    } else if (command == "/system") {
      system_ = space == std::string::npos ? "" : text.substr(space + 1);
      reset();
    } else if (command == "/help") {
      write_message(kHelp);
    } else {
      say(LogLevel::kWarning, "unknown command " + command + ": /help lists them");
    }
    return true;
  }

  void answer(const std::string& text) {
    messages_.push_back({"user", text});
    Request request;
    request.messages = messages_;
    generation_.apply(engine_.model().default_sampling(), request, false);
    say(LogLevel::kInfo, concat("seed ", *request.sampling.seed));
    try {
      const Answer answer = generate(engine_, std::move(request), [](std::string_view piece) { write_output_text(piece); });
      write_output("\n");
      say_timings(answer.usage);
      if (answer.finish_reason == FinishReason::kLength) say(LogLevel::kWarning, "the answer was cut at its limit of tokens");
      messages_.push_back({"assistant", answer.text});
    } catch (const Error& error) {
      messages_.pop_back();
      print_error(concat(error.what(), error.code() == ErrorCode::kLimitExceeded ? " (/reset makes room)" : ""));
    }
    clear_interrupt();
  }

  Engine& engine_;
  const GenerationFlags& generation_;
  std::optional<std::string> system_;
  const bool interactive_;
  std::vector<ChatMessage> messages_;
  LineReader reader_;
};

class ChatCommand : public Command {
 public:
  void declare(Flags& flags) override {
    flags.positional("MODEL", positional_, "As --model");
    model_.declare(flags);
    flags.group("Text");
    flags.text("--system", "TEXT", system_, "What the model is told first");
    generation_.declare(flags);
    flags.footer("In the conversation: /help, /reset, /system TEXT, /exit. Ctrl-C stops an answer, Ctrl-D leaves.");
  }

  int run(const Flags& flags) override {
    const InterruptScope interrupts;
    const std::shared_ptr<const Model> model = model_.load(model_.choose(flags, positional_));
    model->chat_template();  // fails now rather than at the first line
    const EngineOptions options = model_.engine_options();
    Engine engine(model, options);
    say_engine(engine, options);
    return chat(engine, generation_, system_);
  }

 private:
  std::optional<std::string> positional_, system_;
  ModelFlags model_;
  GenerationFlags generation_;
};

}  // namespace

int chat(Engine& engine, const GenerationFlags& generation, const std::optional<std::string>& system) {
  const InterruptScope interrupts({SIGINT}, false);
  Conversation(engine, generation, system).run();
  return kExitDone;
}

std::unique_ptr<Command> make_chat() { return std::make_unique<ChatCommand>(); }

}  // namespace wick::apps
