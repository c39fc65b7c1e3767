// Runs another program without a shell.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

namespace wick::apps {

struct ProcessResult {
  int exit_code = 0;   // 128 + signal when one ended it
  std::string output;  // the last 64 KiB of its standard output and standard error
};

// arguments[0] is looked up on PATH. Standard input is empty. Under an InterruptScope a signal is passed on to the program, and after its end
// Error(kCancelled) is thrown. Error(kNotFound) when there is no such program, Error(kIo) when it cannot be started.
ProcessResult run_process(const std::vector<std::string>& arguments);

// A program that answers each line on its standard input with one on its standard output. Its standard error is ours, or goes nowhere when
// `quiet`. It is ended with this object.
class LineProcess {
 public:
  // Throws as run_process.
  LineProcess(const std::vector<std::string>& arguments, bool quiet);
  ~LineProcess();
  LineProcess(const LineProcess&) = delete;
  LineProcess& operator=(const LineProcess&) = delete;

  // The answer to `line`, both without their newline. Error(kIo) when the program ends instead, Error(kCancelled) under an InterruptScope.
  std::string ask(const std::string& line);

 private:
  pid_t pid_ = -1;
  int to_ = -1;
  int from_ = -1;
  std::string read_;  // beyond the last answer
};

}  // namespace wick::apps
