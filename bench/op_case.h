// What `wick bench-ops` measures: an op at one size, and the ways there are of doing the same.
#pragma once

#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "wick/tensor/context.h"
#include "wick/tensor/dtype.h"

namespace wick::bench {

// One way of doing it; without `run` there is none. Twins and naive ways are the CPU's: on another device they are left out.
// `share`: the part of the work that a call does, for ways too slow to do all of it; times are divided by it.
struct Way {
  std::function<void()> run;
  double share = 1;
};

struct OpSetup {
  nlohmann::json shape;  // sizes by name, as torch_ops.py reads them
  Way wick;              // into an output given
  Way fresh;             // into a new output, as PyTorch does; absent where there is no such form
  Way twin;              // the reference kernel that tests compare with
  Way naive;             // from elementary steps
  uint64_t bytes = 0;    // read and written by one call, each byte once; 0 where arithmetic sets the limit
  double operations = 0; // floating-point operations of one call; 0 where memory sets the limit
  // The same call on memory of its own, turn `set` of as many as no cache holds; without it the whole setup is made anew for that.
  std::function<std::function<void()>(int64_t set)> elsewhere;
};

struct OpCase {
  const char* op;
  std::vector<DType> dtypes;
  OpSetup (*make)(Context& ctx, DType type, int64_t tokens);
};

// In the order of the table.
const std::vector<OpCase>& op_cases();

}  // namespace wick::bench
