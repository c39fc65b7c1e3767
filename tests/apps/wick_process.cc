#include "tests/apps/wick_process.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <stdexcept>

extern char** environ;

namespace wick::test {
namespace {

[[noreturn]] void become_wick(const WickOptions& options, char** argv, char** environment, int in, int out, int err) {
  ::signal(SIGPIPE, SIG_DFL);
  ::dup2(in, 0);
  ::dup2(out, 1);
  ::dup2(err, 2);
  if (!options.out_path.empty()) {
    const int file = ::open(options.out_path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    if (file < 0) ::_exit(126);
    ::dup2(file, 1);
  }
  if (options.close_output) ::close(1);
  ::execve(WICK_COMMAND, argv, environment);
  ::_exit(127);
}

// Feeds the input and drains both outputs until the process closes them.
void converse(const WickOptions& options, pid_t pid, int in, int out, int err, WickResult& result) {
  size_t fed = 0;
  bool interrupted = false;
  struct pollfd events[3] = {{out, POLLIN, 0}, {err, POLLIN, 0}, {in, POLLOUT, 0}};
  while (events[0].fd >= 0 || events[1].fd >= 0) {
    if (events[2].fd >= 0 && fed == options.input.size()) {
      ::close(in);
      events[2].fd = -1;
    }
    ::poll(events, 3, 1000);
    for (int i = 0; i < 2; ++i) {
      if (events[i].fd < 0 || !(events[i].revents & (POLLIN | POLLHUP))) continue;
      char block[65536];
      const ssize_t got = ::read(events[i].fd, block, sizeof block);
      if (got > 0) (i == 0 ? result.out : result.err).append(block, static_cast<size_t>(got));
      if (got <= 0) events[i].fd = -1;
    }
    if (events[2].fd >= 0 && events[2].revents) {
      const ssize_t put = ::write(in, options.input.data() + fed, options.input.size() - fed);
      fed = put > 0 ? fed + static_cast<size_t>(put) : options.input.size();
    }
    if (!interrupted && options.interrupt_after_bytes >= 0 && result.out.size() > static_cast<size_t>(options.interrupt_after_bytes)) {
      interrupted = true;
      ::kill(pid, SIGINT);
    }
  }
  if (events[2].fd >= 0) ::close(in);
}

}  // namespace

std::vector<std::string> clean_environment(const std::map<std::string, std::string>& changes) {
  std::map<std::string, std::string> values;
  for (char** variable = environ; *variable; ++variable) {
    const std::string text = *variable;
    const std::string name = text.substr(0, text.find('='));
    if (name == "HOME" || name == "XDG_CACHE_HOME" || name == "NO_COLOR" || name.rfind("WICK_", 0) == 0) continue;
    values[name] = text.substr(std::min(text.find('=') + 1, text.size()));
  }
  for (const auto& [name, value] : changes) values[name] = value;
  std::vector<std::string> out;
  for (const auto& [name, value] : values) {
    if (!value.empty()) out.push_back(name + "=" + value);
  }
  return out;
}

std::vector<char*> pointers(std::vector<std::string>& texts) {
  std::vector<char*> out;
  for (std::string& text : texts) out.push_back(text.data());
  out.push_back(nullptr);
  return out;
}

TemporaryFolder::TemporaryFolder() : path_((std::filesystem::temp_directory_path() / "wick-test-XXXXXX").string()) {
  if (!::mkdtemp(path_.data())) throw std::runtime_error("no temporary folder");
}

TemporaryFolder::~TemporaryFolder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

std::string TemporaryFolder::write(const std::string& name, const std::string& content, bool executable) const {
  const std::string path = path_ + "/" + name;
  std::filesystem::create_directories(std::filesystem::path(path).parent_path());
  std::ofstream(path, std::ios::binary) << content;
  if (executable) std::filesystem::permissions(path, std::filesystem::perms::owner_all);
  return path;
}

std::vector<std::string> TemporaryFolder::files() const {
  std::vector<std::string> out;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(path_))
    out.push_back(std::filesystem::relative(entry.path(), path_).string());
  std::sort(out.begin(), out.end());
  return out;
}

std::string read_all(const std::string& path) {
  std::ostringstream out;
  out << std::ifstream(path, std::ios::binary).rdbuf();
  return out.str();
}

WickResult run_wick(const std::vector<std::string>& arguments, const WickOptions& options) {
  std::vector<std::string> command = {"wick"};
  command.insert(command.end(), arguments.begin(), arguments.end());
  std::vector<std::string> environment = clean_environment(options.environment);
  const std::vector<char*> argv = pointers(command), envp = pointers(environment);
  int in[2], out[2], err[2];
  if (::pipe2(in, O_CLOEXEC) || ::pipe2(out, O_CLOEXEC) || ::pipe2(err, O_CLOEXEC)) throw std::runtime_error("no pipe");
  const pid_t pid = ::fork();
  if (pid == 0) become_wick(options, const_cast<char**>(argv.data()), const_cast<char**>(envp.data()), in[0], out[1], err[1]);
  for (const int end : {in[0], out[1], err[1]}) ::close(end);
  WickResult result;
  const auto before = ::signal(SIGPIPE, SIG_IGN);  // the command need not read its input
  if (!options.input_before.empty() && ::write(in[1], options.input_before.data(), options.input_before.size()) < 0)
    throw std::runtime_error("write");
  ::usleep(static_cast<useconds_t>(options.idle_milliseconds) * 1000);
  converse(options, pid, in[1], out[0], err[0], result);
  ::signal(SIGPIPE, before);
  for (const int end : {out[0], err[0]}) ::close(end);
  int status = 0;
  struct rusage usage = {};
  while (::wait4(pid, &status, 0, &usage) < 0 && errno == EINTR) {
  }
  const auto seconds = [](const timeval& t) { return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) * 1e-6; };
  result.cpu_seconds = seconds(usage.ru_utime) + seconds(usage.ru_stime);
  result.peak_bytes = static_cast<uint64_t>(usage.ru_maxrss) * 1024;
  result.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return result;
}

std::string test_model() {
  const char* path = std::getenv("WICK_TEST_MODEL");
  return path ? path : "";
}

}  // namespace wick::test
