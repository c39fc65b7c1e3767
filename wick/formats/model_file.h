// A model file as named tensors and key-values, whatever its format. Holds the file open; tensors are read on demand.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "wick/formats/metadata.h"
#include "wick/tensor/tensor.h"

namespace wick {

class ByteSource;

struct TensorInfo {
  std::string name;
  Shape shape;            // outermost first: a weight is [out, in]
  DType dtype;            // meaningful only when `supported`
  std::string type_name;  // as the file says: "Q4_1", also for types wick does not know
  bool supported;         // wick has a dtype for it; whether it can compute with that, ops::can_pack knows
  uint64_t bytes;  // as stored; 0 when the type is unknown and with it the size
};

class ModelFile {
 public:
  virtual ~ModelFile() = default;
  virtual const std::string& path() const = 0;
  virtual uint64_t file_bytes() const = 0;
  virtual const Metadata& metadata() const = 0;
  virtual const std::vector<TensorInfo>& tensors() const = 0;  // in file order
  virtual const TensorInfo* find(std::string_view name) const = 0;
  // Fills `out` with bytes offset .. offset + out.size() - 1 of the tensor as stored. Thread-safe. Error(kIo) when the file changed
  // underneath, Error(kUnsupported) for a type that is not supported, Error(kInvalidArgument) for a range or a tensor that is not the
  // file's.
  virtual void read(const TensorInfo& info, uint64_t offset, std::span<std::byte> out) const = 0;
};

// Opens a model file of any readable format by its content, whatever its name. Error(kNotFound | kIo | kInvalidFile | kOutOfMemory), or
// Error(kUnsupported) for a model that this version cannot read; a file that is no model is described by what it looks like.
std::shared_ptr<const ModelFile> open_model_file(const std::string& path);
std::shared_ptr<const ModelFile> open_model_file(std::unique_ptr<ByteSource> source);

}  // namespace wick
