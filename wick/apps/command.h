// One subcommand of `wick`: it declares its flags, then runs. Each lives in a file of its own with a make function; main.cc has the table.
#pragma once

#include <memory>

#include "wick/apps/flags.h"

namespace wick::apps {

class Command {
 public:
  virtual ~Command() = default;
  virtual void declare(Flags& flags) = 0;        // binds members of this object, which must outlive `flags`
  virtual int run(const Flags& flags) = 0;       // after the flags are parsed; the exit code. Throws Error and OutputError.
};

struct CommandEntry {
  const char* name;
  const char* summary;
  std::unique_ptr<Command> (*make)();
};

std::unique_ptr<Command> make_run();
std::unique_ptr<Command> make_chat();
std::unique_ptr<Command> make_tokenize();
std::unique_ptr<Command> make_logits();
std::unique_ptr<Command> make_score();
std::unique_ptr<Command> make_bench();
std::unique_ptr<Command> make_bench_ops();
std::unique_ptr<Command> make_inspect();
std::unique_ptr<Command> make_quantize();
std::unique_ptr<Command> make_synth();
std::unique_ptr<Command> make_pull();
std::unique_ptr<Command> make_list();
std::unique_ptr<Command> make_doctor();

}  // namespace wick::apps
