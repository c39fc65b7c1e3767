#include "wick/kernels/convert.h"

#include "wick/kernels/ref/element.h"

namespace wick::ref {

void convert(const RowsView& from, const RowsView& to) {
  for (int64_t row = 0; row < from.count; ++row) {
    for (int64_t i = 0; i < from.size; ++i) set(to, row, i, get(from, row, i));
  }
}

}  // namespace wick::ref
