// Writes GGUF files from key-values and tensors: the other direction of gguf.h.
//
//   Metadata metadata;
//   metadata.insert("general.architecture", std::string("llama"));
//   GgufWriter writer(std::move(metadata));
//   writer.add("token_embd.weight", {vocabulary, width}, DType::kF16, std::move(bytes));
//   writer.save("model.gguf");
//
// Holds no tensor data of its own where that comes from a function, so that a file may be larger than memory.
#pragma once

#include <functional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "wick/base/function_ref.h"
#include "wick/formats/gguf_types.h"
#include "wick/formats/metadata.h"
#include "wick/tensor/tensor.h"

namespace wick {

class GgufWriter {
 public:
  // Fills `out` with the tensor's bytes from `offset` on. Called once for each piece in ascending order; a piece is one or more whole rows.
  using Fill = std::function<void(uint64_t offset, std::span<std::byte> out)>;

  // Tensor data is aligned to the key general.alignment, 32 without it. Integers are written with 32 bits where they (in an array, all of
  // them) fit and floating numbers as f32, since that is what readers of the format expect; f64 only for what f32 would turn to infinity.
  // Error(kInvalidArgument) for a version other than 2 and 3 and for an alignment that is not a power of two.
  explicit GgufWriter(const Metadata& metadata, uint32_t version = 3);

  // Tensors are stored in the order in which they are added; `shape` is outermost first, rank 1 to 4. Error(kInvalidArgument) for a name
  // that was added before, a type the format does not have, rows that are not whole blocks, or `bytes` of another size than the tensor.
  void add(const std::string& name, const Shape& shape, DType dtype, Fill fill);
  void add(const std::string& name, const Shape& shape, DType dtype, std::string bytes);

  uint64_t file_bytes() const;                                       // of the finished file
  void write(FunctionRef<void(std::string_view bytes)> sink) const;  // the whole file, piece by piece
  std::string to_string() const;
  void save(const std::string& path) const;  // `path` holds the whole file or is as before; Error(kIo)

 private:
  struct Entry {
    std::string name;
    Shape shape;
    const GgufType* type;
    uint64_t offset;  // within the data
    uint64_t bytes;
    Fill fill;
  };
  Entry& add_entry(const std::string& name, const Shape& shape, DType dtype);
  std::string header() const;

  uint32_t version_;
  uint64_t alignment_;
  uint64_t key_count_;
  std::string keys_;  // as stored
  std::vector<Entry> entries_;
  std::set<std::string> names_;
  uint64_t data_bytes_ = 0;
};

}  // namespace wick
