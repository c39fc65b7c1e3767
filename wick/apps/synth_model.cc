#include "wick/apps/synth_model.h"

#include <cmath>

#include "wick/apps/random_weights.h"
#include "wick/apps/values.h"
#include "wick/base/error.h"
#include "wick/nn/rotary.h"
#include "wick/text/byte_level.h"

namespace wick::apps {
namespace {

constexpr double kNormEps = 1e-5;

constexpr SynthShape kShapes[] = {
    {"llama-3.2-1b", 16, 2048, 32, 8, 64, 8192, 128256, 131072, 500000, 32, true, "llama-bpe"},
    {"llama-3.1-8b", 32, 4096, 32, 8, 128, 14336, 128256, 131072, 500000, 8, false, "llama-bpe"},
    {"smollm2-135m", 30, 576, 9, 3, 64, 1536, 49152, 8192, 100000, 1, true, "smollm"},
    {"tiny", 2, 256, 4, 2, 64, 512, 1024, 2048, 10000, 1, true, "smollm"},
};

struct Vocabulary {
  std::vector<std::string> tokens;
  std::vector<int64_t> kinds;
  std::vector<std::string> merges;
};

constexpr int64_t kNormal = 1, kControl = 3;  // kinds of token in GGUF
constexpr const char* kControlTokens[] = {"<|endoftext|>", "<|im_start|>", "<|im_end|>"};
constexpr int64_t kControls = 3;

// Words of letters and spaces, each merged from its halves: all pairs, then all of three, then such of four as there is room for.
class WordMaker {
 public:
  WordMaker(Vocabulary& vocabulary, int64_t room) : vocabulary_(vocabulary), room_(room) {
    letters_.push_back(spell_byte(' '));
    for (char letter = 'a'; letter <= 'z'; ++letter) letters_.emplace_back(1, letter);
  }

  void fill() {
    std::vector<std::string> pairs;
    for (const std::string& left : letters_) {
      for (const std::string& right : letters_) {
        pairs.push_back(left + right);
        add(left, right);
      }
    }
    for (const std::string& pair : pairs) {
      for (const std::string& letter : letters_) add(pair, letter);
    }
    constexpr size_t kStride = 7919;  // a prime that is no factor of the number of pairs: spreads the choice over the alphabet
    const size_t words = pairs.size() * pairs.size();
    for (size_t i = 0; i < words && room_ > 0; ++i) add(pairs[i * kStride % words / pairs.size()], pairs[i * kStride % pairs.size()]);
  }

 private:
  void add(const std::string& left, const std::string& right) {
    if (room_ <= 0) return;
    --room_;
    vocabulary_.tokens.push_back(left + right);
    vocabulary_.kinds.push_back(kNormal);
    vocabulary_.merges.push_back(left + " " + right);
  }

