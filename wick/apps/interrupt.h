// Ctrl-C as a question that the program asks, instead of its end, for as long as it can answer.
#pragma once

#include <csignal>
#include <vector>

namespace wick::apps {

inline constexpr int kExitInterrupted = 130;

// While it lives, the signals set a flag. With `once`, a second one ends the process as usual. An inner scope replaces an outer one.
class InterruptScope {
 public:
  explicit InterruptScope(const std::vector<int>& signals = {SIGINT}, bool once = true);
  ~InterruptScope();
  InterruptScope(const InterruptScope&) = delete;
  InterruptScope& operator=(const InterruptScope&) = delete;

 private:
  std::vector<int> signals_;
  std::vector<struct sigaction> before_;
};

int interrupted();  // the signal that came, 0 for none
void clear_interrupt();

// Waits until `fd` can be read (or has ended), or a signal of the scope comes, also one that came since the last clear_interrupt(): false
// then. A plain read would miss a signal that comes just before it.
bool wait_readable(int fd);

}  // namespace wick::apps
