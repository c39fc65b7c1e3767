#include "wick/kernels/softmax.h"

#include <algorithm>
#include <cmath>

#include "wick/kernels/ref/element.h"

namespace wick::ref {

void softmax(Context&, const SoftmaxArgs& args) {
  const RowsView& x = args.x;
  for (int64_t row = 0; row < x.count; ++row) {
    double largest = -INFINITY;
    for (int64_t i = 0; i < x.size; ++i) largest = std::max(largest, get(x, row, i));
    double sum = 0;
    for (int64_t i = 0; i < x.size; ++i) sum += std::exp(get(x, row, i) - largest);
    for (int64_t i = 0; i < x.size; ++i) {
      const double offset = get(x, row, i) - largest;
      set(args.y, row, i, args.log ? offset - std::log(sum) : std::exp(offset) / sum);
    }
  }
}

}  // namespace wick::ref
