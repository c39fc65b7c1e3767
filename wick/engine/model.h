// A model file, loaded: weights packed for the device, tokenizer, chat template, defaults. Const and shared by engines.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "wick/base/log.h"
#include "wick/engine/sampling.h"
#include "wick/tensor/context.h"
#include "wick/text/chat_template.h"
#include "wick/text/tokenizer.h"

namespace wick {

class LanguageModel;  // models/
class ModelFile;      // formats/

struct ModelOptions {
  Device device = Device::cpu();
  int threads = 0;     // 0: cpu_limits().threads()
  Isa isa = default_isa();
  bool exact = false;  // weights expanded to f32, activations and cache in f32: the reference numerics
  uint64_t memory = 0; // bytes of the device that weights, cache and all else may take; 0: what is free
  std::string weight_type = {};  // matrices are converted as they are loaded: one of recipe_names() (formats/weight_types.h), "q4_k_m"; empty: not
  std::function<bool(uint64_t done_bytes, uint64_t total_bytes)> on_progress = {};  // false cancels: Error(kCancelled). One call at a time.
  // Called before anything is loaded; what it throws is thrown.
  std::function<void(const ModelFile& file)> before_loading = {};
  LogCallback log = {};
};

class Model {
 public:
  // Throws Error(kNotFound | kIo | kInvalidFile | kInvalidArgument | kUnsupported | kOutOfMemory | kCancelled).
  static std::shared_ptr<const Model> load(const std::string& path, const ModelOptions& options = {});
  ~Model();

  // What the model is. Error(kUnsupported) from tokenizer() or chat_template() when the file has none that wick understands;
  // the rest of the model works without.
  bool has_tokenizer() const;
  const Tokenizer& tokenizer() const;
  const ChatTemplate& chat_template() const;
  const SamplingParams& default_sampling() const;
  const std::string& name() const;          // general.name or the file's stem
  const std::string& architecture() const;  // "llama"
  int64_t context_length() const;
  int32_t vocab_size() const;
  uint64_t weight_bytes_per_token() const;  // of the tensors that one decode step reads, in the types that they were loaded in
  uint64_t file_bytes() const;
  double weights_ms() const;                // that reading and packing the weights took
  const ModelOptions& options() const;

  std::vector<int32_t> tokenize(std::string_view text, const EncodeOptions& options = {}) const;
  std::string detokenize(const std::vector<int32_t>& ids) const;
  std::string apply_template(const std::vector<ChatMessage>& messages) const;

  const LanguageModel& network() const;  // for Engine

 private:
  Model();
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace wick
