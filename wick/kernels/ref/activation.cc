#include "wick/kernels/activation.h"

#include <cmath>

#include "wick/kernels/ref/element.h"

namespace wick::ref {
namespace {

double apply(Activation function, double x) {
  constexpr double kSqrtHalf = 0.70710678118654752440;
  constexpr double kSqrtTwoOverPi = 0.79788456080286535588;
  switch (function) {
    case Activation::kGelu: return 0.5 * x * std::erfc(-x * kSqrtHalf);
    case Activation::kGeluTanh: return x / (1.0 + std::exp(-2.0 * kSqrtTwoOverPi * (x + 0.044715 * x * x * x)));
    case Activation::kSigmoid: return 1.0 / (1.0 + std::exp(-x));
    default: return x / (1.0 + std::exp(-x));
  }
}

}  // namespace

void activation(Context&, const ActivationArgs& args) {
  for (int64_t row = 0; row < args.gate.count; ++row) {
    for (int64_t i = 0; i < args.gate.size; ++i) {
      const double value = apply(args.function, get(args.gate, row, i));
      set(args.y, row, i, args.up.data ? value * get(args.up, row, i) : value);
    }
  }
}

}  // namespace wick::ref
