#include "wick/formats/weight_types.h"

#include <charconv>

#include "wick/base/error.h"

namespace wick {
namespace {

// The last column are numbers of the format.
constexpr WeightRecipe kRecipes[] = {
    {"q8_0", DType::kQ8_0, {}, 7},  {"q4_0", DType::kQ4_0, {}, 2},  {"q4_1", DType::kQ4_1, {}, 3},
    {"q5_0", DType::kQ5_0, {}, 8},  {"q5_1", DType::kQ5_1, {}, 9},  {"q4_k", DType::kQ4_K, {}, 14},
    {"q5_k", DType::kQ5_K, {}, 16}, {"q6_k", DType::kQ6_K, {}, 18}, {"q4_k_m", DType::kQ4_K, DType::kQ6_K, 15},
    {"f16", DType::kF16, {}, 1},    {"bf16", DType::kBF16, {}, 32}, {"f32", DType::kF32, {}, 0},
};

bool ends_with(std::string_view text, std::string_view end) {
  return text.size() >= end.size() && text.substr(text.size() - end.size()) == end;
}

// N of "blk.N.…"
std::optional<int64_t> layer_of(std::string_view tensor) {
  constexpr std::string_view kPrefix = "blk.";
  if (tensor.substr(0, kPrefix.size()) != kPrefix) return std::nullopt;
  int64_t layer = 0;
  const char* end = tensor.data() + tensor.size();
  const auto [stop, error] = std::from_chars(tensor.data() + kPrefix.size(), end, layer);
  return error == std::errc() && layer >= 0 && stop != end && *stop == '.' ? std::optional(layer) : std::nullopt;
}

// llama.cpp's choice of layers for its mixtures: the first and the last eighth, and every third between.
bool deserves_more(int64_t layer, int64_t layers) {
  const int64_t eighth = layers / 8;
  return layer < eighth || layer >= 7 * layers / 8 || (layer - eighth) % 3 == 2;
}

}  // namespace

std::optional<DType> WeightRecipe::wanted(std::string_view tensor, const Shape& shape, int64_t layers, bool tied) const {
  const bool matrix = shape.rank() >= 2 && ends_with(tensor, ".weight") && !ends_with(tensor, "_norm.weight");
  if (!matrix) return std::nullopt;
  if (!finer) return type;
  if (tensor == (tied ? "token_embd.weight" : "output.weight")) return finer;
  const bool sensitive = ends_with(tensor, ".attn_v.weight") || ends_with(tensor, ".ffn_down.weight");
  const auto layer = layer_of(tensor);
  return sensitive && layer && deserves_more(*layer, layers) ? finer : type;
}

Metadata WeightRecipe::describe(const Metadata& metadata) const {
  constexpr int64_t kQuantizationVersion = 2;  // of the block formats, since 2023
  Metadata described;
  described.insert("general.file_type", static_cast<uint64_t>(file_type));
  described.insert("general.quantization_version", static_cast<uint64_t>(kQuantizationVersion));
  for (const auto& [key, value] : metadata.values()) described.insert(key, value);  // the first of a name stays
  return described;
}

const WeightRecipe& find_recipe(std::string_view name) {
  for (const WeightRecipe& recipe : kRecipes) {
    if (name == recipe.name) return recipe;
  }
  fail(ErrorCode::kInvalidArgument, "unknown type '", name, "'");
}

std::vector<std::string> recipe_names() {
  std::vector<std::string> names;
  for (const WeightRecipe& recipe : kRecipes) names.emplace_back(recipe.name);
  return names;
}

DType fitting_type(DType wanted, int64_t row) {
  const auto fits = [row](DType type) { return row % traits(type).block == 0; };
  if (fits(wanted)) return wanted;
  const DType smaller = wanted == DType::kQ4_K ? DType::kQ5_0 : wanted == DType::kQ5_K ? DType::kQ5_1 : DType::kQ8_0;
  return fits(smaller) ? smaller : DType::kF16;
}

}  // namespace wick
