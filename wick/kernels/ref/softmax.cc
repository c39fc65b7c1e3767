#include "wick/kernels/softmax.h"

#include <algorithm>
#include <cmath>

#include "wick/kernels/ref/element.h"

namespace wick::ref {

void softmax(Context&, const SoftmaxArgs& args) {
  const int64_t n = args.x.size;
  for (int64_t row = 0; row < args.x.count; ++row) {
    double largest = -INFINITY;
    for (int64_t i = 0; i < n; ++i) largest = std::max(largest, get(args.x, row, i));
    double sum = 0;
    for (int64_t i = 0; i < n; ++i) sum += std::exp(get(args.x, row, i) - largest);
    for (int64_t i = 0; i < n; ++i) set(args.y, row, i, std::exp(get(args.x, row, i) - largest) / sum);
  }
}

}  // namespace wick::ref
