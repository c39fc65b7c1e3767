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
  // `file` and `options` must outlive the loader. `layers` is what a recipe goes by.
  WeightLoader(Context& ctx, const ModelFile& file, const LoadOptions& options, int64_t layers);

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

  // Of all weights so far, in the types that they have now.
  uint64_t weight_bytes() const { return weight_bytes_; }

 private:
  const TensorInfo& expect(const std::string& name, const Shape& shape) const;
  WeightSource source(const TensorInfo& info);
  Tensor biases(const std::vector<Part>& parts, int64_t outputs);
  void say_converted(const TensorInfo& info, DType type);
  void loaded(const TensorInfo& info);

  Context& ctx_;
  const ModelFile& file_;
  const LoadOptions& options_;
  int64_t layers_;
  uint64_t total_bytes_ = 0;
  uint64_t bytes_loaded_ = 0;  // of the file
  uint64_t weight_bytes_ = 0;
  bool said_again_ = false, said_substitute_ = false;
};

// The weights' part of a NetworkOutline: every matrix of the file packed for `device`, vectors in f32.
NetworkOutline outline_weights(const ModelFile& file, const Device& device, const LoadOptions& options, int64_t layers);

}  // namespace wick
