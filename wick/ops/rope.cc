#include "wick/ops/rope.h"

#include "wick/kernels/rope.h"
#include "wick/ops/arguments.h"
#include "wick/ops/device.h"

namespace wick::ops {
namespace {

struct Form {
  const char* op;
  int position_axis;  // of x: 2 in (B, H, T, Dh), 1 in (B, T, H, Dh)
  bool interleaved;
};

constexpr Form kRope = {"rope", 2, false};
constexpr Form kRopeI = {"rope_i", 2, true};
constexpr Form kRopeThd = {"rope_thd", 1, false};
constexpr Form kRopeIThd = {"rope_i_thd", 1, true};

void check_tables(const Form& form, const Tensor& x, const Tensor& cos, const Tensor& sin) {
  const char* op = form.op;
  require(cos.rank() == 2 || cos.rank() == 3, op, ": cos has rank ", cos.rank(), ", expected 2 or 3");
  require_same_shape(op, {"cos", cos}, {"sin", sin});
  require_same_dtype(op, {"cos", cos}, {"sin", sin});
  const bool half = x.dtype() == DType::kF16 || x.dtype() == DType::kBF16;
  if (!(half && cos.dtype() == DType::kF32)) require_same_dtype(op, {"x", x}, {"cos", cos});
  require(cos.rank() == 2 || cos.dim(0) == x.dim(0), op, ": cos has ", cos.dim(0), " tables, x a batch of ", x.dim(0));
  require(cos.dim(-2) >= x.dim(form.position_axis), op, ": cos has ", cos.dim(-2), " positions, x has ", x.dim(form.position_axis));
  require(cos.dim(-1) <= x.dim(-1) / 2, op, ": cos has ", cos.dim(-1), " angles per position, heads of ", x.dim(-1),
          " elements have room for ", x.dim(-1) / 2);
}

RopeOperand operand_of(const Tensor& x) { return {x.raw(), {x.strides()[0], x.strides()[1], x.strides()[2]}}; }

RopeOperand table_of(const Form& form, const Tensor& table) {
  RopeOperand operand;
  operand.data = table.raw();
  operand.strides[0] = table.rank() == 3 ? table.strides()[0] : 0;
  operand.strides[form.position_axis] = table.strides()[table.rank() - 2];
  return operand;
}

void run(Context& ctx, const Form& form, const Tensor& x, const Tensor& cos, const Tensor& sin, const Tensor& y) {
  require_kernels(ctx, form.op);
  require_floating(ctx, form.op, {{"x", x}, {"cos", cos}, {"sin", sin}, {"y", y}});
  require(x.rank() == 4, form.op, ": x has rank ", x.rank(), ", expected 4");
  require_same_dtype(form.op, {"x", x}, {"y", y});
  require_same_shape(form.op, {"x", x}, {"y", y});
  require_contiguous_rows(form.op, {"y", y});
  check_tables(form, x, cos, sin);
  require_disjoint_or_same(form.op, {"x", x}, {"y", y});
  if (x.elements() == 0) return;

  const Tensor source = with_contiguous_rows(ctx, x);
  const Tensor cos_rows = with_contiguous_rows(ctx, cos);
  const Tensor sin_rows = with_contiguous_rows(ctx, sin);
  RopeArgs args;
  for (int i = 0; i < 3; ++i) args.sizes[i] = x.shape()[i];
  args.head_dim = x.shape()[3];
  args.half = cos.dim(-1);
  args.interleaved = form.interleaved;
  args.type = x.dtype();
  args.table_type = cos.dtype();
  args.x = operand_of(source);
  args.y = operand_of(y);
  args.cos = table_of(form, cos_rows);
  args.sin = table_of(form, sin_rows);
  if (x.dtype() == DType::kF64) return ref::rope(ctx, args);
  run_kernel<cpu::rope, cuda::rope>(ctx, args);
}

Tensor run(Context& ctx, const Form& form, const Tensor& x, const Tensor& cos, const Tensor& sin) {
  Tensor y = Tensor::empty(x.shape(), x.dtype(), ctx.device());
  run(ctx, form, x, cos, sin, y);
  return y;
}

}  // namespace

void rope(Context& ctx, const Tensor& x, const Tensor& cos, const Tensor& sin, const Tensor& y) { run(ctx, kRope, x, cos, sin, y); }
void rope_i(Context& ctx, const Tensor& x, const Tensor& cos, const Tensor& sin, const Tensor& y) { run(ctx, kRopeI, x, cos, sin, y); }
void rope_thd(Context& ctx, const Tensor& x, const Tensor& cos, const Tensor& sin, const Tensor& y) { run(ctx, kRopeThd, x, cos, sin, y); }
void rope_i_thd(Context& ctx, const Tensor& x, const Tensor& cos, const Tensor& sin, const Tensor& y) {
  run(ctx, kRopeIThd, x, cos, sin, y);
}

Tensor rope(Context& ctx, const Tensor& x, const Tensor& cos, const Tensor& sin) { return run(ctx, kRope, x, cos, sin); }
Tensor rope_i(Context& ctx, const Tensor& x, const Tensor& cos, const Tensor& sin) { return run(ctx, kRopeI, x, cos, sin); }
Tensor rope_thd(Context& ctx, const Tensor& x, const Tensor& cos, const Tensor& sin) { return run(ctx, kRopeThd, x, cos, sin); }
Tensor rope_i_thd(Context& ctx, const Tensor& x, const Tensor& cos, const Tensor& sin) { return run(ctx, kRopeIThd, x, cos, sin); }

}  // namespace wick::ops
