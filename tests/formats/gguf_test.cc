#include "wick/formats/gguf.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <thread>

#include "gguf_bytes.h"

namespace wick {
namespace {

using test::GgufBytes;
using test::outcome_of;
using test::small_gguf;
using testing::HasSubstr;

std::string read_all(const ModelFile& file, const TensorInfo& info) {
  std::string bytes(info.bytes, '\0');
  file.read(info, 0, std::as_writable_bytes(std::span(bytes.data(), bytes.size())));
  return bytes;
}

TEST(Gguf, ReadsKeysTensorsAndData) {
  for (const uint32_t version : {2u, 3u}) {
    const GgufBytes bytes = small_gguf(version);
    const auto file = GgufFile::parse(bytes.bytes, "small");
    EXPECT_EQ(file->path(), "small");
    EXPECT_EQ(file->file_bytes(), bytes.bytes.size());
    EXPECT_EQ(file->metadata().values().size(), 5u);
    EXPECT_EQ(file->metadata().string("general.architecture"), "llama");
    EXPECT_EQ(*file->metadata().find_strings("tokens"), (std::vector<std::string>{"a", "", "ccc"}));
    EXPECT_EQ(*file->metadata().find_integers("bytes"), (std::vector<int64_t>{1, 2, 3, 4}));

    ASSERT_EQ(file->tensors().size(), 2u);
    const TensorInfo& norm = file->tensors()[0];
    EXPECT_EQ(norm.name, "norm");
    EXPECT_EQ(norm.shape, (Shape{8}));
    EXPECT_EQ(norm.dtype, DType::kF32);
    EXPECT_EQ(norm.type_name, "F32");
    EXPECT_EQ(norm.bytes, 32u);
    const TensorInfo* weight = file->find("weight");
    ASSERT_EQ(weight, &file->tensors()[1]);
    EXPECT_EQ(weight->shape, (Shape{2, 32}));  // the file holds the innermost size first
    EXPECT_EQ(weight->dtype, DType::kQ8_0);
    EXPECT_TRUE(weight->supported);
    EXPECT_EQ(weight->bytes, 68u);
    EXPECT_EQ(file->find("weigh"), nullptr);
    EXPECT_EQ(file->find(""), nullptr);

    const size_t data = bytes.marks.at("data");
    EXPECT_EQ(read_all(*file, norm), bytes.bytes.substr(data, 32));
    EXPECT_EQ(read_all(*file, *weight), bytes.bytes.substr(data + 32, 68));
  }
}

TEST(Gguf, KeepsEveryValueTypeExactly) {
  GgufBytes bytes;
  bytes.header(0, 11);
  bytes.key("u8", 0).number(uint8_t{255}).key("i8", 1).number(int8_t{-128});
  bytes.key("u16", 2).number(uint16_t{65535}).key("i16", 3).number(int16_t{-32768});
  bytes.key("u32", 4).number(UINT32_MAX).key("i32", 5).number(INT32_MIN);
  bytes.key("f32", 6).number(0.1f).key("bool", 7).number(uint8_t{0});
  bytes.key("u64", 10).number(UINT64_MAX).key("i64", 11).number(INT64_MIN).key("f64", 12).number(0.1);
  const auto file = GgufFile::parse(bytes.bytes);
  const Metadata& metadata = file->metadata();
  const std::pair<const char*, MetadataValue> expected[] = {{"u8", uint64_t{255}},
                                                            {"i8", int64_t{-128}},
                                                            {"u16", uint64_t{65535}},
                                                            {"i16", int64_t{-32768}},
                                                            {"u32", uint64_t{UINT32_MAX}},
                                                            {"i32", int64_t{INT32_MIN}},
                                                            {"f32", static_cast<double>(0.1f)},
                                                            {"bool", false},
                                                            {"u64", uint64_t{UINT64_MAX}},
                                                            {"i64", int64_t{INT64_MIN}},
                                                            {"f64", 0.1}};
  for (const auto& [key, value] : expected) {
    ASSERT_TRUE(metadata.contains(key)) << key;
    EXPECT_EQ(*metadata.find(key), value) << key;
  }
}

TEST(Gguf, KeepsEveryArrayType) {
  GgufBytes bytes;
  bytes.header(0, 11);
  bytes.array("u8", 0, 2).number(uint8_t{1}).number(uint8_t{255});
  bytes.array("i8", 1, 1).number(int8_t{-1});
  bytes.array("u16", 2, 1).number(uint16_t{65535});
  bytes.array("i16", 3, 1).number(int16_t{-2});
  bytes.array("u32", 4, 0);
  bytes.array("i32", 5, 2).number(int32_t{-3}).number(int32_t{3});
  bytes.array("f32", 6, 1).number(0.5f);
  bytes.array("bool", 7, 3).number(uint8_t{1}).number(uint8_t{0}).number(uint8_t{1});
  bytes.array("u64", 10, 1).number(UINT64_MAX);
  bytes.array("i64", 11, 1).number(INT64_MIN);
  bytes.array("f64", 12, 1).number(-0.25);
  const auto file = GgufFile::parse(bytes.bytes);
  const std::pair<const char*, MetadataValue> expected[] = {
      {"u8", std::vector<uint64_t>{1, 255}},      {"i8", std::vector<int64_t>{-1}},
      {"u16", std::vector<uint64_t>{65535}},      {"i16", std::vector<int64_t>{-2}},
      {"u32", std::vector<uint64_t>{}},           {"i32", std::vector<int64_t>{-3, 3}},
      {"f32", std::vector<double>{0.5}},          {"bool", std::vector<bool>{true, false, true}},
      {"u64", std::vector<uint64_t>{UINT64_MAX}}, {"i64", std::vector<int64_t>{INT64_MIN}},
      {"f64", std::vector<double>{-0.25}}};
  for (const auto& [key, value] : expected) {
    ASSERT_TRUE(file->metadata().contains(key)) << key;
    EXPECT_EQ(*file->metadata().find(key), value) << key;
  }
}

TEST(Gguf, ReadsStringsLongerThanItsBuffer) {
  const std::string text(700001, 'x');
  GgufBytes bytes;
  bytes.header(0, 2).key("long", 8).text(text).array("many", 8, 100000);
  for (int i = 0; i < 100000; ++i) bytes.text(std::to_string(i));
  const auto file = GgufFile::parse(bytes.bytes);
  EXPECT_EQ(file->metadata().string("long"), text);
  const auto& many = *file->metadata().find_strings("many");
  for (size_t i = 0; i < many.size(); ++i) ASSERT_EQ(many[i], std::to_string(i));
}

TEST(Gguf, HonoursTheAlignmentKey) {
  GgufBytes bytes;
  bytes.header(2, 1).key("general.alignment", 4).u32(256);
  bytes.tensor("a", {1}, 24, 0).tensor("b", {1}, 24, 256).data(257, 256);
  const auto file = GgufFile::parse(bytes.bytes);
  EXPECT_EQ(read_all(*file, *file->find("a")), std::string(1, '\0'));
  EXPECT_EQ(read_all(*file, *file->find("b")), std::string(1, '\0'));
  EXPECT_EQ(bytes.bytes.size() % 256, 1u);
}

TEST(Gguf, AFileWithoutTensorsNeedsNoData) {
  GgufBytes bytes;
  bytes.header(0, 0);
  EXPECT_TRUE(GgufFile::parse(bytes.bytes)->tensors().empty());
}

TEST(Gguf, ListsTensorsThatItCannotRead) {
  GgufBytes bytes;
  bytes.header(3, 0).tensor("known", {256, 3}, 11, 0).tensor("unknown", {5, 7}, 77, 640).tensor("plain", {4}, 0, 672).data(688);
  const auto file = GgufFile::parse(bytes.bytes, "m.gguf");
  const TensorInfo& known = *file->find("known");
  EXPECT_FALSE(known.supported);
  EXPECT_EQ(known.type_name, "Q3_K");
  EXPECT_EQ(known.bytes, 330u);
  const TensorInfo& unknown = *file->find("unknown");
  EXPECT_FALSE(unknown.supported);
  EXPECT_EQ(unknown.type_name, "type 77");
  EXPECT_EQ(unknown.shape, (Shape{7, 5}));
  EXPECT_EQ(unknown.bytes, 0u);
  EXPECT_EQ(read_all(*file, *file->find("plain")).size(), 16u);

  std::byte byte;
  for (const TensorInfo* info : {&known, &unknown}) {
    const auto outcome = outcome_of([&] { file->read(*info, 0, std::span(&byte, 1)); });
    EXPECT_EQ(outcome.code, ErrorCode::kUnsupported);
    EXPECT_THAT(outcome.message, HasSubstr("m.gguf: tensor '" + info->name + "' has type " + info->type_name));
  }
}

TEST(Gguf, ReadsPartsAndRefusesRangesOutsideTheTensor) {
  const GgufBytes bytes = small_gguf();
  const auto file = GgufFile::parse(bytes.bytes);
  const TensorInfo copy = *file->find("weight");
  std::string part(34, '\0');
  file->read(copy, 34, std::as_writable_bytes(std::span(part.data(), part.size())));
  EXPECT_EQ(part, bytes.bytes.substr(bytes.marks.at("data") + 32 + 34, 34));
  file->read(copy, 68, {});

  const auto refused = [&](const TensorInfo& info, uint64_t offset) {
    return outcome_of([&] { file->read(info, offset, std::as_writable_bytes(std::span(part.data(), part.size()))); });
  };
  for (const uint64_t offset : {uint64_t{35}, uint64_t{69}, UINT64_MAX, UINT64_MAX - 33}) {
    EXPECT_EQ(refused(copy, offset).code, ErrorCode::kInvalidArgument) << offset;
  }
  TensorInfo lying = copy;
  lying.bytes = UINT64_MAX;
  EXPECT_EQ(refused(lying, 35).code, ErrorCode::kInvalidArgument);
  lying.name = "other";
  EXPECT_EQ(refused(lying, 0).code, ErrorCode::kInvalidArgument);
}

TEST(Gguf, ReadsFromSeveralThreads) {
  const GgufBytes bytes = small_gguf();
  const auto path = std::filesystem::path(testing::TempDir()) / (std::string("wick_gguf_threads.gguf") + std::to_string(getpid()));
  write_file_atomic(path, bytes.bytes);
  const auto file = GgufFile::open(path);
  std::vector<std::thread> threads;
  std::vector<int> wrong(4, 0);
  for (size_t t = 0; t < wrong.size(); ++t) {
    threads.emplace_back([&, t] {
      const size_t begin = bytes.marks.at("data") + 32;
      for (int i = 0; i < 200; ++i) wrong[t] += read_all(*file, *file->find("weight")) != bytes.bytes.substr(begin, 68);
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, std::vector<int>(4, 0));
  std::filesystem::remove(path);
}

TEST(Gguf, AFileCutAfterItWasOpenedIsAnError) {
  const GgufBytes bytes = small_gguf();
  const auto path = std::filesystem::path(testing::TempDir()) / (std::string("wick_gguf_cut.gguf") + std::to_string(getpid()));
  write_file_atomic(path, bytes.bytes);
  const auto file = GgufFile::open(path);
  std::filesystem::resize_file(path, bytes.bytes.size() - 1);
  EXPECT_EQ(read_all(*file, *file->find("norm")).size(), 32u);
  EXPECT_EQ(outcome_of([&] { read_all(*file, *file->find("weight")); }).code, ErrorCode::kIo);
  std::filesystem::remove(path);
}

// The facts of SmolLM2-135M-Instruct Q4_1, the default model.
TEST(Gguf, ReadsTheDefaultModel) {
  const char* path = std::getenv("WICK_TEST_MODEL");
  if (path == nullptr || *path == '\0') GTEST_SKIP() << "WICK_TEST_MODEL is not set";
  const auto file = GgufFile::open(path);
  EXPECT_EQ(file->file_bytes(), 98362432u);
  const Metadata& metadata = file->metadata();
  EXPECT_EQ(metadata.string("general.architecture"), "llama");
  EXPECT_EQ(metadata.integer("llama.block_count", 1, 1000), 30);
  EXPECT_EQ(metadata.integer("llama.embedding_length", 1, 100000), 576);
  EXPECT_EQ(metadata.integer("llama.attention.head_count", 1, 100), 9);
  EXPECT_EQ(metadata.integer("llama.attention.head_count_kv", 1, 100), 3);
  EXPECT_EQ(metadata.find_strings("tokenizer.ggml.tokens")->size(), 49152u);
  EXPECT_EQ(file->tensors().size(), 272u);
  uint64_t bytes = 0;
  for (const TensorInfo& info : file->tensors()) {
    EXPECT_TRUE(info.supported) << info.name;
    EXPECT_EQ(file->find(info.name), &info);
    bytes += read_all(*file, info).size();
  }
  EXPECT_GT(bytes, 90000000u);
  EXPECT_EQ(file->find("token_embd.weight")->shape, (Shape{49152, 576}));
}

}  // namespace
}  // namespace wick
