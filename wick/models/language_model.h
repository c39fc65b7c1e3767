// What the engine needs of a network, whatever its architecture: sizes, a workspace, and the step.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "wick/base/log.h"
#include "wick/formats/model_file.h"
#include "wick/formats/weight_types.h"
#include "wick/kernels/step_batch.h"
#include "wick/nn/kv_pool.h"
#include "wick/tensor/context.h"
#include "wick/tensor/tensor.h"

namespace wick {

struct ModelDims {
  int64_t layers = 0;
  int64_t d_model = 0;   // D
  int64_t heads = 0;     // H
  int64_t kv_heads = 0;  // K
  int64_t head_dim = 0;  // Dh
  int64_t d_ff = 0;      // F
  int64_t vocab = 0;     // V
  int64_t context = 0;   // positions the model was made for
};

// How much one step may hold.
struct ActivationLimits {
  int64_t rows = 0;
  int64_t logit_rows = 0;
};

// What can be said of a network before its weights are read: enough to count the memory that it takes on its device.
struct NetworkOutline {
  ModelDims dims;
  uint64_t weight_bytes = 0;     // packed for the device
  int64_t row_values = 0;        // f32 values that a workspace holds for each row of a step
  int64_t rotary_dim = 0;        // a position's share of the rotary tables
  int64_t largest_blocks = 0;    // elements of the largest matrix of a block format inside the layers
  int64_t largest_table = 0;     // of the head and the embedding
};

struct StepMemory {
  uint64_t workspace = 0;  // what make_workspace() allocates, and reserve() for `positions`
  uint64_t scratch = 0;    // that the kernels of the largest step take, as far as it is known
};
StepMemory step_memory(const NetworkOutline& outline, const Device& device, const ActivationLimits& limits, int64_t positions);

// Activations of a step, sized once. Belongs to one engine; what is in it, only the model knows.
class Workspace {
 public:
  virtual ~Workspace() = default;
};

class LanguageModel {
 public:
  virtual ~LanguageModel() = default;
  virtual const NetworkOutline& outline() const = 0;
  const ModelDims& dims() const { return outline().dims; }
  virtual std::unique_ptr<Workspace> make_workspace(const Device& device, const ActivationLimits& limits) const = 0;
  // Prepares `workspace` for positions below `positions`, so that steps up to there allocate nothing. Steps beyond work all the same.
  virtual void reserve(Context& ctx, Workspace& workspace, int64_t positions) const = 0;
  // Runs the batch: writes its keys and values into the pages that it names and logits[i, :] (f32 [batch.logit_count, V]) of row
  // batch.logit_rows[i]. `workspace` is one that this model made, large enough for the batch.
  virtual void step(Context& ctx, const StepBatch& batch, nn::KvPool& pool, Workspace& workspace, const Tensor& logits) const = 0;
  // Bytes of the tensors that one decode step reads, all but an untied input table: as in the file, or in the types of a recipe.
  virtual uint64_t weight_bytes_per_token() const = 0;
};

struct LoadOptions {
  bool exact = false;                                                        // weights expanded to f32
  const WeightRecipe* recipe = nullptr;                                      // or none: matrices are brought into its types first
  std::function<bool(uint64_t done_bytes, uint64_t total_bytes)> progress = {};  // false cancels: Error(kCancelled)
  LogCallback log = {};
};

}  // namespace wick
