// From an architecture's name to the network it names. A new architecture is one pair of files and one line in registry.cc.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "wick/models/language_model.h"

namespace wick {

// Loads the network of a model file onto ctx's device. Throws Error(kUnsupported) for an unknown architecture, naming the known ones,
// Error(kInvalidFile) for hyper-parameters or tensors that are missing or contradict each other, and what reading throws.
std::unique_ptr<LanguageModel> load_network(Context& ctx, const ModelFile& file, const LoadOptions& options = {});

// What load_network would load onto `device`. Throws as that does for what the metadata says.
NetworkOutline outline_network(const ModelFile& file, const Device& device, const LoadOptions& options);

std::vector<std::string> known_architectures();

}  // namespace wick
