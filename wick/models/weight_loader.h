// Weights by name with the shape that the architecture expects: what is missing, misshapen or of an unknown type is an Error naming it.
#pragma once

#include <string>
#include <vector>

#include "wick/formats/model_file.h"
#include "wick/models/language_model.h"
#include "wick/nn/linear.h"

namespace wick {

class WeightLoader {
 public:
  // `file` and `options` must outlive the loader.
  WeightLoader(Context& ctx, const ModelFile& file, const LoadOptions& options);

  struct Part {
    std::string name;  // without ".weight"
    int64_t outputs;
    bool precise = false;  // see WeightSource
  };
  // The parts side by side as one Linear of `inputs` inputs; each may have a "NAME.bias".
  nn::Linear linear(const std::vector<Part>& parts, int64_t inputs);
  // A vector of `size` values in f32, on the device of ctx and on the CPU.
  Tensor vector(const std::string& name, int64_t size) { return values(name, size).to(ctx_.device()); }
  Tensor values(const std::string& name, int64_t size);
  bool contains(const std::string& name) const { return file_.find(name) != nullptr; }
  // Rows of a matrix tensor with `inputs` columns: the vocabulary size, for a table. Error when there is none.
  int64_t rows(const std::string& name, int64_t inputs) const;

  uint64_t bytes_loaded() const { return bytes_loaded_; }

 private:
  const TensorInfo& expect(const std::string& name, const Shape& shape) const;
  WeightSource source(const TensorInfo& info) const;
  Tensor biases(const std::vector<Part>& parts, int64_t outputs);
  void loaded(const TensorInfo& info);

  Context& ctx_;
  const ModelFile& file_;
  const LoadOptions& options_;
  uint64_t total_bytes_ = 0;
  uint64_t bytes_loaded_ = 0;
};

// The weights' part of a NetworkOutline: every matrix of the file packed for `device`, vectors in f32.
NetworkOutline outline_weights(const ModelFile& file, const Device& device, bool exact);

}  // namespace wick
