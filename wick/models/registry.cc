#include "wick/models/registry.h"

#include "wick/models/llama.h"

namespace wick {
namespace {

struct Architecture {
  const char* name;
  std::unique_ptr<LanguageModel> (*load)(Context&, const ModelFile&, const LoadOptions&);
  NetworkOutline (*outline)(const ModelFile&, const Device&, const LoadOptions&);
};

constexpr Architecture kArchitectures[] = {
    {"llama", load_llama, outline_llama},
};

const Architecture& architecture_of(const ModelFile& file) {
  const std::string& name = file.metadata().string("general.architecture");
  std::string known;
  for (const Architecture& architecture : kArchitectures) {
    if (name == architecture.name) return architecture;
    known += (known.empty() ? "" : ", ") + std::string(architecture.name);
  }
  fail(ErrorCode::kUnsupported, "model architecture '", name.substr(0, 64), "' is not supported (supported: ", known, ")");
}

}  // namespace

std::vector<std::string> known_architectures() {
  std::vector<std::string> names;
  for (const Architecture& architecture : kArchitectures) names.emplace_back(architecture.name);
  return names;
}

std::unique_ptr<LanguageModel> load_network(Context& ctx, const ModelFile& file, const LoadOptions& options) {
  std::unique_ptr<LanguageModel> network = architecture_of(file).load(ctx, file, options);
  ctx.synchronize();  // whoever uses the weights has a stream of its own
  return network;
}

NetworkOutline outline_network(const ModelFile& file, const Device& device, const LoadOptions& options) {
  return architecture_of(file).outline(file, device, options);
}

}  // namespace wick
