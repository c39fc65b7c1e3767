#include "wick/models/weight_loader.h"

#include <algorithm>

#include "wick/kernels/block_format.h"
#include "wick/kernels/decode_step.h"
#include "wick/kernels/scratch_bytes.h"
#include "wick/models/convert_rows.h"
#include "wick/ops/device.h"
#include "wick/ops/linear.h"

namespace wick {
namespace {

// The type that a tensor is loaded in.
DType loaded_type(const ModelFile& file, const TensorInfo& info, const LoadOptions& options, int64_t layers) {
  if (!options.recipe) return info.dtype;
  const auto wanted = options.recipe->wanted(info.name, info.shape, layers, file.find("output.weight") == nullptr);
  return wanted ? fitting_type(*wanted, info.shape[info.shape.rank() - 1]) : info.dtype;
}

}  // namespace

WeightLoader::WeightLoader(Context& ctx, const ModelFile& file, const LoadOptions& options, int64_t layers)
    : ctx_(ctx), file_(file), options_(options), layers_(layers) {
  for (const TensorInfo& info : file.tensors()) total_bytes_ += info.bytes;
}

const TensorInfo& WeightLoader::expect(const std::string& name, const Shape& shape) const {
  const TensorInfo* info = file_.find(name);
  if (!info) fail(ErrorCode::kInvalidFile, "tensor '", name, "' is missing");
  if (!(info->shape == shape)) {
    fail(ErrorCode::kInvalidFile, "tensor '", name, "' has shape ", info->shape, ", expected ", shape);
  }
  if (!info->supported || !ops::can_pack(info->dtype)) {
    fail(ErrorCode::kUnsupported, "tensor '", name, "' has type ", info->type_name, ", which this version cannot compute with");
  }
  return *info;
}

int64_t WeightLoader::rows(const std::string& name, int64_t inputs) const {
  const TensorInfo* info = file_.find(name);
  if (!info) fail(ErrorCode::kInvalidFile, "tensor '", name, "' is missing");
  if (info->shape.rank() != 2 || info->shape[1] != inputs) {
    fail(ErrorCode::kInvalidFile, "tensor '", name, "' has shape ", info->shape, ", expected [vocabulary, ", inputs, "]");
  }
  return info->shape[0];
}

// Once each: what the user should know of a conversion.
void WeightLoader::say_converted(const TensorInfo& info, DType type) {
  if (type == info.dtype || !options_.log) return;
  if (!said_again_ && is_quantised(info.dtype) && is_quantised(type)) {
    said_again_ = true;
    options_.log(LogLevel::kWarning, "the weights were quantised before: rounding them once more costs quality that the original does not lose");
  }
  const auto wanted = options_.recipe->wanted(info.name, info.shape, layers_, !contains("output.weight"));
  if (!said_substitute_ && type != *wanted) {
    said_substitute_ = true;
    options_.log(LogLevel::kInfo, concat(dtype_name(type), " instead of ", dtype_name(*wanted), " where rows are not whole blocks of ", traits(*wanted).block));
  }
}

// Converted rows are made as they are read, a few at a time: the whole tensor is never there in two types.
WeightSource WeightLoader::source(const TensorInfo& info) {
  WeightSource source;
  source.type = loaded_type(file_, info, options_, layers_);
  say_converted(info, source.type);
  source.rows = info.shape.rank() == 2 ? info.shape[0] : 1;
  source.k = info.shape[info.shape.rank() - 1];
  source.read_rows = [this, &info, type = source.type](int64_t row, std::span<std::byte> out) {
    const uint64_t first = static_cast<uint64_t>(row);
    if (type != info.dtype) return read_rows_as(file_, info, type, first, out);
    file_.read(info, first * row_bytes(type, info.shape), out);
  };
  return source;
}

void WeightLoader::loaded(const TensorInfo& info) {
  bytes_loaded_ += info.bytes;
  weight_bytes_ += dtype_bytes(loaded_type(file_, info, options_, layers_), static_cast<uint64_t>(element_count(info.shape)));
  if (options_.progress && !options_.progress(bytes_loaded_, total_bytes_)) fail(ErrorCode::kCancelled, "loading was cancelled");
}

Tensor WeightLoader::biases(const std::vector<Part>& parts, int64_t outputs) {
  bool any = false;
  for (const Part& part : parts) any = any || contains(part.name + ".bias");
  if (!any) return {};
  Tensor bias = Tensor::zeros({outputs}, DType::kF32);
  int64_t at = 0;
  for (const Part& part : parts) {
    if (contains(part.name + ".bias")) {
      const Tensor own = values(part.name + ".bias", part.outputs);
      std::copy_n(own.data<float>(), part.outputs, bias.data<float>() + at);
    }
    at += part.outputs;
  }
  return bias.to(ctx_.device());
}

nn::Linear WeightLoader::linear(const std::vector<Part>& parts, int64_t inputs) {
  std::vector<WeightSource> sources;
  int64_t outputs = 0;
  for (const Part& part : parts) {
    sources.push_back(source(expect(part.name + ".weight", {part.outputs, inputs})));
    sources.back().precise = part.precise;
    outputs += part.outputs;
  }
  nn::Linear linear(ctx_, sources, biases(parts, outputs), options_.exact);
  for (const Part& part : parts) loaded(*file_.find(part.name + ".weight"));
  return linear;
}

Tensor WeightLoader::values(const std::string& name, int64_t size) {
  const TensorInfo& info = expect(name, {size});
  std::vector<std::byte> stored(info.bytes);
  file_.read(info, 0, stored);
  Tensor values = Tensor::empty({size}, DType::kF32);
  decode_blocks(info.dtype, stored.data(), size, values.data<float>());
  loaded(info);
  return values;
}

NetworkOutline outline_weights(const ModelFile& file, const Device& device, const LoadOptions& options, int64_t layers) {
  NetworkOutline outline;
  for (const TensorInfo& info : file.tensors()) {
    const int rank = info.shape.rank();
    if (!info.supported || !ops::can_pack(info.dtype) || rank < 1 || rank > 2) continue;  // load_network says what is wrong with it
    const int64_t rows = rank == 2 ? info.shape[0] : 1, k = info.shape[rank - 1];
    const DType type = options.exact || rank == 1 ? DType::kF32 : loaded_type(file, info, options, layers);
    outline.weight_bytes += device.block_bytes(rank == 1 ? static_cast<uint64_t>(k) * sizeof(float) : ops::packed_bytes(device, type, rows, k));
    if (rank == 1 || !is_quantised(type)) continue;
    const bool table = info.name == "token_embd.weight" || info.name == "output.weight";
    int64_t& largest = table ? outline.largest_table : outline.largest_blocks;
    largest = std::max(largest, rows * k);
  }
  return outline;
}

StepMemory step_memory(const NetworkOutline& outline, const Device& device, const ActivationLimits& limits, int64_t positions) {
  constexpr int64_t kFewRows = 64;  // of logits: more than these may need the whole table unpacked
  const ModelDims& dims = outline.dims;
  const auto floats = [&](int64_t rows, int64_t width) { return static_cast<uint64_t>(rows) * static_cast<uint64_t>(width) * sizeof(float); };
  StepMemory memory;
  memory.workspace = floats(limits.rows, outline.row_values) + floats(limits.logit_rows, dims.d_model + dims.vocab) + floats(positions, outline.rotary_dim);
  if constexpr (ops::kHasCuda) {
    StepShape shape;
    shape.rows = limits.rows;
    shape.inputs = std::max(dims.d_model, dims.heads * dims.head_dim);
    shape.outputs = 2 * dims.d_ff;
    shape.unpacked = 3 * outline.largest_blocks;  // neighbours: gate and up, or q, k and v
    if (limits.logit_rows > kFewRows) shape.unpacked = std::max(shape.unpacked, outline.largest_table);
    shape.heads = dims.heads;
    shape.head_dim = dims.head_dim;
    if (ops::is_cuda(device)) {
      memory.scratch = cuda::scratch_bytes(shape);
      memory.workspace += cuda::decode_kernel_bytes({dims.layers, dims.d_model, dims.heads, dims.kv_heads, dims.head_dim, dims.d_ff});
    }
  }
  return memory;
}

}  // namespace wick
