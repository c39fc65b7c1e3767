#include "wick/kernels/softmax.h"

#include <algorithm>
#include <cmath>

#include "wick/kernels/ref/element.h"

namespace wick::ref {

namespace {

// Calls put(row, i, x - max, sum of e^(x - max)) for every element.
template <class Put>
void for_each_element(const RowsView& x, const Put& put) {
  for (int64_t row = 0; row < x.count; ++row) {
    double largest = -INFINITY;
    for (int64_t i = 0; i < x.size; ++i) largest = std::max(largest, get(x, row, i));
    double sum = 0;
    for (int64_t i = 0; i < x.size; ++i) sum += std::exp(get(x, row, i) - largest);
    for (int64_t i = 0; i < x.size; ++i) put(row, i, get(x, row, i) - largest, sum);
  }
}

}  // namespace

void softmax(Context&, const SoftmaxArgs& args) {
  for_each_element(args.x, [&](int64_t row, int64_t i, double offset, double sum) { set(args.y, row, i, std::exp(offset) / sum); });
}

void log_softmax(Context&, const SoftmaxArgs& args) {
  for_each_element(args.x, [&](int64_t row, int64_t i, double offset, double sum) { set(args.y, row, i, offset - std::log(sum)); });
}

}  // namespace wick::ref
