#include "wick/apps/process.h"

#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <utility>

#include "wick/apps/interrupt.h"
#include "wick/base/error.h"

extern char** environ;

namespace wick::apps {
namespace {

constexpr size_t kKeptOutput = 65536;
constexpr int kSignalCheckMs = 200;

struct Pipe {
  int ends[2] = {-1, -1};
  Pipe() {
    if (::pipe2(ends, O_CLOEXEC) != 0) fail(ErrorCode::kIo, "cannot make a pipe: ", std::strerror(errno));
  }
  ~Pipe() {
    close_end(0);
    close_end(1);
  }
  int take_end(int which) { return std::exchange(ends[which], -1); }
  void close_end(int which) {
    if (ends[which] >= 0) ::close(ends[which]);
    ends[which] = -1;
  }
};

// What a program's standard streams are; -1: /dev/null.
struct Streams {
  int input = -1;
  int output = -1;
  int error = -1;
};

void add_stream(posix_spawn_file_actions_t& actions, int from, int to) {
  if (from < 0) {
    posix_spawn_file_actions_addopen(&actions, to, "/dev/null", to == STDIN_FILENO ? O_RDONLY : O_WRONLY, 0);
  } else {
    posix_spawn_file_actions_adddup2(&actions, from, to);
  }
}

pid_t spawn(const std::vector<std::string>& arguments, const Streams& streams) {
  std::vector<char*> argv;
  for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  add_stream(actions, streams.input, STDIN_FILENO);
  add_stream(actions, streams.output, STDOUT_FILENO);
  add_stream(actions, streams.error, STDERR_FILENO);
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  sigset_t defaults;
  sigemptyset(&defaults);
  sigaddset(&defaults, SIGPIPE);  // ignored in this process
  posix_spawnattr_setsigdefault(&attributes, &defaults);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGDEF);
  pid_t pid = -1;
  const int error = ::posix_spawnp(&pid, argv[0], &actions, &attributes, argv.data(), environ);
  posix_spawnattr_destroy(&attributes);
  posix_spawn_file_actions_destroy(&actions);
  if (error) fail(error == ENOENT ? ErrorCode::kNotFound : ErrorCode::kIo, "cannot start ", arguments[0], ": ", std::strerror(error));
  return pid;
}

// Reads what the program writes until it closes its end; passes a signal on to it.
void collect(int fd, pid_t pid, std::string& output) {
  bool told = false;
  while (true) {
    if (interrupted() && !told) {
      ::kill(pid, SIGTERM);
      told = true;
    }
    struct pollfd event = {fd, POLLIN, 0};
    if (::poll(&event, 1, kSignalCheckMs) <= 0) continue;
    char block[4096];
    const ssize_t got = ::read(fd, block, sizeof block);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return;
    output.append(block, static_cast<size_t>(got));
    if (output.size() > 2 * kKeptOutput) output.erase(0, output.size() - kKeptOutput);
  }
}

}  // namespace

ProcessResult run_process(const std::vector<std::string>& arguments) {
  Pipe pipe;
  const pid_t pid = spawn(arguments, {.output = pipe.ends[1], .error = pipe.ends[1]});
  pipe.close_end(1);
  ProcessResult result;
  collect(pipe.ends[0], pid, result.output);
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  if (interrupted()) fail(ErrorCode::kCancelled, "interrupted");
  result.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return result;
}

LineProcess::LineProcess(const std::vector<std::string>& arguments, bool quiet) {
  Pipe input;
  Pipe output;
  pid_ = spawn(arguments, {.input = input.ends[0], .output = output.ends[1], .error = quiet ? -1 : STDERR_FILENO});
  to_ = input.take_end(1);
  from_ = output.take_end(0);
}

LineProcess::~LineProcess() {
  ::close(to_);
  ::close(from_);
  ::kill(pid_, SIGTERM);
  while (::waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
  }
}

std::string LineProcess::ask(const std::string& line) {
  const std::string text = line + "\n";
  for (size_t written = 0; written < text.size();) {
    const ssize_t n = ::write(to_, text.data() + written, text.size() - written);
    if (n < 0 && errno == EINTR && !interrupted()) continue;
    if (n < 0) fail(ErrorCode::kIo, "the other program takes no more input: ", std::strerror(errno));
    written += static_cast<size_t>(n);
  }
  while (true) {
    const size_t end = read_.find('\n');
    if (end != std::string::npos) {
      const std::string answer = read_.substr(0, end);
      read_.erase(0, end + 1);
      return answer;
    }
    if (interrupted()) fail(ErrorCode::kCancelled, "interrupted");
    struct pollfd event = {from_, POLLIN, 0};
    if (::poll(&event, 1, kSignalCheckMs) <= 0) continue;
    char block[4096];
    const ssize_t got = ::read(from_, block, sizeof block);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) fail(ErrorCode::kIo, "the other program ended");
    read_.append(block, static_cast<size_t>(got));
  }
}

}  // namespace wick::apps
