#include "wick/models/llama.h"

#include <algorithm>
#include <string>
#include <utility>

#include "wick/models/weight_loader.h"
#include "wick/ops/attention.h"
#include "wick/ops/decode_step.h"
#include "wick/ops/embedding.h"
#include "wick/ops/norm.h"

namespace wick {
namespace {

struct Layer {
  Tensor attention_norm;  // [D]
  nn::Linear qkv;         // D -> (H + 2K) Dh
  nn::Linear output;      // H Dh -> D
  Tensor mlp_norm;        // [D]
  nn::Linear gate_up;     // D -> 2F
  nn::Linear down;        // F -> D
};

// Activations of up to `limits.rows` rows, all f32. The residual stream is x.
struct LlamaWorkspace final : Workspace {
  LlamaWorkspace(const Device& device, const LlamaConfig& config, const ActivationLimits& step) : limits(step), rope(config.rope) {
    const ModelDims& dims = config.dims;
    const auto make = [&](int64_t rows, int64_t width) { return Tensor::empty({rows, width}, DType::kF32, device); };
    x = make(step.rows, dims.d_model);
    qkv = make(step.rows, (dims.heads + 2 * dims.kv_heads) * dims.head_dim);
    heads = make(step.rows, dims.heads * dims.head_dim);
    hidden = make(step.rows, dims.d_ff);
    const auto rounded = [&](const Tensor& wide) { return Tensor::from_memory(wide.raw(), wide.shape(), DType::kBF16, device); };
    rounded_heads = rounded(heads);
    rounded_hidden = rounded(hidden);
    normed = Tensor::empty({step.rows, dims.d_model}, DType::kBF16, device);
    last = make(step.logit_rows, dims.d_model);
  }
  ActivationLimits limits;
  nn::RopeTable rope;  // grows with the longest sequence, so it cannot belong to the shared weights
  Tensor tokens, logit_rows;  // the step's own
  Tensor x, qkv, heads, hidden, last;
  // Of steps whose products round their inputs to bf16: in the memory of heads and hidden, and norms of x.
  Tensor rounded_heads, rounded_hidden, normed;
  std::unique_ptr<ops::DecodeStep> decode;  // of a single row, where there is a kernel for that
  bool looked_for_decode = false;
};

class Llama final : public LanguageModel {
 public:
  Llama(Context& ctx, const ModelFile& file, const LoadOptions& options)
      : config_(llama_config(file)), outline_(outline_llama(file, ctx.device(), options)) {
    WeightLoader weights(ctx, file, options, config_.dims.layers);
    config_.dims.vocab = outline_.dims.vocab = weights.rows("token_embd.weight", config_.dims.d_model);
    const ModelDims& dims = config_.dims;
    embedding_ = weights.linear({{"token_embd", dims.vocab, true}}, dims.d_model);
    const uint64_t table_bytes = weights.weight_bytes();
    for (int64_t i = 0; i < dims.layers; ++i) layers_.push_back(load_layer(weights, "blk." + std::to_string(i) + "."));
    final_norm_ = weights.vector("output_norm.weight", dims.d_model);
    const bool tied = !weights.contains("output.weight");
    head_ = tied ? nn::Linear(embedding_.weight()) : weights.linear({{"output", dims.vocab, true}}, dims.d_model);
    if (weights.contains("rope_freqs.weight")) {
      config_.rope.frequency_factors = weights.values("rope_freqs.weight", config_.rope.rotary_dim / 2);
    }
    nn::rope_frequencies(config_.rope);  // throws now rather than at the first step
    weight_bytes_ = weights.weight_bytes() - (tied ? 0 : table_bytes);
  }

  const NetworkOutline& outline() const override { return outline_; }
  uint64_t weight_bytes_per_token() const override { return weight_bytes_; }

  std::unique_ptr<Workspace> make_workspace(const Device& device, const ActivationLimits& limits) const override {
    return std::make_unique<LlamaWorkspace>(device, config_, limits);
  }

  void reserve(Context& ctx, Workspace& workspace, int64_t positions) const override {
    dynamic_cast<LlamaWorkspace&>(workspace).rope.ensure(ctx, positions);
  }

  void step(Context& ctx, const StepBatch& batch, nn::KvPool& pool, Workspace& workspace, const Tensor& logits) const override {
    auto& space = dynamic_cast<LlamaWorkspace&>(workspace);
    space.rope.ensure(ctx, 1 + *std::max_element(batch.positions, batch.positions + batch.rows));
    DeviceStream* const stream = ctx.stream();
    const bool decodes = batch.rows == batch.sequences && batch.logit_count == batch.rows;
    if (!stream || !decodes) return run(ctx, batch, pool, space, logits);
    find_decode(ctx, pool, space);
    if (space.decode) space.decode->begin(ctx);
    stream->replay(step_key(ctx, batch, pool, space, logits), [&] { run(ctx, batch, pool, space, logits); });
  }

