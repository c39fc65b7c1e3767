// Models of known shapes with made-up content, for speed tests: what their files say. random_weights.h makes the numbers.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "wick/formats/metadata.h"
#include "wick/tensor/tensor.h"

namespace wick::apps {

struct SynthShape {
  const char* name;
  int64_t layers, d_model, heads, kv_heads, head_dim, d_ff, vocab, context;
  double rope_theta;
  double rope_factor;  // of Llama 3.1's frequency scaling; 1: none
  bool tied;           // the embedding is the output head
  const char* pre_tokenizer;
};

const SynthShape& find_shape(std::string_view name);  // Error(kInvalidArgument) that names those there are
std::string shape_names();                            // "a, b, c"

// The keys of a llama model file: sizes, a vocabulary of byte-level BPE (the 256 bytes, short words of letters, three control tokens at the
// end) and ChatML as template.
Metadata synth_metadata(const SynthShape& shape);

// The tensors in file order. Weights are normal with mean 0; `spread` of 0 marks those that are not weights: `values` has them.
struct SynthTensor {
  std::string name;
  Shape shape;
  double spread = 0;
  std::vector<float> values = {};
};
std::vector<SynthTensor> synth_tensors(const SynthShape& shape);

}  // namespace wick::apps
