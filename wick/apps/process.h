// Runs another program without a shell and waits for it.
#pragma once

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

}  // namespace wick::apps