 private:
  // All that a step of one row per sequence gives the device follows from this.
  static uint64_t step_key(const Context& ctx, const StepBatch& batch, const nn::KvPool& pool, const LlamaWorkspace& space, const Tensor& logits) {
    uint64_t key = 0;
    const auto add = [&](uint64_t value) { key = (key ^ value) * 0x9e3779b97f4a7c15u + (key >> 29); };
    for (const void* place : {static_cast<const void*>(batch.tokens), static_cast<const void*>(pool.layer(0).pages), static_cast<const void*>(&space),
                              static_cast<const void*>(space.rope.cos().raw()), static_cast<const void*>(logits.raw())}) {
      add(reinterpret_cast<uintptr_t>(place));
    }
    add(static_cast<uint64_t>(batch.rows));
    add(static_cast<uint64_t>(page_bucket(batch)));
    add(ctx.scratch_version());
    return key;
  }

  void find_decode(Context& ctx, const nn::KvPool& pool, LlamaWorkspace& space) const {
    if (std::exchange(space.looked_for_decode, true)) return;
    DecodeModel model;
    model.heads = static_cast<int32_t>(config_.dims.heads);
    model.kv_heads = static_cast<int32_t>(config_.dims.kv_heads);
    model.head_dim = static_cast<int32_t>(config_.dims.head_dim);
    model.eps = static_cast<float>(config_.norm_eps);
    for (const Layer& layer : layers_) {
      for (const nn::Linear* linear : {&layer.qkv, &layer.output, &layer.gate_up, &layer.down}) {
        if (linear->has_bias()) return;
      }
      model.layers.push_back({layer.attention_norm.data<float>(), layer.qkv.weight().get(), layer.output.weight().get(),
                              layer.mlp_norm.data<float>(), layer.gate_up.weight().get(), layer.down.weight().get()});
    }
    model.final_norm = final_norm_.data<float>();
    model.head = head_.weight().get();
    if (!head_.has_bias()) space.decode = ops::DecodeStep::make(ctx, model, pool.config().type);
  }

  void run(Context& ctx, const StepBatch& batch, nn::KvPool& pool, LlamaWorkspace& space, const Tensor& logits) const {
    const auto rows = [&](const Tensor& buffer) { return buffer.slice(0, 0, batch.rows); };
    const Tensor x = rows(space.x);
    const Tensor tokens = ids(ctx, space.tokens, space.limits.rows, batch.tokens, batch.on_device.tokens, batch.rows);
    ops::embedding(ctx, tokens, *embedding_.weight(), x);
    if (space.decode && batch.rows == 1 && batch.logit_count == 1) {
      const KvLayerView layers[2] = {pool.layer(0), pool.layer(layers_.size() > 1 ? 1 : 0)};
      return space.decode->run(ctx, x, space.rope.cos(), space.rope.sin(), batch, layers, logits);
    }
    const bool round = rounds(ctx, batch.rows);
    const Tensor hidden = rows(round ? space.rounded_hidden : space.hidden), normed = rows(space.normed);
    for (size_t i = 0; i < layers_.size(); ++i) {
      const Layer& layer = layers_[i];
      const Tensor* next_norm = i + 1 < layers_.size() ? &layers_[i + 1].attention_norm : nullptr;
      attend(ctx, layer, batch, pool.layer(static_cast<int32_t>(i)), space, x, round, /*is_normed=*/round && i > 0);
      if (round) {
        layer.gate_up.forward(ctx, normed, hidden, {.swiglu = true});
      } else {
        layer.gate_up.forward(ctx, x, hidden, {.norm = &layer.mlp_norm, .norm_eps = config_.norm_eps, .swiglu = true});
      }
      layer.down.forward(ctx, hidden, x, sum(round ? next_norm : nullptr, normed));
    }
    write_logits(ctx, batch, space, x, logits);
  }

  Layer load_layer(WeightLoader& weights, const std::string& prefix) const {
    const ModelDims& dims = config_.dims;
    const int64_t q = dims.heads * dims.head_dim;
    const int64_t kv = dims.kv_heads * dims.head_dim;
    Layer layer;
    layer.attention_norm = weights.vector(prefix + "attn_norm.weight", dims.d_model);
    // Of all matmuls the values forgive 8-bit activations least: in SmolLM2 they are 3 % of a layer's products and a third of what the
    // rounding costs (mean KL 0.0010 of 0.0031). The output head is next, with 0.0006.
    layer.qkv = weights.linear({{prefix + "attn_q", q}, {prefix + "attn_k", kv}, {prefix + "attn_v", kv, /*precise=*/true}}, dims.d_model);
    layer.output = weights.linear({{prefix + "attn_output", dims.d_model}}, q);
    layer.mlp_norm = weights.vector(prefix + "ffn_norm.weight", dims.d_model);
    layer.gate_up = weights.linear({{prefix + "ffn_gate", dims.d_ff}, {prefix + "ffn_up", dims.d_ff}}, dims.d_model);
    layer.down = weights.linear({{prefix + "ffn_down", dims.d_model}}, dims.d_ff);
    return layer;
  }

