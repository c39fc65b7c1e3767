// Times several ways of doing the same in one run: they take turns, so that a machine that slows down slows all of them.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "wick/tensor/context.h"

namespace wick::bench {

// Something that can be called `warm_up` times and then `calls` times, and says how many seconds the latter took.
struct Contender {
  std::string name;
  std::function<double(int64_t warm_up, int64_t calls)> run;
  double share = 1;             // of the work that a call does
  std::vector<double> seconds;  // of one whole call, by round
};

// Warms each up, then lets them take turns for `rounds` rounds; the slow ones, of whom a call takes longer than a round's budget, sit out all
// but three rounds.
void measure(std::vector<Contender>& contenders, int rounds);

double median(std::vector<double> values);

// A contender that calls `function`. With a context whose device works behind the caller's back, timed by the device.
Contender timed(std::string name, std::function<void()> function, double share = 1);
Contender timed(Context& ctx, std::string name, std::function<void()> function, double share = 1);

}  // namespace wick::bench
