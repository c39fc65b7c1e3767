#include "wick/models/weight_loader.h"

#include "wick/kernels/block_format.h"
#include "wick/ops/linear.h"

namespace wick {

WeightLoader::WeightLoader(Context& ctx, const ModelFile& file, const LoadOptions& options) : ctx_(ctx), file_(file), options_(options) {
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

WeightSource WeightLoader::source(const TensorInfo& info) const {
  WeightSource source;
  source.type = info.dtype;
  source.rows = info.shape.rank() == 2 ? info.shape[0] : 1;
  source.k = info.shape[info.shape.rank() - 1];
  const uint64_t row_bytes = info.bytes / static_cast<uint64_t>(source.rows);
  source.read_rows = [this, &info, row_bytes](int64_t row, std::span<std::byte> out) {
    file_.read(info, static_cast<uint64_t>(row) * row_bytes, out);
  };
  return source;
}

void WeightLoader::loaded(const TensorInfo& info) {
  bytes_loaded_ += info.bytes;
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

}  // namespace wick
