#include "wick/kernels/norm.h"

#include <cmath>

#include "wick/kernels/ref/element.h"

namespace wick::ref {

void rms_norm(Context&, const RmsNormArgs& args) {
  const int64_t n = args.x.size;
  const RowsView& source = args.residual.data ? args.residual : args.x;
  for (int64_t row = 0; row < args.x.count; ++row) {
    double sum = 0;
    for (int64_t i = 0; i < n; ++i) {
      if (args.residual.data) set(args.residual, row, i, get(args.residual, row, i) + get(args.x, row, i));
      sum += get(source, row, i) * get(source, row, i);
    }
    const double scale = 1.0 / std::sqrt(sum / static_cast<double>(n) + args.eps);
    for (int64_t i = 0; i < n; ++i) set(args.y, row, i, get(source, row, i) * scale * get(args.weight_type, args.weight, i));
  }
}

void layer_norm(Context&, const LayerNormArgs& args) {
  const int64_t n = args.x.size;
  for (int64_t row = 0; row < args.x.count; ++row) {
    double mean = 0, variance = 0;
    for (int64_t i = 0; i < n; ++i) mean += get(args.x, row, i) / static_cast<double>(n);
    for (int64_t i = 0; i < n; ++i) variance += (get(args.x, row, i) - mean) * (get(args.x, row, i) - mean) / static_cast<double>(n);
    const double scale = 1.0 / std::sqrt(variance + args.eps);
    for (int64_t i = 0; i < n; ++i) {
      const double bias = args.bias ? get(args.weight_type, args.bias, i) : 0.0;
      set(args.y, row, i, (get(args.x, row, i) - mean) * scale * get(args.weight_type, args.weight, i) + bias);
    }
  }
}

}  // namespace wick::ref
