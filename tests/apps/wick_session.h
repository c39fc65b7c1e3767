// A running `wick` command to talk with: what it says decides what comes next. On a terminal of its own or through pipes.
#pragma once

#include <sys/types.h>

#include <map>
#include <string>
#include <vector>

namespace wick::test {

struct SessionOptions {
  bool terminal = false;    // standard input and both outputs are one terminal; else pipes, both outputs into one
  std::string errors = {};  // without a terminal: a file for standard error instead
  std::map<std::string, std::string> environment = {};  // as WickOptions has it
};

class WickSession {
 public:
  WickSession(const std::vector<std::string>& arguments, const SessionOptions& options);
  ~WickSession();  // kills what still runs
  WickSession(const WickSession&) = delete;
  WickSession& operator=(const WickSession&) = delete;

  void send(const std::string& bytes);  // "\x03" is Ctrl-C and "\x04" Ctrl-D on a terminal
  void interrupt();                     // SIGINT
  void close_input();                   // pipes only
  void close_output();                  // the reader goes away
  // Reads until `text` has come since the last call, at most half a minute. False when it did not.
  bool wait_for(const std::string& text);
  int finish();  // reads to the end; the exit code, 128 + signal when one ended it, -1 when it goes on for half a minute
  const std::string& output() const { return output_; }

 private:
  bool read_more(int timeout_ms);  // false at the end or after the timeout

  pid_t pid_ = -1;
  int in_ = -1, out_ = -1;
  std::string output_;
  size_t seen_ = 0;
};

// Whether this system gives out pseudo terminals: a bare root without /dev/pts does not.
bool has_terminals();

}  // namespace wick::test

#define WICK_REQUIRE_TERMINAL() \
  if (!wick::test::has_terminals()) GTEST_SKIP() << "there are no pseudo terminals here"
