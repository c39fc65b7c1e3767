// A model file as `wick quantize` and `wick synth` write it: tensors in the types of a recipe, a bar, and a summary at the end.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "wick/apps/json_output.h"
#include "wick/formats/weight_types.h"
#include "wick/formats/gguf_writer.h"

namespace wick::apps {

class ModelWriter {
 public:
  // `recipe` must outlive this object; `layers` and `tied` as WeightRecipe::wanted takes them.
  ModelWriter(const Metadata& metadata, const WeightRecipe& recipe, int64_t layers, bool tied);

  // The type that a matrix of weights gets; a type that stands in for the recipe's is remembered for the summary. Nothing for what is not
  // a matrix.
  std::optional<DType> choose(const std::string& name, const Shape& shape);
  void add(const std::string& name, const Shape& shape, DType type, GgufWriter::Fill fill);

  // `path` holds the whole file or is as before. Throws OutputError, Error(kCancelled) when a signal of the InterruptScope in force came,
  // and what the fills throw.
  void save(const std::string& path, const char* doing) const;

  Json summary(const std::string& path) const;
  std::string summary_text(const std::string& path) const;

 private:
  struct Total {
    int64_t tensors = 0;
    uint64_t bytes = 0;
  };
  struct Substitute {
    std::string tensor;
    DType wanted, type;
  };

  const WeightRecipe& recipe_;
  int64_t layers_;
  bool tied_;
  GgufWriter writer_;
  std::map<DType, Total> totals_;
  std::vector<Substitute> substitutes_;
};

}  // namespace wick::apps
