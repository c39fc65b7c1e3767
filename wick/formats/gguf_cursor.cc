#include "wick/formats/gguf_cursor.h"

#include <algorithm>

#include "wick/formats/printable.h"

namespace wick {

std::string GgufCursor::string(const char* what) {
  const uint64_t length = number<uint64_t>(what);
  need(length, what);
  std::string text(static_cast<size_t>(length), '\0');
  if (length > 0) take(text.data(), text.size(), what);
  return text;
}

uint64_t GgufCursor::count(uint64_t min_bytes, const char* what) {
  const uint64_t items = number<uint64_t>(what);
  if (items > left() / min_bytes) refuse(what, " is ", items, ", but only ", left(), " bytes are left in the file");
  return items;
}

std::string GgufCursor::subject() const {
  std::string text = printable(source_.name(), 200) + ": ";
  if (kind_ != nullptr) text += concat(kind_, " '", printable(name_), "': ");
  return text;
}

void GgufCursor::take_across(std::byte* out, size_t bytes, const char* what) {
  constexpr uint64_t kBufferBytes = 1 << 18;
  need(bytes, what);
  while (bytes > 0) {
    if (used_ == buffer_.size()) {
      begin_ += used_;
      used_ = 0;
      buffer_.resize(static_cast<size_t>(std::min(kBufferBytes, left())));
      source_.read_at(begin_, buffer_);
    }
    const size_t part = std::min(bytes, buffer_.size() - used_);
    std::memcpy(out, buffer_.data() + used_, part);
    used_ += part;
    out += part;
    bytes -= part;
  }
}

void GgufCursor::need(uint64_t bytes, const char* what) const {
  if (bytes > left()) refuse("the file ends inside ", what, ": ", bytes, " bytes needed at ", position(), ", ", left(), " left");
}

}  // namespace wick
