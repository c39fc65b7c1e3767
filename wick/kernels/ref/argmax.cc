#include "wick/kernels/argmax.h"

#include <cmath>

#include "wick/kernels/ref/element.h"

namespace wick::ref {
namespace {

int64_t argmax_row(const RowsView& x, int64_t row) {
  int64_t best = 0;
  for (int64_t i = 0; i < x.size; ++i) {
    if (std::isnan(get(x, row, i))) return -1;
    if (get(x, row, i) > get(x, row, best)) best = i;
  }
  return best;
}

}  // namespace

void argmax(Context&, const ArgmaxArgs& args) {
  for (int64_t row = 0; row < args.x.count; ++row) args.y[row] = static_cast<int32_t>(argmax_row(args.x, row));
}

}  // namespace wick::ref
