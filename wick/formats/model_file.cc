#include "wick/formats/model_file.h"

#include <algorithm>
#include <filesystem>

#include "wick/formats/byte_source.h"
#include "wick/formats/gguf.h"
#include "wick/formats/printable.h"

namespace wick {
namespace {

std::string shown(const std::string& path) { return concat("'", printable(path, 200), "'"); }

// What a file that is no GGUF file looks like, to spare its owner the guessing.
struct Look {
  size_t offset;
  std::string_view begins;
  ErrorCode code;
  const char* description;
};
constexpr Look kLooks[] = {
    {8, "{\"", ErrorCode::kUnsupported, "a safetensors file, which this version cannot read"},
    {0, "lmgg", ErrorCode::kUnsupported, "a GGML file, the predecessor of GGUF: convert it"},
    {0, "tjgg", ErrorCode::kUnsupported, "a GGJT file, a predecessor of GGUF: convert it"},
    {0, "fmgg", ErrorCode::kUnsupported, "a GGMF file, a predecessor of GGUF: convert it"},
    {0, "PK\3\4", ErrorCode::kUnsupported,
     "a zip archive, perhaps a PyTorch checkpoint or a Python package, which this version cannot read"},
    {0, "version https://git-lfs", ErrorCode::kInvalidFile, "a Git LFS pointer: the model itself was not downloaded"},
    {0, "<", ErrorCode::kInvalidFile, "a web page, perhaps a failed download"},
    {0, "{", ErrorCode::kInvalidFile, "a JSON file"},
    {0, "\x1f\x8b", ErrorCode::kInvalidFile, "a gzip archive: unpack it first"},
};

[[noreturn]] void refuse(const std::string& name, std::string_view head) {
  if (head.empty()) fail(ErrorCode::kInvalidFile, shown(name), " is empty");
  for (const Look& look : kLooks) {
    if (head.size() > look.offset && head.substr(look.offset, look.begins.size()) == look.begins) {
      fail(look.code, shown(name), " is not a GGUF file but ", look.description);
    }
  }
  fail(ErrorCode::kInvalidFile, shown(name), " is not a model file: it begins with '", printable(head.substr(0, 8)), "', expected 'GGUF'");
}

void check_not_directory(const std::string& path) {
  namespace fs = std::filesystem;
  std::error_code ignored;
  if (path.find('\0') != std::string::npos || !fs::is_directory(path, ignored)) return;
  if (fs::exists(fs::path(path) / "config.json", ignored)) {
    fail(ErrorCode::kUnsupported, shown(path), " is a Hugging Face model directory, which this version cannot read: give a .gguf file");
  }
  fail(ErrorCode::kInvalidFile, shown(path), " is a directory: give a .gguf file");
}

}  // namespace

std::shared_ptr<const ModelFile> open_model_file(const std::string& path) {
  check_not_directory(path);
  return open_model_file(std::make_unique<FileSource>(File::open(path)));
}

std::shared_ptr<const ModelFile> open_model_file(std::unique_ptr<ByteSource> source) {
  char bytes[64];
  const size_t length = static_cast<size_t>(std::min<uint64_t>(sizeof bytes, source->size()));
  source->read_at(0, std::as_writable_bytes(std::span(bytes, length)));
  const std::string_view head(bytes, length);
  if (head.substr(0, kGgufMagic.size()) != kGgufMagic) refuse(source->name(), head);
  auto file = std::make_shared<const GgufFile>(std::move(source));
  if (const int64_t parts = file->metadata().find_integer("split.count", 0, 1 << 20).value_or(1); parts > 1) {
    fail(ErrorCode::kUnsupported, shown(file->path()), " is one of the ", parts,
         " files of a split model, which this version cannot read: merge them first");
  }
  return file;
}

}  // namespace wick
