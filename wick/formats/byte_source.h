// Where a format's bytes come from: a file, or memory in tests, fuzzing and embedded models.
#pragma once

#include <cstring>
#include <memory>
#include <span>
#include <string>

#include "wick/base/error.h"
#include "wick/base/file.h"

namespace wick {

class ByteSource {
 public:
  virtual ~ByteSource() = default;
  virtual const std::string& name() const = 0;  // for messages
  virtual uint64_t size() const = 0;
  virtual void read_at(uint64_t offset, std::span<std::byte> out) const = 0;  // thread-safe; Error(kIo) past the end
};

class FileSource final : public ByteSource {
 public:
  explicit FileSource(File file) : file_(std::move(file)) {}
  const std::string& name() const override { return file_.path(); }
  uint64_t size() const override { return file_.size(); }
  void read_at(uint64_t offset, std::span<std::byte> out) const override { file_.read_at(offset, out); }

 private:
  File file_;
};

class MemorySource final : public ByteSource {
 public:
  MemorySource(std::string bytes, std::string name) : bytes_(std::move(bytes)), name_(std::move(name)) {}
  const std::string& name() const override { return name_; }
  uint64_t size() const override { return bytes_.size(); }
  void read_at(uint64_t offset, std::span<std::byte> out) const override {
    if (offset > bytes_.size() || out.size() > bytes_.size() - offset) {
      fail(ErrorCode::kIo, name_, ": ", out.size(), " bytes at ", offset, " lie past its end, ", bytes_.size());
    }
    if (!out.empty()) std::memcpy(out.data(), bytes_.data() + offset, out.size());
  }

 private:
  std::string bytes_;
  std::string name_;
};

}  // namespace wick
