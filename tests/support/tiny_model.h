// A complete model of a few hundred kilobytes with random weights: everything that the engine needs, small enough for sanitizers.
#pragma once

#include <unistd.h>

#include <cstring>
#include <functional>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "wick/formats/gguf_writer.h"
#include "wick/kernels/block_format.h"
#include "wick/tensor/tensor.h"
#include "wick/text/utf8.h"

namespace wick::test {

struct TinyModel {
  int64_t layers = 2, d_model = 64, heads = 4, kv_heads = 2, d_ff = 96, context = 512;
  DType type = DType::kF32;
  bool tied = true;
  bool biases = false;
  uint32_t seed = 1;
  float spread = 0.2f;                                 // of the weights inside the layers
  float nan_weight_in_layer = -1;                      // >= 0: a NaN in that layer's feed-forward
  int32_t nan_token = -1;                              // >= 0: its row of an f32 embedding is NaN
  std::function<void(Metadata&)> change_metadata;      // before it is written
  std::function<bool(const std::string& name)> leave_out;  // tensors that are not written
};

// The 256 bytes, three merges ("he", "ll", "hell") and three control tokens.
inline constexpr int32_t kTinyVocab = 256 + 3 + 3;
inline constexpr int32_t kTinyEnd = 256 + 3;

inline std::vector<std::string> tiny_tokens() {
  std::vector<std::string> tokens;
  char32_t next = 0x100;
  for (int byte = 0; byte < 256; ++byte) {
    const bool itself = (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
    tokens.emplace_back();
    append_utf8(itself ? static_cast<char32_t>(byte) : next++, tokens.back());
  }
  for (const char* token : {"he", "ll", "hell", "<|end|>", "<|im_start|>", "<|im_end|>"}) tokens.emplace_back(token);
  return tokens;
}

inline Metadata tiny_metadata(const TinyModel& tiny) {
  Metadata metadata;
  const auto put = [&](const char* key, MetadataValue value) { metadata.insert(key, std::move(value)); };
  put("general.architecture", std::string("llama"));
  put("general.name", std::string("tiny"));
  put("llama.block_count", tiny.layers);
  put("llama.context_length", tiny.context);
  put("llama.embedding_length", tiny.d_model);
  put("llama.feed_forward_length", tiny.d_ff);
  put("llama.attention.head_count", tiny.heads);
  put("llama.attention.head_count_kv", tiny.kv_heads);
  put("llama.rope.freq_base", 10000.0);
  put("llama.attention.layer_norm_rms_epsilon", 1e-5);
  put("tokenizer.ggml.model", std::string("gpt2"));
  put("tokenizer.ggml.pre", std::string("smollm"));
  put("tokenizer.ggml.tokens", tiny_tokens());
  std::vector<int64_t> kinds(kTinyVocab, 1);
  for (int32_t id = kTinyEnd; id < kTinyVocab; ++id) kinds[static_cast<size_t>(id)] = 3;
  put("tokenizer.ggml.token_type", kinds);
  put("tokenizer.ggml.merges", std::vector<std::string>{"h e", "l l", "he ll"});
  put("tokenizer.ggml.eos_token_id", int64_t{kTinyEnd});
  put("tokenizer.chat_template",
      std::string("{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
                  "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"));
  if (tiny.change_metadata) tiny.change_metadata(metadata);
  return metadata;
}

// Values from a normal distribution, as `type` stores them.
inline std::string random_bytes(DType type, int64_t elements, float spread, std::mt19937& generator) {
  std::normal_distribution<float> normal(0, spread);
  std::vector<float> values(static_cast<size_t>(elements));
  for (float& value : values) value = normal(generator);
  std::string bytes(dtype_bytes(type, static_cast<uint64_t>(elements)), '\0');
  encode_blocks(type, values.data(), elements, reinterpret_cast<std::byte*>(bytes.data()));
  return bytes;
}

inline std::string tiny_model_bytes(const TinyModel& tiny = {}) {
  GgufWriter writer(tiny_metadata(tiny));
  std::mt19937 generator(tiny.seed);
  const auto add = [&](const std::string& name, const Shape& shape, DType type, float spread) {
    int64_t elements = 1;
    for (const int64_t size : shape) elements *= size;
    std::string bytes = random_bytes(type, elements, spread, generator);
    if (tiny.nan_token >= 0 && name == "token_embd.weight") {
      const std::vector<float> row(static_cast<size_t>(tiny.d_model), std::numeric_limits<float>::quiet_NaN());
      std::memcpy(bytes.data() + static_cast<size_t>(tiny.nan_token * tiny.d_model) * sizeof(float), row.data(), row.size() * sizeof(float));
    }
    if (!tiny.leave_out || !tiny.leave_out(name)) writer.add(name, shape, type, std::move(bytes));
  };
  const auto ones = [&](const std::string& name, int64_t size) {
    const std::vector<float> values(static_cast<size_t>(size), 1.0f);
    std::string bytes(static_cast<size_t>(size) * 4, '\0');
    std::memcpy(bytes.data(), values.data(), bytes.size());
    if (!tiny.leave_out || !tiny.leave_out(name)) writer.add(name, {size}, DType::kF32, std::move(bytes));
  };
  const int64_t head_dim = tiny.d_model / std::max<int64_t>(1, tiny.heads), kv = tiny.kv_heads * head_dim;
  add("token_embd.weight", {kTinyVocab, tiny.d_model}, tiny.type, 1.0f);
  for (int64_t i = 0; i < tiny.layers; ++i) {
    const std::string prefix = "blk." + std::to_string(i) + ".";
    ones(prefix + "attn_norm.weight", tiny.d_model);
    add(prefix + "attn_q.weight", {tiny.d_model, tiny.d_model}, tiny.type, tiny.spread);
    add(prefix + "attn_k.weight", {kv, tiny.d_model}, tiny.type, tiny.spread);
    add(prefix + "attn_v.weight", {kv, tiny.d_model}, tiny.type, tiny.spread);
    if (tiny.biases) {
      add(prefix + "attn_q.bias", {tiny.d_model}, DType::kF32, 0.5f);
      add(prefix + "attn_v.bias", {kv}, DType::kF32, 0.5f);
    }
    add(prefix + "attn_output.weight", {tiny.d_model, tiny.d_model}, tiny.type, tiny.spread);
    ones(prefix + "ffn_norm.weight", tiny.d_model);
    add(prefix + "ffn_gate.weight", {tiny.d_ff, tiny.d_model}, tiny.type, tiny.spread);
    if (static_cast<float>(i) == tiny.nan_weight_in_layer) {
      std::vector<float> values(static_cast<size_t>(tiny.d_ff * tiny.d_model), std::numeric_limits<float>::quiet_NaN());
      writer.add(prefix + "ffn_up.weight", {tiny.d_ff, tiny.d_model}, DType::kF32,
                 std::string(reinterpret_cast<const char*>(values.data()), values.size() * 4));
    } else {
      add(prefix + "ffn_up.weight", {tiny.d_ff, tiny.d_model}, tiny.type, tiny.spread);
    }
    add(prefix + "ffn_down.weight", {tiny.d_model, tiny.d_ff}, tiny.type, tiny.spread);
  }
  ones("output_norm.weight", tiny.d_model);
  if (!tiny.tied) add("output.weight", {kTinyVocab, tiny.d_model}, tiny.type, 0.3f);
  return writer.to_string();
}

// A model file that goes when the object does.
class TinyModelFile {
 public:
  explicit TinyModelFile(const TinyModel& tiny = {}) : TinyModelFile(tiny_model_bytes(tiny)) {}
  explicit TinyModelFile(const std::string& bytes) {
    const int fd = mkstemp(path_.data());
    if (fd < 0 || write(fd, bytes.data(), bytes.size()) != static_cast<ssize_t>(bytes.size())) path_.clear();
    if (fd >= 0) close(fd);
  }
  ~TinyModelFile() { unlink(path_.c_str()); }
  TinyModelFile(const TinyModelFile&) = delete;
  TinyModelFile& operator=(const TinyModelFile&) = delete;
  const std::string& path() const { return path_; }

 private:
  static std::string pattern() {
    const char* folder = std::getenv("TMPDIR");
    return std::string(folder ? folder : P_tmpdir) + "/wick-test-XXXXXX";
  }
  std::string path_ = pattern();
};

}  // namespace wick::test