  // Whether all of a layer's products of so many rows round their inputs to bf16. Each then gets its input in that, from whatever makes it.
  bool rounds(const Context& ctx, int64_t rows) const {
    return std::all_of(layers_.begin(), layers_.end(), [&](const Layer& layer) {
      const auto does = [&](const nn::Linear& linear) { return ops::rounds_to_bf16(ctx, *linear.weight(), rows); };
      return does(layer.qkv) && does(layer.output) && does(layer.gate_up) && does(layer.down);
    });
  }

  // x += a product, and the norm of it for the next one, if there is one.
  ops::LinearOptions sum(const Tensor* next_norm, const Tensor& normed) const {
    ops::LinearOptions options;
    options.accumulate = true;
    if (!next_norm) return options;
    options.norm_eps = config_.norm_eps;
    options.normed = &normed;
    options.next_norm = next_norm;
    return options;
  }

  // A step's array where the device reads it. `view` is kept, so that no step allocates.
  static Tensor ids(const Context& ctx, Tensor& view, int64_t capacity, const int32_t* here, const int32_t* on_device, int64_t count) {
    auto* const array = const_cast<int32_t*>(ctx.device().is_cpu() ? here : on_device);
    if (view.data<int32_t>() != array) view = Tensor::from_memory(array, {capacity}, DType::kI32, ctx.device());
    return view.slice(0, 0, count);
  }

  // x += output(attention(rope(qkv(norm(x))))); the step's keys and values go into the cache on the way. `round`: as rounds() says; the next
  // norm is left in space.normed, which with `is_normed` holds norm(x).
  void attend(Context& ctx, const Layer& layer, const StepBatch& batch, const KvLayerView& cache, LlamaWorkspace& space, const Tensor& x,
              bool round, bool is_normed) const {
    const Tensor qkv = space.qkv.slice(0, 0, batch.rows), normed = space.normed.slice(0, 0, batch.rows);
    const Tensor heads = (round ? space.rounded_heads : space.heads).slice(0, 0, batch.rows);
    if (is_normed) {
      layer.qkv.forward(ctx, normed, qkv);
    } else {
      layer.qkv.forward(ctx, x, qkv, {.norm = &layer.attention_norm, .norm_eps = config_.norm_eps});
    }
    ops::rope_append_attention(ctx, qkv, space.rope.cos(), space.rope.sin(), /*interleaved=*/true, batch, cache, {}, heads);
    layer.output.forward(ctx, heads, x, sum(round ? &layer.mlp_norm : nullptr, normed));
  }

  void write_logits(Context& ctx, const StepBatch& batch, LlamaWorkspace& space, const Tensor& x, const Tensor& logits) const {
    if (batch.logit_count == 0) return;
    const ops::LinearOptions normed = {.norm = &final_norm_, .norm_eps = config_.norm_eps};
    if (batch.logit_count == batch.rows) return head_.forward(ctx, x, logits, normed);
    const Tensor last = space.last.slice(0, 0, batch.logit_count);
    const Tensor wanted =
        ids(ctx, space.logit_rows, space.limits.logit_rows, batch.logit_rows, batch.on_device.logit_rows, batch.logit_count);
    ops::embedding(ctx, wanted, x, last);
    head_.forward(ctx, last, logits, normed);
  }

  LlamaConfig config_;
  NetworkOutline outline_;
  nn::Linear embedding_;
  std::vector<Layer> layers_;
  Tensor final_norm_;
  nn::Linear head_;
  uint64_t weight_bytes_ = 0;
};

}  // namespace

NetworkOutline outline_llama(const ModelFile& file, const Device& device, const LoadOptions& options) {
  const LlamaConfig config = llama_config(file);
  const ModelDims& dims = config.dims;
  NetworkOutline outline = outline_weights(file, device, options, dims.layers);
  outline.dims = dims;
  if (const TensorInfo* table = file.find("token_embd.weight"); table && table->supported && table->shape.rank() == 2) outline.dims.vocab = table->shape[0];
  outline.row_values = dims.d_model + (dims.d_model + 1) / 2 + (2 * dims.heads + 2 * dims.kv_heads) * dims.head_dim + dims.d_ff;  // see LlamaWorkspace
  outline.rotary_dim = config.rope.rotary_dim;
  return outline;
}

std::unique_ptr<LanguageModel> load_llama(Context& ctx, const ModelFile& file, const LoadOptions& options) {
  return std::make_unique<Llama>(ctx, file, options);
}

}  // namespace wick
