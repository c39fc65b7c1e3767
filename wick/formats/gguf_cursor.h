// Reads the header of a GGUF file front to back through a small buffer. No length is believed before the bytes behind it are there,
// so nothing that a file claims can make the reader allocate more than a small multiple of the file's size.
//
// Not for tensor data, which is read by offset. Values are little-endian, as are all machines that wick builds for.
#pragma once

#include <bit>
#include <cstring>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "wick/formats/byte_source.h"

namespace wick {

class GgufCursor {
 public:
  static_assert(std::endian::native == std::endian::little);
  explicit GgufCursor(const ByteSource& source) : source_(source) {}

  uint64_t position() const { return begin_ + used_; }
  uint64_t left() const { return source_.size() - position(); }

  // What the following values belong to, for messages: about("key", name). `name` must outlive its use.
  void about(const char* kind, std::string_view name) { kind_ = kind, name_ = name; }
  void about_file() { kind_ = nullptr; }

  // Each throws Error(kInvalidFile), naming the file and the subject, when the file ends inside the value; `what` says which value that is.
  template <class T>
  T number(const char* what) {
    static_assert(std::is_arithmetic_v<T> && !std::is_same_v<T, bool>);
    T value;
    take(&value, sizeof value, what);
    return value;
  }
  std::string string(const char* what);
  // A count of items of at least `min_bytes` each: as many must be left in the file.
  uint64_t count(uint64_t min_bytes, const char* what);

  // Throws Error(kInvalidFile) with the file, the subject and the joined parts.
  template <class... Parts>
  [[noreturn]] void refuse(const Parts&... parts) const {
    fail(ErrorCode::kInvalidFile, subject(), parts...);
  }
  std::string subject() const;  // "model.gguf: key 'general.name': "

 private:
  void take(void* out, size_t bytes, const char* what) {
    if (bytes > buffer_.size() - used_) return take_across(static_cast<std::byte*>(out), bytes, what);
    std::memcpy(out, buffer_.data() + used_, bytes);
    used_ += bytes;
  }
  void take_across(std::byte* out, size_t bytes, const char* what);
  void need(uint64_t bytes, const char* what) const;

  const ByteSource& source_;
  std::vector<std::byte> buffer_;  // the bytes of the file from begin_; used_ of them are behind us
  uint64_t begin_ = 0;
  size_t used_ = 0;
  const char* kind_ = nullptr;
  std::string_view name_;
};

}  // namespace wick
