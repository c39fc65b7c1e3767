#include "bench/op_timing.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <utility>

#include "wick/apps/interrupt.h"
#include "wick/base/error.h"

namespace wick::bench {
namespace {

constexpr double kTurnSeconds = 0.006;   // what a contender gets per round
constexpr double kSlowSeconds = 0.05;    // a call that takes longer is measured kSlowRounds times
constexpr int kSlowRounds = 3;
constexpr int64_t kMostCalls = 1 << 14;

// After a pause threads sleep and caches hold something else: the first calls do not count.
double seconds_per_call(const Contender& contender, int64_t calls, bool slow) {
  return contender.run(slow ? 0 : calls / 4 + 1, calls) / static_cast<double>(calls);
}

// How many calls fill a turn.
int64_t calls_per_turn(const Contender& contender) {
  int64_t calls = 1;
  while (true) {
    const double seconds = seconds_per_call(contender, calls, false);
    const int64_t needed = std::clamp<int64_t>(static_cast<int64_t>(std::ceil(kTurnSeconds / seconds)), 1, kMostCalls);
    if (needed <= 2 * calls) return needed;
    calls = std::min(needed, 16 * calls);
  }
}

}  // namespace

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const size_t middle = values.size() / 2;
  return values.size() % 2 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

Contender timed(std::string name, std::function<void()> function, double share) {
  const auto run = [function = std::move(function)](int64_t warm_up, int64_t calls) {
    for (int64_t i = 0; i < warm_up; ++i) function();
    const auto start = std::chrono::steady_clock::now();
    for (int64_t i = 0; i < calls; ++i) function();
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  };
  return {std::move(name), run, share, {}};
}

Contender timed(Context& ctx, std::string name, std::function<void()> function, double share) {
  DeviceStream* stream = ctx.stream();
  if (!stream) return timed(std::move(name), std::move(function), share);
  const auto run = [stream, function = std::move(function)](int64_t warm_up, int64_t calls) {
    for (int64_t i = 0; i < warm_up; ++i) function();
    return stream->seconds_of([&] {
      for (int64_t i = 0; i < calls; ++i) function();
    });
  };
  return {std::move(name), run, share, {}};
}

void measure(std::vector<Contender>& contenders, int rounds) {
  std::vector<int64_t> calls;
  std::vector<bool> slow;
  for (const Contender& contender : contenders) {
    calls.push_back(calls_per_turn(contender));
    slow.push_back(calls.back() == 1 && seconds_per_call(contender, 1, true) > kSlowSeconds);
  }
  for (int round = 0; round < rounds; ++round) {
    for (size_t i = 0; i < contenders.size(); ++i) {
      if (apps::interrupted()) fail(ErrorCode::kCancelled, "interrupted");
      if (slow[i] && round >= kSlowRounds) continue;
      contenders[i].seconds.push_back(seconds_per_call(contenders[i], calls[i], slow[i]) / contenders[i].share);
    }
  }
}

}  // namespace wick::bench
