#include <cmath>

#include "wick/models/llama.h"

namespace wick {
namespace {

constexpr int64_t kMaxSize = int64_t{1} << 24;  // of any one dimension: far above every model, far below any overflow

double positive(const Metadata& metadata, const char* key, double fallback) {
  const double value = metadata.find_number(key).value_or(fallback);
  if (!(value > 0.0) || !std::isfinite(value)) fail(ErrorCode::kInvalidFile, key, " is ", value, ", expected a positive number");
  return value;
}

nn::RopeConfig rope_config(const Metadata& metadata, const ModelDims& dims) {
  nn::RopeConfig rope;
  rope.theta = positive(metadata, "llama.rope.freq_base", 10000.0);
  rope.rotary_dim = metadata.find_integer("llama.rope.dimension_count", 2, dims.head_dim).value_or(dims.head_dim);
  rope.max_positions = dims.context;
  if (rope.rotary_dim % 2 != 0) fail(ErrorCode::kInvalidFile, "llama.rope.dimension_count is ", rope.rotary_dim, ", expected an even number");
  if (const std::string* type = metadata.find_string("llama.rope.scaling.type"); type && *type != "none") {
    if (*type != "linear") fail(ErrorCode::kUnsupported, "llama.rope.scaling.type '", type->substr(0, 64), "' is not supported (supported: none, linear)");
    rope.scaling = nn::RopeScaling::kLinear;
    rope.factor = positive(metadata, "llama.rope.scaling.factor", 1.0);
  } else if (metadata.contains("llama.rope.scale_linear")) {
    rope.scaling = nn::RopeScaling::kLinear;
    rope.factor = positive(metadata, "llama.rope.scale_linear", 1.0);
  }
  return rope;
}

}  // namespace

LlamaConfig llama_config(const ModelFile& file) {
  const Metadata& metadata = file.metadata();
  if (metadata.find_integer("llama.expert_count", 0, kMaxSize).value_or(0) > 0) {
    fail(ErrorCode::kUnsupported, "llama.expert_count: mixtures of experts are not supported");
  }
  LlamaConfig config;
  ModelDims& dims = config.dims;
  dims.layers = metadata.integer("llama.block_count", 1, 4096);
  dims.d_model = metadata.integer("llama.embedding_length", 1, kMaxSize);
  dims.d_ff = metadata.integer("llama.feed_forward_length", 1, kMaxSize);
  dims.context = metadata.integer("llama.context_length", 1, kMaxSize);
  dims.heads = metadata.integer("llama.attention.head_count", 1, 65536);
  dims.kv_heads = metadata.find_integer("llama.attention.head_count_kv", 1, dims.heads).value_or(dims.heads);
  if (dims.heads % dims.kv_heads != 0) {
    fail(ErrorCode::kInvalidFile, "llama.attention.head_count is ", dims.heads, ", not a multiple of llama.attention.head_count_kv, ", dims.kv_heads);
  }
  if (const auto length = metadata.find_integer("llama.attention.key_length", 1, kMaxHeadDim)) {
    dims.head_dim = *length;
    if (metadata.find_integer("llama.attention.value_length", 1, kMaxHeadDim).value_or(*length) != *length) {
      fail(ErrorCode::kUnsupported, "llama.attention.value_length differs from llama.attention.key_length");
    }
  } else {
    if (dims.d_model % dims.heads != 0) {
      fail(ErrorCode::kInvalidFile, "llama.embedding_length is ", dims.d_model, ", not a multiple of llama.attention.head_count, ", dims.heads);
    }
    dims.head_dim = dims.d_model / dims.heads;
  }
  if (dims.head_dim % 8 != 0 || dims.head_dim > kMaxHeadDim) {
    fail(ErrorCode::kUnsupported, "head size ", dims.head_dim, " is not supported (multiples of 8 up to ", kMaxHeadDim, ")");
  }
  config.norm_eps = static_cast<float>(positive(metadata, "llama.attention.layer_norm_rms_epsilon", 1e-5));
  config.rope = rope_config(metadata, dims);
  return config;
}

}  // namespace wick
