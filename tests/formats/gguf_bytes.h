// GGUF files for tests, byte by byte: unlike GgufWriter this can also make the ones that must be refused.
#pragma once

#include <cstdint>
#include <cstring>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "wick/base/error.h"

namespace wick::test {

class GgufBytes {
 public:
  std::string bytes;
  std::map<std::string, size_t> marks;  // where a named field begins

  template <class T>
  GgufBytes& number(T value) {
    char raw[sizeof value];
    std::memcpy(raw, &value, sizeof value);
    bytes.append(raw, sizeof raw);
    return *this;
  }
  GgufBytes& u32(uint32_t value) { return number(value); }
  GgufBytes& u64(uint64_t value) { return number(value); }
  GgufBytes& text(std::string_view value) {
    u64(value.size());
    bytes += value;
    return *this;
  }
  GgufBytes& mark(const std::string& name) {
    marks[name] = bytes.size();
    return *this;
  }
  GgufBytes& header(uint64_t tensors, uint64_t keys, uint32_t version = 3) {
    bytes += "GGUF";
    return mark("version").u32(version).mark("tensor count").u64(tensors).mark("key count").u64(keys);
  }
  GgufBytes& key(std::string_view name, uint32_t type) { return text(name).u32(type); }
  GgufBytes& array(std::string_view name, uint32_t type, uint64_t count) { return key(name, 9).u32(type).u64(count); }
  GgufBytes& tensor(std::string_view name, std::initializer_list<uint64_t> dims, uint32_t type, uint64_t offset) {
    text(name).u32(static_cast<uint32_t>(dims.size()));
    for (const uint64_t dim : dims) u64(dim);
    return u32(type).u64(offset);
  }
  GgufBytes& data(size_t size, size_t alignment = 32) {
    bytes.resize((bytes.size() + alignment - 1) / alignment * alignment, '\0');
    mark("data");
    for (size_t i = 0; i < size; ++i) bytes += static_cast<char>(i);
    return *this;
  }
  // A copy with the field at `name` overwritten.
  template <class T>
  std::string with(const std::string& name, T value) const {
    std::string changed = bytes;
    std::memcpy(changed.data() + marks.at(name), &value, sizeof value);
    return changed;
  }
};

// A small valid file: keys of several types, two tensors, every count and size marked. Its last byte is the last byte of the last tensor.
inline GgufBytes small_gguf(uint32_t version = 3) {
  GgufBytes file;
  file.header(2, 5, version);
  file.mark("key length").key("general.architecture", 8).mark("string length").text("llama");
  file.text("general.alignment").mark("value type").u32(4).mark("alignment").u32(32);
  file.text("tokens").u32(9).mark("element type").u32(8).mark("string count").u64(3).mark("element length").text("a").text("").text("ccc");
  file.text("bytes").u32(9).u32(0).mark("byte count").u64(4).u32(0x04030201);
  file.key("flag", 7).mark("flag").number(uint8_t{1});
  file.mark("name length").text("norm").mark("rank").u32(1).mark("dimension").u64(8).mark("type").u32(0).mark("offset").u64(0);
  file.text("weight").u32(2).mark("inner").u64(32).mark("outer").u64(2).mark("second type").u32(8).mark("second offset").u64(32);
  file.data(32 + 2 * 34);
  return file;
}

struct Outcome {
  std::optional<ErrorCode> code;  // nothing: it worked
  std::string message;
};

// Runs `action`, which may throw Error; anything else fails the test.
template <class Action>
Outcome outcome_of(Action&& action) {
  try {
    action();
  } catch (const Error& error) {
    return {error.code(), error.what()};
  }
  return {};
}

}  // namespace wick::test
