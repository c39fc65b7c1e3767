// Llama (Touvron et al. 2023) and what is built like it: pre-norm decoder layers of grouped-head attention with rotary positions and a
// SwiGLU feed-forward. Takes GGUF files of architecture "llama", whose Q and K rows are ordered for interleaved rotary pairs.
#pragma once

#include <memory>
#include <vector>

#include "wick/models/language_model.h"
#include "wick/nn/linear.h"
#include "wick/nn/rotary.h"

namespace wick {

struct LlamaConfig {
  ModelDims dims;
  float norm_eps = 1e-5f;
  nn::RopeConfig rope;
};

// Hyper-parameters of a model file, each checked. Throws Error(kInvalidFile | kUnsupported) naming the key.
LlamaConfig llama_config(const ModelFile& file);

NetworkOutline outline_llama(const ModelFile& file, const Device& device, const LoadOptions& options);
std::unique_ptr<LanguageModel> load_llama(Context& ctx, const ModelFile& file, const LoadOptions& options);

}  // namespace wick
