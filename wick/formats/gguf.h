// GGUF, the single-file format of llama.cpp (versions 2 and 3, little-endian): header, key-values, tensor descriptions, then aligned data.
//
// The whole header is read and checked when a file is opened; tensor data only when asked for. Everything in the header is checked against
// the bytes that are left in the file before it is believed or allocated.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "wick/formats/byte_source.h"
#include "wick/formats/model_file.h"

namespace wick {

constexpr std::string_view kGgufMagic = "GGUF";
constexpr uint32_t kGgufDefaultAlignment = 32;

class GgufFile final : public ModelFile {
 public:
  // Throws Error(kInvalidFile) naming the key or tensor and what is wrong with it, Error(kUnsupported) for version 1 or big-endian files,
  // Error(kIo) for a file that changes underneath, Error(kOutOfMemory). Tensors of types that cannot be read are listed all the same.
  explicit GgufFile(std::unique_ptr<ByteSource> source);
  static std::shared_ptr<const GgufFile> open(const std::string& path);                        // also Error(kNotFound)
  static std::shared_ptr<const GgufFile> parse(std::string bytes, std::string name = "GGUF");  // from memory; `name` is for messages

  const std::string& path() const override { return source_->name(); }
  uint64_t file_bytes() const override { return source_->size(); }
  const Metadata& metadata() const override { return metadata_; }
  const std::vector<TensorInfo>& tensors() const override { return tensors_; }
  const TensorInfo* find(std::string_view name) const override;
  void read(const TensorInfo& info, uint64_t offset, std::span<std::byte> out) const override;

 private:
  void read_header();
  void index_names();

  std::unique_ptr<ByteSource> source_;
  Metadata metadata_;
  std::vector<TensorInfo> tensors_;
  std::vector<uint64_t> offsets_;  // of each tensor, from the beginning of the file
  std::vector<size_t> by_name_;    // indices of tensors_ in order of name; a hash table could be made to collide by a file
};

}  // namespace wick
