#include "tests/apps/wick_session.h"

#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <csignal>
#include <stdexcept>

#include "tests/apps/wick_process.h"

namespace wick::test {
namespace {

constexpr int kPatienceMs = 30000;

}  // namespace

WickSession::WickSession(const std::vector<std::string>& arguments, const SessionOptions& options) {
  std::vector<std::string> command = {"wick"};
  command.insert(command.end(), arguments.begin(), arguments.end());
  std::vector<std::string> environment = clean_environment(options.environment);
  const std::vector<char*> argv = pointers(command), envp = pointers(environment);
  int in[2] = {-1, -1}, out[2] = {-1, -1};
  if (options.terminal) {
    pid_ = ::forkpty(&in_, nullptr, nullptr, nullptr);
    out_ = in_;
  } else {
    if (::pipe2(in, O_CLOEXEC) || ::pipe2(out, O_CLOEXEC)) throw std::runtime_error("no pipe");
    pid_ = ::fork();
  }
  if (pid_ < 0) throw std::runtime_error("no process");
  if (pid_ == 0) {
    ::signal(SIGPIPE, SIG_DFL);
    if (!options.terminal) {
      ::dup2(in[0], 0);
      ::dup2(out[1], 1);
      const int errors = options.errors.empty() ? out[1] : ::open(options.errors.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
      ::dup2(errors, 2);
    }
    ::execve(WICK_COMMAND, argv.data(), envp.data());
    ::_exit(127);
  }
  if (options.terminal) {
    ::fcntl(in_, F_SETFD, FD_CLOEXEC);
    return;
  }
  ::close(in[0]);
  ::close(out[1]);
  in_ = in[1];
  out_ = out[0];
}

WickSession::~WickSession() {
  if (pid_ > 0) {
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
  close_input();
  close_output();
}

void WickSession::send(const std::string& bytes) {
  const auto before = ::signal(SIGPIPE, SIG_IGN);
  const ssize_t put = ::write(in_, bytes.data(), bytes.size());
  ::signal(SIGPIPE, before);
  if (put != static_cast<ssize_t>(bytes.size())) throw std::runtime_error("the command reads no input");
}

void WickSession::interrupt() { ::kill(pid_, SIGINT); }

void WickSession::close_input() {
  if (in_ >= 0 && in_ != out_) ::close(in_);
  in_ = -1;
}

void WickSession::close_output() {
  if (out_ >= 0) ::close(out_);
  out_ = -1;
}

bool WickSession::read_more(int timeout_ms) {
  struct pollfd event = {out_, POLLIN, 0};
  if (out_ < 0 || ::poll(&event, 1, timeout_ms) <= 0) return false;
  char block[65536];
  const ssize_t got = ::read(out_, block, sizeof block);  // a terminal without a process: EIO
  if (got > 0) output_.append(block, static_cast<size_t>(got));
  return got > 0;
}

bool WickSession::wait_for(const std::string& text) {
  using Clock = std::chrono::steady_clock;
  const Clock::time_point end = Clock::now() + std::chrono::milliseconds(kPatienceMs);
  while (true) {
    const size_t found = output_.find(text, seen_);
    if (found != std::string::npos) {
      seen_ = found + text.size();
      return true;
    }
    if (Clock::now() > end || !read_more(kPatienceMs)) return false;
  }
}

int WickSession::finish() {
  using Clock = std::chrono::steady_clock;
  const Clock::time_point end = Clock::now() + std::chrono::milliseconds(kPatienceMs);
  while (Clock::now() < end && read_more(kPatienceMs)) {
  }
  int status = 0;
  while (::waitpid(pid_, &status, WNOHANG) != pid_) {
    if (Clock::now() > end) return -1;
    ::usleep(2000);
  }
  pid_ = -1;
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

bool has_terminals() {
  int first = -1, second = -1;
  if (::openpty(&first, &second, nullptr, nullptr, nullptr) != 0) return false;
  ::close(first);
  ::close(second);
  return true;
}

}  // namespace wick::test
