// What running a model takes of its device's memory, known before any of it is taken.
#pragma once

#include <cstdint>

#include "wick/engine/engine.h"
#include "wick/models/language_model.h"

namespace wick {

struct MemoryPlan {
  int64_t context = 0;     // positions per sequence
  int32_t sequences = 1;
  int32_t pages = 0;       // of the cache
  uint64_t weights = 0;    // as packed for the device
  uint64_t staging = 0;    // while weights are read, given back afterwards
  uint64_t cache = 0;
  uint64_t workspace = 0;  // activations, logits, a step's arrays, rotary tables
  uint64_t scratch = 0;    // of kernels; not known of the CPU's
  uint64_t available = 0;  // to all of these together
  int64_t largest_context = 0;  // of as many sequences that would fit; 0: none

  uint64_t peak() const;
  bool fits() const { return peak() <= available; }
};

// Of a model that is not loaded yet. Throws what loading throws for its metadata, and Error(kInvalidArgument | kLimitExceeded |
// kOutOfMemory) for options that can never be met.
MemoryPlan plan_memory(const ModelFile& file, const ModelOptions& model, const EngineOptions& engine);
// Of an engine for a loaded model: weights and what they take are left out on both sides.
MemoryPlan plan_engine(const NetworkOutline& network, const ModelOptions& model, const EngineOptions& engine);

// Whether memory is counted to the last byte. The CPU's is shared with all else and taken as it is used, unless a limit was set.
bool counts_memory(const ModelOptions& model);
// Error(kOutOfMemory) saying what is short and which context would fit, unless the plan fits.
void require_fit(const MemoryPlan& plan, const Device& device);
// The same for the weights alone.
void require_weights_fit(const NetworkOutline& network, const ModelOptions& model);

LoadOptions load_options(const ModelOptions& model);  // without callbacks. Error(kInvalidArgument) for an unknown weight_type

// How much an engine's steps hold at most.
ActivationLimits step_limits(const EngineOptions& options, const Device& device);
nn::KvPoolConfig kv_pool_config(const ModelDims& dims, const ModelOptions& model, const EngineOptions& engine);  // without pages

}  // namespace wick
