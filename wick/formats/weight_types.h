// Which type each tensor of a model gets for a --type: of `wick quantize` and `wick synth`, and of weights that are quantised as they are
// loaded.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "wick/formats/metadata.h"
#include "wick/tensor/tensor.h"

namespace wick {

// One type for all matrices, or a mixture: output and, in half of the layers, values and down projections in a finer type.
struct WeightRecipe {
  const char* name;  // as --type takes it
  DType type;
  std::optional<DType> finer;
  int64_t file_type;  // general.file_type of GGUF: what most of the weights are

  // `tied`: no output.weight, the embedding is used in its place. `layers`: llama.block_count and the like.
  // Nothing: not a matrix of weights, it stays as it is. Norms and all other vectors do.
  std::optional<DType> wanted(std::string_view tensor, const Shape& shape, int64_t layers, bool tied) const;

  // `metadata` with general.file_type and general.quantization_version for this recipe.
  Metadata describe(const Metadata& metadata) const;
};

const WeightRecipe& find_recipe(std::string_view name);  // one of recipe_names()
std::vector<std::string> recipe_names();

// `wanted` where rows of `row` elements are whole blocks of it, else a type of smaller blocks with no fewer bits: q5_0 for q4_k, q5_1 for
// q5_k, q8_0 for q6_k, and f16 where 32 does not divide them either.
DType fitting_type(DType wanted, int64_t row);

}  // namespace wick
