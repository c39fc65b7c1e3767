#include "wick/kernels/activation.h"

#include <cmath>

#include "wick/kernels/ref/element.h"

namespace wick::ref {
namespace {

double silu(double x) { return x / (1.0 + std::exp(-x)); }

}  // namespace

void silu(Context&, const ActivationArgs& args) {
  for (int64_t row = 0; row < args.gate.count; ++row) {
    for (int64_t i = 0; i < args.gate.size; ++i) set(args.y, row, i, silu(get(args.gate, row, i)));
  }
}

void swiglu(Context&, const ActivationArgs& args) {
  for (int64_t row = 0; row < args.gate.count; ++row) {
    for (int64_t i = 0; i < args.gate.size; ++i) set(args.y, row, i, silu(get(args.gate, row, i)) * get(args.up, row, i));
  }
}

}  // namespace wick::ref
