#include "wick/apps/terminal.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "wick/apps/values.h"
#include "wick/text/utf8.h"

namespace wick::apps {
namespace {

std::atomic<LogLevel> g_level{LogLevel::kWarning};
std::atomic<bool> g_color{true};
constexpr size_t kMessageBytes = 4000;

// 0, or the errno of the write that failed.
int write_all(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t put = ::write(fd, bytes.data(), std::min<size_t>(bytes.size(), 1u << 30));
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) return errno;
    bytes.remove_prefix(static_cast<size_t>(put));
  }
  return 0;
}

bool color_on_stderr() {
  if (!g_color.load(std::memory_order_relaxed) || !stderr_is_terminal()) return false;
  const char* no_color = std::getenv("NO_COLOR");
  const char* term = std::getenv("TERM");
  return !(no_color && *no_color) && !(term && std::string_view(term) == "dumb");
}

}  // namespace

void open_standard_streams() {
  for (int fd = 0; fd < 3; ++fd) {
    if (::fcntl(fd, F_GETFD) >= 0) continue;
    // The lowest free number is fd. Read-only also for the outputs: a write then fails, as it should.
    if (::open("/dev/null", O_RDONLY) != fd) std::_Exit(1);
  }
}

void write_output(std::string_view bytes) {
  const int error = write_all(STDOUT_FILENO, bytes);
  if (error) throw OutputError(std::string("cannot write to standard output: ") + std::strerror(error), error == EPIPE);
}

void write_output_text(std::string_view text) {
  if (!stdout_is_terminal()) return write_output(text);
  std::string safe;
  safe.reserve(text.size());
  for (size_t at = 0; at < text.size();) {
    const Utf8Char character = next_utf8(text, at);
    const std::string_view bytes = text.substr(at, character.length);
    const bool harmless = character.status == Utf8Status::kValid && (!is_control(character.code_point) || bytes == "\n" || bytes == "\t");
    safe += harmless ? bytes : "\xef\xbf\xbd";
    at += character.length;
  }
  write_output(safe);
}

bool stdin_is_terminal() { return ::isatty(STDIN_FILENO) == 1; }
bool stdout_is_terminal() { return ::isatty(STDOUT_FILENO) == 1; }
bool stderr_is_terminal() { return ::isatty(STDERR_FILENO) == 1; }

void set_message_level(LogLevel level) { g_level.store(level, std::memory_order_relaxed); }
LogLevel message_level() { return g_level.load(std::memory_order_relaxed); }

void say(LogLevel level, std::string_view message) {
  if (level >= message_level()) write_all(STDERR_FILENO, "wick: " + shown(message, kMessageBytes) + "\n");
}

void write_message(std::string_view text) { write_all(STDERR_FILENO, text); }

void print_error(std::string_view message) {
  write_all(STDERR_FILENO, "wick: " + styled("31;1", "error:") + " " + shown(message, kMessageBytes) + "\n");
}

void disable_color() { g_color.store(false, std::memory_order_relaxed); }

std::string styled(const char* ansi_code, std::string_view text) {
  if (!color_on_stderr()) return std::string(text);
  return std::string("\x1b[") + ansi_code + "m" + std::string(text) + "\x1b[0m";
}

void ProgressBar::update(uint64_t done, uint64_t total) {
  constexpr auto kPatience = std::chrono::milliseconds(300), kInterval = std::chrono::milliseconds(50);
  constexpr int kWidth = 30;
  const std::lock_guard lock(mutex_);
  const Clock::time_point now = Clock::now();
  if (total == 0 || now - start_ < kPatience || now - drawn_ < kInterval || !stderr_is_terminal()) return;
  drawn_ = now;
  visible_ = true;
  const double share = std::min(1.0, static_cast<double>(done) / static_cast<double>(total));
  const int full = static_cast<int>(share * kWidth);
  write_all(STDERR_FILENO, "\r" + label_ + " [" + std::string(full, '#') + std::string(kWidth - full, '.') + "] " + format_fixed(share * 100, 0) + " %\x1b[K");
}

void ProgressBar::finish() {
  const std::lock_guard lock(mutex_);
  if (visible_) write_all(STDERR_FILENO, "\r\x1b[K");
  visible_ = false;
  drawn_ = Clock::time_point::max() - std::chrono::hours(1);  // a late update draws nothing
}

std::string format_bytes(uint64_t bytes) {
  const char* const units[] = {"bytes", "kB", "MB", "GB", "TB"};
  double value = static_cast<double>(bytes);
  int unit = 0;
  for (; value >= 1000 && unit < 4; ++unit) value /= 1000;
  return format_fixed(value, unit == 0 ? 0 : 1) + " " + units[unit];
}

std::string format_fixed(double value, int digits) {
  char text[64];
  std::snprintf(text, sizeof text, "%.*f", digits, value);
  return text;
}

}  // namespace wick::apps
