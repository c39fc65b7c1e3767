#include "wick/ops/linear.h"

#include <cmath>
#include <cstring>

#include "wick/base/checked.h"
#include "wick/kernels/block_format.h"
#include "wick/kernels/linear.h"
#include "wick/ops/arguments.h"
#include "wick/ops/device.h"
#include "wick/ops/f32_rows.h"

namespace wick::ops {
namespace {

bool is_half_or_single(DType type) { return type == DType::kF32 || type == DType::kF16 || type == DType::kBF16; }

void check_tensor(const Context& ctx, const char* name, const Tensor& tensor) {
  require_floating(ctx, "linear", {{name, tensor}});
  require(is_half_or_single(tensor.dtype()), "linear: ", name, " is ", dtype_name(tensor.dtype()), ", expected f32, f16 or bf16");
  require(tensor.rank() >= 1, "linear: ", name, " has rank 0, expected at least 1");
}

bool is_f32_and_bf16(const Tensor& x, const Tensor& y) {
  return (x.dtype() == DType::kF32 && y.dtype() == DType::kBF16) || (x.dtype() == DType::kBF16 && y.dtype() == DType::kF32);
}

// x [..., k], y [..., outputs], bias [outputs].
void check(const Context& ctx, const Tensor& x, int64_t k, int64_t weight_rows, const Tensor& y, const LinearOptions& options) {
  const int64_t outputs = options.swiglu ? weight_rows / 2 : weight_rows;
  check_tensor(ctx, "x", x);
  check_tensor(ctx, "y", y);
  require(x.dtype() == y.dtype() || is_f32_and_bf16(x, y), "linear: x is ", dtype_name(x.dtype()), ", y is ", dtype_name(y.dtype()),
          ", expected the same, or f32 and bf16");
  require(x.dim(-1) == k, "linear: x has ", x.dim(-1), " inputs per row, the weight expects ", k);
  require(y.dim(-1) == outputs, "linear: y has ", y.dim(-1), " outputs per row, the weight has ", outputs);
  require(y.rank() == x.rank(), "linear: y has rank ", y.rank(), ", expected ", x.rank());
  for (int i = 0; i + 1 < x.rank(); ++i) {
    require(x.shape()[i] == y.shape()[i], "linear: x is ", x.shape(), " and y ", y.shape(), ": leading dimensions differ");
  }
  require_disjoint("linear", {"x", x}, {"y", y});
  require(!options.accumulate || is_f32_rows(y), "linear: y is ", dtype_name(y.dtype()), " with strides ", y.strides(),
          ", expected evenly spaced f32 rows to accumulate into");
  if (!options.bias) return;
  const Tensor& bias = *options.bias;
  check_tensor(ctx, "bias", bias);
  require((bias.dtype() == DType::kF32 || bias.dtype() == x.dtype()) && bias.shape() == Shape({weight_rows}), "linear: bias is ",
          dtype_name(bias.dtype()), " ", bias.shape(), ", expected ", dtype_name(x.dtype()), " or f32 [", weight_rows, "]");
}

void check_norm(const Context& ctx, const char* name, const Tensor& norm, int64_t size) {
  check_tensor(ctx, name, norm);
  require(norm.dtype() == DType::kF32 && norm.is_contiguous() && norm.shape() == Shape({size}), "linear: ", name, " is ",
          dtype_name(norm.dtype()), " ", norm.shape(), ", expected contiguous f32 [", size, "]");
}

void check_fused(const Context& ctx, const PackedWeight& weight, const LinearOptions& options) {
  require(!options.swiglu || (weight.rows % 2 == 0 && !options.accumulate), "linear: swiglu of ", weight.rows,
          " outputs, expected an even number and no accumulate");
  require(!options.norm || !options.normed, "linear: one eps for two norms");
  if (options.norm) check_norm(ctx, "norm", *options.norm, weight.k);
  if (options.normed) {
    require(options.next_norm && !options.swiglu, "linear: normed needs next_norm, and no swiglu");
    check_norm(ctx, "next_norm", *options.next_norm, weight.rows);
  }
  require(options.norm_eps >= 0 && std::isfinite(options.norm_eps), "linear: norm_eps is ", options.norm_eps,
          ", expected a finite number >= 0");
}

const float* bias_values(Context& ctx, const LinearOptions& options) {
  return options.bias ? read_rows(ctx, *options.bias).data : nullptr;
}

Tensor output_for(Context& ctx, const Tensor& x, int64_t outputs) {
  check_tensor(ctx, "x", x);
  Shape shape = x.shape();
  shape[x.rank() - 1] = outputs;
  return Tensor::empty(shape, x.dtype(), ctx.device());
}

void check_weight_type(DType type) {
  if (!can_pack(type)) fail(ErrorCode::kUnsupported, "linear: weights of type ", dtype_name(type), " are not supported");
}

// A weight tensor whose rows a kernel can walk: quantised ones as they are, plain ones in any view.
void check_weight(const Context& ctx, const Tensor& weight) {
  require(weight.defined(), "linear: weight is an empty handle, expected a tensor");
  require(weight.device() == ctx.device(), "linear: weight is on device ", weight.device().name(), ", expected ", ctx.device().name());
  require(weight.rank() == 2, "linear: weight has rank ", weight.rank(), ", expected 2");
  check_weight_type(weight.dtype());
}

MatrixView matrix_view(const Tensor& matrix) {
  MatrixView view;
  view.data = matrix.raw();
  view.type = matrix.dtype();
  view.rows = matrix.dim(0);
  view.k = matrix.dim(1);
  if (is_quantised(view.type)) {
    view.row_stride = static_cast<int64_t>(dtype_bytes(view.type, static_cast<uint64_t>(matrix.strides()[0])));
  } else {
    view.row_stride = matrix.strides()[0] * traits(view.type).bytes;
    view.column_stride = matrix.strides()[1] * traits(view.type).bytes;
  }
  return view;
}

}  // namespace

WeightSource weight_source(const Tensor& weight) {
  require(weight.rank() == 2, "pack_weight: weight has rank ", weight.rank(), ", expected 2");
  const Tensor plain = weight.to(Device::cpu()).contiguous();
  const uint64_t row_bytes = dtype_bytes(plain.dtype(), static_cast<uint64_t>(plain.dim(1)));
  WeightSource source;
  source.type = plain.dtype();
  source.rows = plain.dim(0);
  source.k = plain.dim(1);
  source.read_rows = [plain, row_bytes](int64_t row, std::span<std::byte> out) {
    std::memcpy(out.data(), plain.raw() + static_cast<uint64_t>(row) * row_bytes, out.size());
  };
  return source;
}

PackedWeight pack_weight(Context& ctx, const Tensor& weight) {
  PackedWeight packed;
  append_weight(ctx, weight_source(weight), false, packed);
  return packed;
}

bool can_pack(DType type) { return has_codec(type); }

uint64_t packed_bytes(const Device& device, DType type, int64_t rows, int64_t k) {
  if constexpr (kHasCuda) {
    if (is_cuda(device)) return cuda::packed_bytes(type, rows, k);
  }
  if (device.is_cpu()) return cpu::packed_bytes(type, rows, k);
  return dtype_bytes(type, static_cast<uint64_t>(mul_or_fail(rows, k, "linear: weight size")));
}

namespace {

// Into `place`, where there is one.
void append(Context& ctx, const WeightSource& source, bool expand, PackedWeight& weight, std::shared_ptr<Storage> place) {
  require_kernels(ctx, "pack_weight");
  check_weight_type(source.type);
  require(source.rows > 0 && source.k > 0, "linear: weight of shape [", source.rows, ", ", source.k, "] is empty");
  require(weight.segments.empty() || weight.k == source.k, "linear: weight has ", source.k, " inputs, expected ", weight.k);
  WeightSegment segment;
  segment.type = expand ? DType::kF32 : source.type;
  segment.rows = source.rows;
  segment.k = source.k;
  segment.storage = std::move(place);
  run_kernel<cpu::pack, cuda::pack>(ctx, source, segment);
  weight.k = source.k;
  weight.rows += source.rows;
  weight.segments.push_back(std::move(segment));
}

}  // namespace

void append_weight(Context& ctx, const WeightSource& source, bool expand, PackedWeight& weight) {
  append(ctx, source, expand, weight, nullptr);
}

void append_weights(Context& ctx, std::span<const WeightSource> sources, bool expand, PackedWeight& weight) {
  const auto bytes_of = [&](const WeightSource& source) { return packed_bytes(ctx.device(), source.type, source.rows, source.k); };
  for (size_t begin = 0, end; begin < sources.size(); begin = end) {
    const DType type = sources[begin].type;
    uint64_t bytes = 0;
    for (end = begin; end < sources.size() && sources[end].type == type; ++end) bytes += bytes_of(sources[end]);
    const bool together = on_cuda(ctx) && type == DType::kBF16 && !expand && end - begin > 1;
    const std::shared_ptr<Storage> whole = together ? Storage::allocate(ctx.device(), bytes) : nullptr;
    uint64_t offset = 0;
    for (const WeightSource& source : sources.subspan(begin, end - begin)) {
      append(ctx, source, expand, weight, together ? Storage::part(whole, offset, bytes_of(source)) : nullptr);
      offset += bytes_of(source);
    }
  }
}

bool rounds_to_bf16(const Context& ctx, const PackedWeight& weight, int64_t rows) {
  if constexpr (kHasCuda) return on_cuda(ctx) && cuda::rounds_to_bf16(ctx, weight, rows);
  return false;
}

namespace {

// Whether the kernel takes rows of bf16 as they are.
bool takes_bf16(const Context& ctx, const PackedWeight& weight, int64_t rows, bool swiglu) {
  return ctx.device().is_cpu() ? cpu::takes_bf16(weight, swiglu) : rounds_to_bf16(ctx, weight, rows);
}

}  // namespace

void linear(Context& ctx, const Tensor& x, const PackedWeight& weight, const Tensor& y, const LinearOptions& options) {
  require_kernels(ctx, "linear");
  check_fused(ctx, weight, options);
  check(ctx, x, weight.k, weight.rows, y, options);
  if (y.elements() == 0) return;
  const ScratchScope scope(ctx);
  LinearArgs args;
  args.rows = x.elements() / weight.k;
  const bool narrow = takes_bf16(ctx, weight, args.rows, options.swiglu);
  give_input(ctx, x, narrow && !options.norm, args);
  const F32Rows y_rows = give_output(ctx, y, narrow, args);
  args.weight = &weight;
  args.bias = bias_values(ctx, options);
  args.accumulate = options.accumulate;
  args.norm = options.norm ? options.norm->data<float>() : nullptr;
  args.eps = options.norm_eps;
  args.swiglu = options.swiglu;
  if (options.normed) {
    const Tensor& normed = *options.normed;
    require(
        rounds_to_bf16(ctx, weight, args.rows) && is_f32_rows(y) && normed.shape() == y.shape() && bf16_row_stride(normed) == weight.rows,
        "linear: normed is ", dtype_name(normed.dtype()), " ", normed.shape(), ", expected contiguous bf16 ", y.shape(),
        " where rounds_to_bf16() holds and y is f32");
    args.normed_bf16 = normed.data<uint16_t>();
    args.next_norm = options.next_norm->data<float>();
  }
  run_kernel<cpu::linear, cuda::linear>(ctx, args);
  finish_output(ctx, args, y_rows, y);
}

void linear(Context& ctx, const Tensor& x, const Tensor& weight, const Tensor& y, const LinearOptions& options) {
  require_kernels(ctx, "linear");
  check_weight(ctx, weight);
  require(!options.norm && !options.swiglu, "linear: norm and swiglu need a packed weight");
  check(ctx, x, weight.dim(1), weight.dim(0), y, options);
  if (y.elements() == 0) return;
  const ScratchScope scope(ctx);
  MatmulArgs args;
  args.rows = y.elements() / weight.dim(0);
  const bool narrow = ctx.device().is_cpu() && weight.dtype() == DType::kBF16;
  give_input(ctx, x, narrow, args);
  const F32Rows y_rows = give_output(ctx, y, narrow, args);
  args.b = matrix_view(weight);
  args.bias = bias_values(ctx, options);
  args.accumulate = options.accumulate;
  run_kernel<cpu::matmul, cuda::matmul>(ctx, args);
  finish_output(ctx, args, y_rows, y);
}

Tensor linear(Context& ctx, const Tensor& x, const PackedWeight& weight, const LinearOptions& options) {
  Tensor y = output_for(ctx, x, options.swiglu ? weight.rows / 2 : weight.rows);
  linear(ctx, x, weight, y, options);
  return y;
}

Tensor linear(Context& ctx, const Tensor& x, const Tensor& weight, const LinearOptions& options) {
  check_weight(ctx, weight);
  Tensor y = output_for(ctx, x, weight.dim(0));
  linear(ctx, x, weight, y, options);
  return y;
}

}  // namespace wick::ops
