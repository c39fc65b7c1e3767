#include "wick/kernels/rope.h"

#include "wick/kernels/ref/element.h"

namespace wick::ref {
namespace {

void rotate(const RopeArgs& args, const int64_t (&index)[3]) {
  const auto offset = [&](const RopeOperand& operand) {
    return index[0] * operand.strides[0] + index[1] * operand.strides[1] + index[2] * operand.strides[2];
  };
  const int64_t x = offset(args.x);
  const int64_t y = offset(args.y);
  for (int64_t i = 0; i < args.half; ++i) {
    const int64_t first = args.interleaved ? 2 * i : i;
    const int64_t second = args.interleaved ? 2 * i + 1 : i + args.half;
    const double c = get(args.table_type, args.cos.data, offset(args.cos) + i);
    const double s = get(args.table_type, args.sin.data, offset(args.sin) + i);
    const double x0 = get(args.type, args.x.data, x + first);
    const double x1 = get(args.type, args.x.data, x + second);
    set(args.type, args.y.data, y + first, x0 * c - x1 * s);
    set(args.type, args.y.data, y + second, x0 * s + x1 * c);
  }
  for (int64_t i = 2 * args.half; i < args.head_dim; ++i) set(args.type, args.y.data, y + i, get(args.type, args.x.data, x + i));
}

}  // namespace

void rope(Context&, const RopeArgs& args) {
  for (int64_t a = 0; a < args.sizes[0]; ++a) {
    for (int64_t b = 0; b < args.sizes[1]; ++b) {
      for (int64_t c = 0; c < args.sizes[2]; ++c) rotate(args, {a, b, c});
    }
  }
}

}  // namespace wick::ref
