#include "wick/formats/gguf_writer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <limits>

#include "gguf_bytes.h"
#include "wick/base/file.h"
#include "wick/formats/gguf.h"

namespace wick {
namespace {

using test::outcome_of;
using testing::HasSubstr;

std::string numbered(size_t size) {
  std::string bytes(size, '\0');
  for (size_t i = 0; i < size; ++i) bytes[i] = static_cast<char>(i * 7 + i / 256);
  return bytes;
}

std::string read_all(const ModelFile& file, const std::string& name) {
  const TensorInfo& info = *file.find(name);
  std::string bytes(info.bytes, '\0');
  file.read(info, 0, std::as_writable_bytes(std::span(bytes.data(), bytes.size())));
  return bytes;
}

Metadata every_kind() {
  Metadata metadata;
  metadata.insert("bool", true);
  metadata.insert("signed", int64_t{-7});
  metadata.insert("signed wide", std::numeric_limits<int64_t>::min());
  metadata.insert("unsigned", uint64_t{UINT32_MAX});
  metadata.insert("unsigned wide", uint64_t{UINT32_MAX} + 1);
  metadata.insert("number", static_cast<double>(1e-5f));
  metadata.insert("number wide", 1e300);
  metadata.insert("infinite", -std::numeric_limits<double>::infinity());
  metadata.insert("text", std::string("a\0b\xff", 4));
  metadata.insert("bools", std::vector<bool>{true, false, true});
  metadata.insert("signeds", std::vector<int64_t>{-1, 0, INT32_MAX});
  metadata.insert("unsigneds", std::vector<uint64_t>{});
  metadata.insert("unsigneds wide", std::vector<uint64_t>{1, UINT64_MAX});
  metadata.insert("numbers", std::vector<double>{0.5, -0.25});
  metadata.insert("texts", std::vector<std::string>{"", "x", "yz"});
  return metadata;
}

TEST(GgufWriter, WhatItWritesIsReadBack) {
  for (const uint32_t version : {2u, 3u}) {
    const Metadata metadata = every_kind();
    GgufWriter writer(metadata, version);
    writer.add("b", {3, 5}, DType::kF32, numbered(60));
    writer.add("a", {2, 1, 2, 64}, DType::kQ4_1, numbered(160));
    writer.add("c", {7}, DType::kI8, numbered(7));
    const std::string bytes = writer.to_string();
    EXPECT_EQ(bytes.size(), writer.file_bytes());
    EXPECT_EQ(bytes.size() % 32, 0u);
    const auto file = GgufFile::parse(bytes);
    EXPECT_EQ(file->metadata().values(), metadata.values());
    ASSERT_EQ(file->tensors().size(), 3u);
    EXPECT_EQ(file->tensors()[0].name, "b");
    EXPECT_EQ(file->find("b")->shape, (Shape{3, 5}));
    EXPECT_EQ(file->find("a")->shape, (Shape{2, 1, 2, 64}));
    EXPECT_EQ(file->find("a")->dtype, DType::kQ4_1);
    EXPECT_EQ(read_all(*file, "b"), numbered(60));
    EXPECT_EQ(read_all(*file, "a"), numbered(160));
    EXPECT_EQ(read_all(*file, "c"), numbered(7));
  }
}

// The bytes themselves, so that reader and writer cannot be wrong together.
TEST(GgufWriter, WritesTheBytesOfTheFormat) {
  Metadata metadata;
  metadata.insert("eps", 0.5);
  metadata.insert("ids", std::vector<int64_t>{-1});
  metadata.insert("n", uint64_t{7});
  GgufWriter writer(metadata);
  writer.add("w", {1, 2}, DType::kF16, std::string("\1\2\3\4"));
  test::GgufBytes expected;
  expected.header(1, 3).key("eps", 6).number(0.5f).array("ids", 5, 1).number(int32_t{-1}).key("n", 4).u32(7);
  expected.tensor("w", {2, 1}, 1, 0);
  expected.bytes.resize((expected.bytes.size() + 31) / 32 * 32, '\0');
  expected.bytes += std::string("\1\2\3\4");
  expected.bytes.resize((expected.bytes.size() + 31) / 32 * 32, '\0');
  EXPECT_EQ(writer.to_string(), expected.bytes);
}

TEST(GgufWriter, AlignsTensorsAsTheKeySays) {
  Metadata metadata;
  metadata.insert("general.alignment", uint64_t{256});
  GgufWriter writer(metadata);
  writer.add("a", {1}, DType::kI8, numbered(1));
  writer.add("b", {3}, DType::kI8, numbered(3));
  const std::string bytes = writer.to_string();
  EXPECT_EQ(bytes.size() % 256, 0u);
  EXPECT_EQ(read_all(*GgufFile::parse(bytes), "b"), numbered(3));
}

TEST(GgufWriter, AsksForLargeTensorsInWholeRows) {
  GgufWriter writer{Metadata()};
  constexpr int64_t kRows = 1000, kRow = 3001;
  uint64_t expected = 0;
  size_t pieces = 0;
  writer.add("w", {kRows, kRow}, DType::kI8, [&](uint64_t offset, std::span<std::byte> out) {
    EXPECT_EQ(offset, expected);
    EXPECT_EQ(out.size() % kRow, 0u);
    EXPECT_LE(out.size(), size_t{1} << 20);
    for (size_t i = 0; i < out.size(); ++i) out[i] = static_cast<std::byte>((offset + i) / kRow);
    expected += out.size();
    ++pieces;
  });
  const std::string data = read_all(*GgufFile::parse(writer.to_string()), "w");
  EXPECT_EQ(expected, data.size());
  EXPECT_EQ(pieces, 3u);
  for (size_t row = 0; row < kRows; ++row) ASSERT_EQ(data[row * kRow + kRow - 1], static_cast<char>(row));
}

TEST(GgufWriter, SavesAllOrNothing) {
  const auto directory = std::filesystem::path(testing::TempDir()) / (std::string("wick_gguf_writer") + std::to_string(getpid()));
  std::filesystem::create_directories(directory);
  const std::string path = directory / "model.gguf";
  Metadata metadata = every_kind();
  GgufWriter good(metadata);
  good.add("w", {4}, DType::kF32, numbered(16));
  good.save(path);
  EXPECT_EQ(read_file(path, 1 << 20), good.to_string());

  GgufWriter bad(metadata);
  bad.add("w", {4}, DType::kF32, [](uint64_t, std::span<std::byte>) { fail(ErrorCode::kIo, "no data"); });
  EXPECT_EQ(outcome_of([&] { bad.save(path); }).message, "no data");
  EXPECT_EQ(read_file(path, 1 << 20), good.to_string());
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(directory), {}), 1);  // no temporary file is left
  EXPECT_EQ(outcome_of([&] { good.save(directory / "missing" / "model.gguf"); }).code, ErrorCode::kIo);
  std::filesystem::remove_all(directory);
}

