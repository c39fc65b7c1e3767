#include "wick/formats/model_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>

#include "gguf_bytes.h"
#include "wick/base/file.h"
#include "wick/formats/byte_source.h"

namespace wick {
namespace {

using test::GgufBytes;
using test::Outcome;
using test::outcome_of;
using testing::HasSubstr;

class ModelFileTest : public testing::Test {
 protected:
  ModelFileTest() : directory_(std::filesystem::path(testing::TempDir()) / ("wick_model_file_" + std::to_string(getpid()))) {
    std::filesystem::create_directories(directory_);
  }
  ~ModelFileTest() override { std::filesystem::remove_all(directory_); }

  std::string write(const std::string& name, std::string_view content) {
    write_file_atomic(directory_ / name, content);
    return directory_ / name;
  }
  static Outcome open(const std::string& path) {
    return outcome_of([&] { open_model_file(path); });
  }

  std::filesystem::path directory_;
};

TEST_F(ModelFileTest, OpensGgufByContentWhateverItsName) {
  const std::string path = write("model.bin", test::small_gguf().bytes);
  const auto file = open_model_file(path);
  EXPECT_EQ(file->path(), path);
  EXPECT_EQ(file->metadata().string("general.architecture"), "llama");
  EXPECT_NE(file->find("weight"), nullptr);
}

TEST_F(ModelFileTest, OpensFromMemory) {
  const auto file = open_model_file(std::make_unique<MemorySource>(test::small_gguf().bytes, "embedded"));
  EXPECT_EQ(file->path(), "embedded");
  EXPECT_EQ(file->tensors().size(), 2u);
}

TEST_F(ModelFileTest, SaysWhatOtherFilesLookLike) {
  const struct {
    std::string content;
    ErrorCode code;
    const char* message;
  } cases[] = {
      {"", ErrorCode::kInvalidFile, "is empty"},
      {"GG", ErrorCode::kInvalidFile, "it begins with 'GG', expected 'GGUF'"},
      {std::string("\x10\0\0\0\0\0\0\0{\"__metadata__\":{}}", 27), ErrorCode::kUnsupported, "a safetensors file"},
      {"PK\3\4data", ErrorCode::kUnsupported, "a zip archive"},
      {"lmgg", ErrorCode::kUnsupported, "a GGML file"},
      {"<!DOCTYPE html><html>", ErrorCode::kInvalidFile, "a web page"},
      {"version https://git-lfs.github.com/spec/v1\noid", ErrorCode::kInvalidFile, "a Git LFS pointer"},
      {"{\"model\": 1}", ErrorCode::kInvalidFile, "a JSON file"},
      {"\x1f\x8b\x08", ErrorCode::kInvalidFile, "a gzip archive"},
      {std::string("\0\x1b\xff\n", 4), ErrorCode::kInvalidFile, "it begins with '\\x00\\x1b\\xff\\x0a', expected 'GGUF'"},
  };
  for (const auto& [content, code, message] : cases) {
    const std::string path = write("other.gguf", content);
    const Outcome outcome = open(path);
    EXPECT_EQ(outcome.code, code) << message;
    EXPECT_THAT(outcome.message, HasSubstr(message));
    EXPECT_THAT(outcome.message, HasSubstr("'" + path + "' is "));
  }
}

TEST_F(ModelFileTest, DirectoriesAndPathsThatAreNoFiles) {
  EXPECT_THAT(open(directory_).message, HasSubstr("is a directory: give a .gguf file"));
  EXPECT_EQ(open(directory_).code, ErrorCode::kInvalidFile);
  write("config.json", "{}");
  EXPECT_THAT(open(directory_).message, HasSubstr("is a Hugging Face model directory"));
  EXPECT_EQ(open(directory_).code, ErrorCode::kUnsupported);
  EXPECT_EQ(open(directory_ / "missing.gguf").code, ErrorCode::kNotFound);
  EXPECT_EQ(open("").code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(open(std::string("a\0b", 3)).code, ErrorCode::kInvalidArgument);
  const Outcome huge = open(std::string(100000, 'a'));
  EXPECT_EQ(huge.code, ErrorCode::kNotFound);
  EXPECT_LT(huge.message.size(), 500u);
  EXPECT_EQ(open("/dev/zero").code, ErrorCode::kIo);
}

TEST_F(ModelFileTest, PartsOfASplitModelAreNamedAsSuch) {
  GgufBytes part;
  part.header(0, 1).key("split.count", 2).number(uint16_t{3});
  const Outcome outcome = open(write("model-00001-of-00003.gguf", part.bytes));
  EXPECT_EQ(outcome.code, ErrorCode::kUnsupported);
  EXPECT_THAT(outcome.message, HasSubstr("is one of the 3 files of a split model"));
  GgufBytes whole;
  whole.header(0, 1).key("split.count", 2).number(uint16_t{1});
  EXPECT_EQ(open(write("whole.gguf", whole.bytes)).code, std::nullopt);
}

}  // namespace
}  // namespace wick
