#include "wick/models/registry.h"

#include "wick/models/llama.h"

namespace wick {
namespace {

struct Architecture {
  const char* name;
  std::unique_ptr<LanguageModel> (*load)(Context&, const ModelFile&, const LoadOptions&);
};

constexpr Architecture kArchitectures[] = {
    {"llama", load_llama},
};

}  // namespace

std::vector<std::string> known_architectures() {
  std::vector<std::string> names;
  for (const Architecture& architecture : kArchitectures) names.emplace_back(architecture.name);
  return names;
}

std::unique_ptr<LanguageModel> load_network(Context& ctx, const ModelFile& file, const LoadOptions& options) {
  const std::string& name = file.metadata().string("general.architecture");
  std::string known;
  for (const Architecture& architecture : kArchitectures) {
    if (name == architecture.name) return architecture.load(ctx, file, options);
    known += (known.empty() ? "" : ", ") + std::string(architecture.name);
  }
  fail(ErrorCode::kUnsupported, "model architecture '", name.substr(0, 64), "' is not supported (supported: ", known, ")");
}

}  // namespace wick
