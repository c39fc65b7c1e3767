// What the command writes: answers on standard output, all else on standard error.
//
// Unbuffered: a piece of text is visible, or its failure known, when the call returns.
#pragma once

#include <chrono>
#include <cstdint>
#include <mutex>
#include <stdexcept>
#include <string>
#include <string_view>

#include "wick/base/log.h"

namespace wick::apps {

// A result could not be written. `quiet`: the reader went away, which needs no message.
class OutputError : public std::runtime_error {
 public:
  OutputError(const std::string& message, bool is_quiet) : std::runtime_error(message), quiet(is_quiet) {}
  const bool quiet;
};

// Makes sure that descriptors 0 to 2 are open, so that no file of ours becomes standard output; a closed one reads as empty and refuses writes.
void open_standard_streams();

// Bytes as they are. Throws OutputError.
void write_output(std::string_view bytes);
// As above, but on a terminal control characters other than newline and tab, and invalid bytes, become U+FFFD: a model's text must not steer it.
void write_output_text(std::string_view text);

bool stdin_is_terminal();
bool stdout_is_terminal();
bool stderr_is_terminal();

// "wick: …" on standard error when `level` is at least the level in force (kWarning unless set). Never throws; control characters are escaped.
void set_message_level(LogLevel level);
LogLevel message_level();
void say(LogLevel level, std::string_view message);
void write_message(std::string_view text);   // on standard error as it is
void print_error(std::string_view message);  // "wick: error: …", always

// Colour on standard error: a terminal, no NO_COLOR, TERM other than dumb, and not turned off.
void disable_color();
std::string styled(const char* ansi_code, std::string_view text);  // "1": bold; the text alone without colour

// A bar on standard error while something long runs. Shows nothing unless that is a terminal and 0.3 s have passed. Thread-safe.
class ProgressBar {
 public:
  explicit ProgressBar(std::string label) : label_(std::move(label)) {}
  ~ProgressBar() { finish(); }
  void update(uint64_t done, uint64_t total);
  void finish();  // takes the bar off the screen

 private:
  using Clock = std::chrono::steady_clock;
  const std::string label_;
  const Clock::time_point start_ = Clock::now();
  std::mutex mutex_;
  Clock::time_point drawn_{};
  bool visible_ = false;
};

std::string format_bytes(uint64_t bytes);                 // "98.4 MB"
std::string format_fixed(double value, int digits);       // "12.3"

}  // namespace wick::apps