TEST(GgufWriter, RefusesWhatTheFormatCannotHold) {
  GgufWriter writer{Metadata()};
  writer.add("w", {32}, DType::kQ8_0, std::string(34, '\0'));
  const std::string before = writer.to_string();
  const auto refuse = [&](const std::string& name, const Shape& shape, DType dtype, size_t bytes, const char* message) {
    const auto outcome = outcome_of([&] { writer.add(name, shape, dtype, std::string(bytes, '\0')); });
    EXPECT_EQ(outcome.code, ErrorCode::kInvalidArgument) << message;
    EXPECT_THAT(outcome.message, HasSubstr(message));
  };
  refuse("w", {1}, DType::kI8, 1, "tensor 'w' was added before");
  refuse("x", {4}, DType::kF32, 15, "tensor 'x': 15 bytes given, 16 expected");
  refuse("x", {4}, DType::kU8, 4, "tensor 'x': GGUF has no type for u8");
  refuse("x", {}, DType::kF32, 4, "expected rank 1 to 4");
  refuse("x", {1, 1, 1, 1, 1}, DType::kF32, 4, "expected rank 1 to 4");
  refuse("x", {0}, DType::kF32, 0, "expected sizes above 0");
  refuse("x", {2, 16}, DType::kQ8_0, 34, "blocks of 32");
  EXPECT_EQ(writer.to_string(), before);

  EXPECT_EQ(outcome_of([] { GgufWriter(Metadata(), 1); }).code, ErrorCode::kInvalidArgument);
  Metadata odd;
  odd.insert("general.alignment", uint64_t{48});
  EXPECT_THAT(outcome_of([&] { GgufWriter{odd}; }).message, HasSubstr("key 'general.alignment' is 48, expected a power of two"));
}

}  // namespace
}  // namespace wick
