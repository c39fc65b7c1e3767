#include "wick/ops/linear.h"

#include <cstring>

#include "wick/kernels/linear.h"
#include "wick/ops/device.h"

namespace wick::ops {
namespace {

// Rows of a tensor whose leading dimensions can be walked with one stride.
struct Rows {
  int64_t count = 1;
  int64_t stride = 0;
};

Rows rows_of(const Tensor& tensor, const char* name) {
  require(tensor.rank() >= 1, "linear: ", name, " has rank 0, expected at least 1");
  require(tensor.dtype() == DType::kF32, "linear: ", name, " is ", dtype_name(tensor.dtype()), ", expected f32");
  require(tensor.rows_contiguous(), "linear: ", name, " has strides ", tensor.strides(), ", expected contiguous rows");
  const int last = tensor.rank() - 1;
  Rows rows{1, last > 0 ? tensor.strides()[last - 1] : tensor.shape()[last]};
  for (int i = last - 1; i >= 0; --i) {
    require(tensor.shape()[i] <= 1 || rows.count <= 1 || tensor.strides()[i] == rows.stride * rows.count, "linear: the leading dimensions of ", name,
            " (strides ", tensor.strides(), ") do not form one sequence of rows");
    if (rows.count <= 1 && tensor.shape()[i] > 1) rows.stride = tensor.strides()[i];
    rows.count *= tensor.shape()[i];
  }
  return rows;
}

void check_shapes(const Tensor& x, const PackedWeight& weight, const Tensor& y, const LinearOptions& options) {
  require(x.dim(-1) == weight.k, "linear: x has ", x.dim(-1), " inputs per row, the weight expects ", weight.k);
  require(y.dim(-1) == weight.rows, "linear: y has ", y.dim(-1), " outputs per row, the weight has ", weight.rows);
  require(y.rank() == x.rank(), "linear: y has rank ", y.rank(), ", expected ", x.rank());
  for (int i = 0; i + 1 < x.rank(); ++i) {
    require(x.shape()[i] == y.shape()[i], "linear: x is ", x.shape(), " and y ", y.shape(), ": leading dimensions differ");
  }
  if (!options.bias) return;
  const Tensor& bias = *options.bias;
  require(bias.dtype() == DType::kF32 && bias.is_contiguous() && bias.shape() == Shape({weight.rows}), "linear: bias is ", dtype_name(bias.dtype()), " ",
          bias.shape(), ", expected f32 [", weight.rows, "]");
}

}  // namespace

PackedWeight pack_weight(Context& ctx, const Tensor& weight) {
  require(weight.rank() == 2, "pack_weight: weight has rank ", weight.rank(), ", expected 2");
  const Tensor plain = weight.contiguous();
  const uint64_t row_bytes = dtype_bytes(plain.dtype(), static_cast<uint64_t>(plain.dim(1)));
  WeightSource source;
  source.type = plain.dtype();
  source.rows = plain.dim(0);
  source.k = plain.dim(1);
  source.read_rows = [&](int64_t row, std::span<std::byte> out) {
    std::memcpy(out.data(), plain.raw() + static_cast<uint64_t>(row) * row_bytes, out.size());
  };
  PackedWeight packed;
  append_weight(ctx, source, false, packed);
  return packed;
}

bool can_pack(DType type) { return cpu::can_pack(type); }

void append_weight(Context& ctx, const WeightSource& source, bool expand, PackedWeight& weight) {
  require_cpu(ctx, "pack_weight");
  cpu::pack(ctx, source, expand, weight);
}

void linear(Context& ctx, const Tensor& x, const PackedWeight& weight, const Tensor& y, const LinearOptions& options) {
  require_cpu(ctx, "linear");
  const Rows x_rows = rows_of(x, "x");
  const Rows y_rows = rows_of(y, "y");
  check_shapes(x, weight, y, options);
  LinearArgs args;
  args.x = x.data<float>();
  args.ldx = x_rows.stride;
  args.rows = x_rows.count;
  args.weight = &weight;
  args.bias = options.bias ? options.bias->data<float>() : nullptr;
  args.y = y.data<float>();
  args.ldy = y_rows.stride;
  args.accumulate = options.accumulate;
  cpu::linear(ctx, args);
}

}  // namespace wick::ops
