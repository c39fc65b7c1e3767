#include "wick/apps/interrupt.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>

namespace wick::apps {
namespace {

volatile std::sig_atomic_t g_signal = 0;
volatile int g_wake_up = -1;  // an eventfd that is readable once a signal has come, whichever thread it came to

extern "C" void note_signal(int signal) {
  const int error = errno;
  g_signal = signal;
  const uint64_t one = 1;
  if (::write(g_wake_up, &one, sizeof one) < 0) errno = error;
  errno = error;
}

}  // namespace

InterruptScope::InterruptScope(const std::vector<int>& signals, bool once) : signals_(signals), before_(signals.size()) {
  if (g_wake_up < 0) g_wake_up = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  clear_interrupt();
  for (size_t i = 0; i < signals_.size(); ++i) {
    struct sigaction action = {};
    action.sa_handler = note_signal;
    action.sa_flags = once ? static_cast<int>(SA_RESETHAND) : 0;  // no SA_RESTART: a blocked read must return
    ::sigaction(signals_[i], &action, &before_[i]);
  }
}

InterruptScope::~InterruptScope() {
  for (size_t i = 0; i < signals_.size(); ++i) ::sigaction(signals_[i], &before_[i], nullptr);
}

int interrupted() { return g_signal; }
void clear_interrupt() {
  g_signal = 0;
  uint64_t count;
  while (::read(g_wake_up, &count, sizeof count) > 0) {
  }
}

bool wait_readable(int fd) {
  struct pollfd events[2] = {{fd, POLLIN, 0}, {g_wake_up, POLLIN, 0}};
  while (!interrupted()) {
    if (::poll(events, 2, -1) > 0 && events[0].revents != 0 && !interrupted()) return true;
  }
  return false;
}

}  // namespace wick::apps
