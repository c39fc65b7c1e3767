// What the engine needs of a network, whatever its architecture: sizes, a workspace, and the step.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "wick/formats/model_file.h"
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

// Activations of a step, sized once. Belongs to one engine; what is in it, only the model knows.
class Workspace {
 public:
  virtual ~Workspace() = default;
};

class LanguageModel {
 public:
  virtual ~LanguageModel() = default;
  virtual const ModelDims& dims() const = 0;
  virtual std::unique_ptr<Workspace> make_workspace(const Device& device, const ActivationLimits& limits) const = 0;
  // Prepares `workspace` for positions below `positions`, so that steps up to there allocate nothing. Steps beyond work all the same.
  virtual void reserve(Context& ctx, Workspace& workspace, int64_t positions) const = 0;
  // Runs the batch: writes its keys and values into the pages that it names and logits[i, :] (f32 [batch.logit_count, V]) of row
  // batch.logit_rows[i]. `workspace` is one that this model made, large enough for the batch.
  virtual void step(Context& ctx, const StepBatch& batch, nn::KvPool& pool, Workspace& workspace, const Tensor& logits) const = 0;
  // Bytes in the file of the tensors that one decode step reads: all but an untied input table.
  virtual uint64_t weight_bytes_per_token() const = 0;
};

struct LoadOptions {
  bool exact = false;                                                        // weights expanded to f32
  std::function<bool(uint64_t done_bytes, uint64_t total_bytes)> progress = {};  // false cancels: Error(kCancelled)
};

}  // namespace wick