  Vocabulary& vocabulary_;
  int64_t room_;
  std::vector<std::string> letters_;
};

Vocabulary make_vocabulary(int64_t size) {
  constexpr int64_t kBytes = 256;
  Vocabulary vocabulary;
  for (int byte = 0; byte < kBytes; ++byte) vocabulary.tokens.push_back(spell_byte(static_cast<uint8_t>(byte)));
  vocabulary.kinds.assign(vocabulary.tokens.size(), kNormal);
  WordMaker(vocabulary, size - kBytes - kControls).fill();
  for (const char* control : kControlTokens) {
    vocabulary.tokens.emplace_back(control);
    vocabulary.kinds.push_back(kControl);
  }
  return vocabulary;
}

// What Llama 3.1 divides each frequency by.
std::vector<float> frequency_factors(const SynthShape& shape) {
  nn::RopeConfig rope;
  rope.theta = shape.rope_theta;
  rope.rotary_dim = shape.head_dim;
  rope.max_positions = shape.context;
  const std::vector<double> plain = nn::rope_frequencies(rope);
  rope.scaling = nn::RopeScaling::kLlama3;
  rope.factor = shape.rope_factor;
  const std::vector<double> scaled = nn::rope_frequencies(rope);
  std::vector<float> factors(plain.size());
  for (size_t i = 0; i < factors.size(); ++i) factors[i] = static_cast<float>(plain[i] / scaled[i]);
  return factors;
}

}  // namespace

std::string shape_names() {
  std::string names;
  for (const SynthShape& shape : kShapes) names.append(names.empty() ? "" : ", ").append(shape.name);
  return names;
}

const SynthShape& find_shape(std::string_view name) {
  for (const SynthShape& shape : kShapes) {
    if (name == shape.name) return shape;
  }
  fail(ErrorCode::kInvalidArgument, "no shape '", shown(name), "'; there are: ", shape_names());
}

Metadata synth_metadata(const SynthShape& shape) {
  Metadata metadata;
  const auto put = [&](const char* key, MetadataValue value) { metadata.insert(key, std::move(value)); };
  const auto size = [](int64_t value) { return static_cast<uint64_t>(value); };
  put("general.architecture", std::string("llama"));
  put("general.type", std::string("model"));
  put("general.name", concat("random weights of the shape of ", shape.name));
  put("llama.block_count", size(shape.layers));
  put("llama.context_length", size(shape.context));
  put("llama.embedding_length", size(shape.d_model));
  put("llama.feed_forward_length", size(shape.d_ff));
  put("llama.attention.head_count", size(shape.heads));
  put("llama.attention.head_count_kv", size(shape.kv_heads));
  put("llama.attention.key_length", size(shape.head_dim));
  put("llama.attention.value_length", size(shape.head_dim));
  put("llama.attention.layer_norm_rms_epsilon", kNormEps);
  put("llama.rope.dimension_count", size(shape.head_dim));
  put("llama.rope.freq_base", shape.rope_theta);
  put("llama.vocab_size", size(shape.vocab));
  Vocabulary vocabulary = make_vocabulary(shape.vocab);
  put("tokenizer.ggml.model", std::string("gpt2"));
  put("tokenizer.ggml.pre", std::string(shape.pre_tokenizer));
  put("tokenizer.ggml.tokens", std::move(vocabulary.tokens));
  put("tokenizer.ggml.token_type", std::move(vocabulary.kinds));
  put("tokenizer.ggml.merges", std::move(vocabulary.merges));
  put("tokenizer.ggml.bos_token_id", size(shape.vocab - kControls));
  put("tokenizer.ggml.eos_token_id", size(shape.vocab - 1));
  put("tokenizer.ggml.padding_token_id", size(shape.vocab - kControls));
  put("tokenizer.ggml.add_bos_token", false);
  put("tokenizer.chat_template",
      std::string("{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
                  "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"));
  return metadata;
}

std::vector<SynthTensor> synth_tensors(const SynthShape& shape) {
  std::vector<SynthTensor> tensors;
  const auto matrix = [&](const std::string& name, int64_t rows, int64_t inputs, double gain) {
    tensors.push_back({name + ".weight", {rows, inputs}, gain / std::sqrt(static_cast<double>(inputs))});
  };
  const auto norm = [&](const std::string& name) {
    constexpr float kSpread = 0.1f;
    RandomNumbers numbers(name);
    std::vector<float> values(static_cast<size_t>(shape.d_model));
    for (float& value : values) value = 1 + kSpread * numbers.normal();
    tensors.push_back({name + ".weight", {shape.d_model}, 0, std::move(values)});
  };
  // Each layer adds little to the residual stream, so that it stays near the same size whatever their number.
  const double residual = 1 / std::sqrt(2.0 * static_cast<double>(shape.layers));
  constexpr double kLogitSpread = 1;  // with more, a tied head would mostly repeat the last token
  const int64_t q = shape.heads * shape.head_dim, kv = shape.kv_heads * shape.head_dim;
  matrix("token_embd", shape.vocab, shape.d_model, kLogitSpread);
  if (shape.rope_factor != 1) tensors.push_back({"rope_freqs.weight", {shape.head_dim / 2}, 0, frequency_factors(shape)});
  for (int64_t i = 0; i < shape.layers; ++i) {
    const std::string prefix = concat("blk.", i, ".");
    norm(prefix + "attn_norm");
    matrix(prefix + "attn_q", q, shape.d_model, 1);
    matrix(prefix + "attn_k", kv, shape.d_model, 1);
    matrix(prefix + "attn_v", kv, shape.d_model, 1);
    matrix(prefix + "attn_output", shape.d_model, q, residual);
    norm(prefix + "ffn_norm");
    matrix(prefix + "ffn_gate", shape.d_ff, shape.d_model, 1);
    matrix(prefix + "ffn_up", shape.d_ff, shape.d_model, 1);
    matrix(prefix + "ffn_down", shape.d_model, shape.d_ff, residual);
  }
  norm("output_norm");
  if (!shape.tied) matrix("output", shape.vocab, shape.d_model, kLogitSpread);
  return tensors;
}

}  // namespace wick::apps
