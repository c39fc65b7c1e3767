// Fuzz target: any bytes as a GGUF file. Opening it and reading its tensors works or throws Error; everything else is a finding.
#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "wick/base/error.h"
#include "wick/formats/gguf.h"

namespace {

// The getters of Metadata on every key: each gives a value or an Error for any type.
template <class Get>
void get(Get&& getter) {
  try {
    getter();
  } catch (const wick::Error&) {
  }
}

void read_keys(const wick::Metadata& metadata) {
  for (const auto& [key, value] : metadata.values()) {
    get([&, &name = key] { metadata.find_integer(name, -1, 1000); });
    get([&, &name = key] { metadata.find_number(name); });
    get([&, &name = key] { metadata.find_bool(name); });
    get([&, &name = key] { metadata.find_string(name); });
    get([&, &name = key] { metadata.find_strings(name); });
    get([&, &name = key] { metadata.find_integers(name); });
    get([&, &name = key] { metadata.find_numbers(name); });
  }
}

void read_tensors(const wick::ModelFile& file) {
  std::vector<std::byte> buffer(4096);
  for (const wick::TensorInfo& info : file.tensors()) {
    if (file.find(info.name) != &info) __builtin_trap();
    if (!info.supported) continue;
    for (uint64_t offset = 0; offset < info.bytes; offset += buffer.size()) {
      const size_t size = static_cast<size_t>(std::min<uint64_t>(buffer.size(), info.bytes - offset));
      file.read(info, offset, std::span(buffer.data(), size));
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    const auto file = wick::GgufFile::parse(std::string(reinterpret_cast<const char*>(data), size), "fuzz");
    read_keys(file->metadata());
    read_tensors(*file);
  } catch (const wick::Error&) {
  }
  return 0;
}
