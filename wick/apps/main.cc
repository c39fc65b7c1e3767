// The `wick` command: finds the subcommand, parses its flags, runs it, and turns failures into one line and an exit code.
#include <csignal>
#include <cstring>
#include <string>
#include <vector>

#include "wick/apps/build_info.h"
#include "wick/apps/command.h"
#include "wick/apps/exit_code.h"
#include "wick/apps/json_output.h"
#include "wick/apps/terminal.h"
#include "wick/apps/values.h"
#include "wick/base/error.h"

namespace wick::apps {
namespace {

constexpr CommandEntry kCommands[] = {
    {"run", "Complete a prompt, streamed as it is made", make_run},
    {"chat", "Talk with a model", make_chat},
    {"tokenize", "Token ids of a text, or the text of token ids", make_tokenize},
    {"score", "Log-probability of each token of a text, and its perplexity", make_score},
    {"logits", "Logits after a text, as a NumPy file", make_logits},
    {"bench", "Prefill and decode speed against this machine's memory bandwidth", make_bench},
    {"bench-ops", "Each op against its reference, the naive way and PyTorch", make_bench_ops},
    {"inspect", "What is in a model file", make_inspect},
    {"quantize", "A model file with its weights in another type", make_quantize},
    {"synth", "A model of a known shape with random weights, for speed tests", make_synth},
    {"pull", "Download a model", make_pull},
    {"list", "The models that have a name", make_list},
    {"doctor", "What wick sees of this machine: for bug reports", make_doctor},
};

std::string general_help() {
  std::string text = "wick runs language models.\n\nUsage: wick COMMAND [ARGUMENTS] [FLAGS]\n\nCommands:\n";
  for (const CommandEntry& entry : kCommands) {
    text += std::string("  ") + entry.name + std::string(12 - std::strlen(entry.name), ' ') + entry.summary + "\n";
  }
  return text +
         "\nFlags:\n"
         "  -h, --help        Show this; after a command, its flags\n"
         "  --version         Show the version, with --json as JSON\n"
         "\nEvery flag can also be set in the environment: --kv-type is WICK_KV_TYPE. The command line wins, then the environment, then a file: --config F.toml.\n"
         "WICK_CACHE names the folder for models, WICK_CPU an instruction set.\n"
         "\nExit status: 0 done, 1 failed while running, 2 usage, 3 file missing, unreadable or invalid,\n"
         "4 unsupported model, type or device, 5 out of memory or over a limit, 130 stopped by Ctrl-C.\n"
         "\nTry: wick pull smollm2-135m && wick run \"Why is the sky blue?\"\n";
}

const CommandEntry* find_command(const std::string& name) {
  for (const CommandEntry& entry : kCommands) {
    if (name == entry.name) return &entry;
  }
  return nullptr;
}

// Where the command stands: flags of the command may come before it (`wick --json doctor`). arguments.size() when there is none.
size_t command_position(const std::vector<std::string>& arguments) {
  for (size_t i = 0; i < arguments.size(); ++i) {
    const std::string& argument = arguments[i];
    if (argument.empty() || argument[0] != '-') return i;
    for (const char* with_value : {"-m", "--model", "-t", "--threads", "--device", "--log-level", "--config"}) {
      if (argument == with_value) ++i;
    }
  }
  return arguments.size();
}

bool contains(const std::vector<std::string>& arguments, const char* argument) {
  for (const std::string& each : arguments) {
    if (each == argument) return true;
  }
  return false;
}

int run_without_command(const std::vector<std::string>& arguments) {
  if (contains(arguments, "--help") || contains(arguments, "-h")) {
    write_output(general_help());
    return kExitDone;
  }
  if (contains(arguments, "--version")) {
    for (const std::string& argument : arguments) {
      require(argument == "--version" || argument == "--json", "unknown flag '", argument, "' beside --version");
    }
    if (contains(arguments, "--json")) {
      print_json({{"version", WICK_VERSION}, {"compiler", compiler_name()}});
    } else {
      write_output("wick " WICK_VERSION "\n");
    }
    return kExitDone;
  }
  if (!arguments.empty()) fail(ErrorCode::kInvalidArgument, "no command after '", shown(arguments[0]), "': wick --help shows the commands");
  write_message(general_help());
  return kExitUsage;
}

LogLevel level_from_name(const std::string& name) {
  if (name == "debug") return LogLevel::kDebug;
  if (name == "info") return LogLevel::kInfo;
  return name == "error" ? LogLevel::kError : LogLevel::kWarning;
}

int run_command(const CommandEntry& entry, std::vector<std::string> arguments) {
  const std::unique_ptr<Command> command = entry.make();
  Flags flags(std::string("wick ") + entry.name, entry.summary);
  command->declare(flags);
  bool no_color = false;
  std::optional<std::string> level;
  flags.group("Other");
  flags.choice("--log-level", "LEVEL", {"debug", "info", "warning", "error"}, level, "Least severe message to show: debug, info, warning (default), error");
  flags.toggle("--no-color", no_color, "No colour (also: NO_COLOR)");
  if (!flags.parse(std::move(arguments))) {
    write_output(flags.help());
    return kExitDone;
  }
  if (no_color) disable_color();
  if (level) set_message_level(level_from_name(*level));
  return command->run(flags);
}

int dispatch(std::vector<std::string> arguments) {
  const size_t position = command_position(arguments);
  if (position == arguments.size()) return run_without_command(arguments);
  const std::string name = arguments[position];
  const CommandEntry* entry = find_command(name);
  require(entry != nullptr, "unknown command '", shown(name), "': wick --help shows the commands");
  arguments.erase(arguments.begin() + static_cast<std::ptrdiff_t>(position));
  return run_command(*entry, std::move(arguments));
}

}  // namespace
}  // namespace wick::apps

int main(int argc, char** argv) {
  using namespace wick::apps;
  std::signal(SIGPIPE, SIG_IGN);  // a write to a reader that went away is an error like any other
  open_standard_streams();
  try {
    return dispatch(std::vector<std::string>(argv + (argc > 0 ? 1 : 0), argv + argc));
  } catch (...) {
    return report_current_exception();
  }
}
