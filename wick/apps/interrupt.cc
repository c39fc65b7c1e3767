#include "wick/apps/interrupt.h"

namespace wick::apps {
namespace {

volatile std::sig_atomic_t g_signal = 0;

extern "C" void note_signal(int signal) { g_signal = signal; }

}  // namespace

InterruptScope::InterruptScope(const std::vector<int>& signals, bool once) : signals_(signals), before_(signals.size()) {
  g_signal = 0;
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
void clear_interrupt() { g_signal = 0; }

}  // namespace wick::apps
