#include "wick/base/file.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "wick/base/error.h"

namespace wick {
namespace {

class FileTest : public testing::Test {
 protected:
  FileTest() : folder_(testing::TempDir() + "wick_file_" + std::to_string(getpid())) { std::filesystem::create_directories(folder_); }
  ~FileTest() override { std::filesystem::remove_all(folder_); }
  std::string path(const std::string& name) const { return folder_ + "/" + name; }
  std::string folder_;
};

template <class Call>
ErrorCode code_of(Call&& call) {
  try {
    call();
  } catch (const Error& error) {
    return error.code();
  }
  ADD_FAILURE() << "no error";
  return ErrorCode::kInternal;
}

TEST_F(FileTest, WritesAtomicallyAndReadsBack) {
  write_file_atomic(path("a"), "first");
  EXPECT_EQ("first", read_file(path("a"), 100));
  const std::string large(300000, 'x');
  write_file_atomic(path("a"), large);
  EXPECT_EQ(large, read_file(path("a"), 300000));
  EXPECT_EQ(1, std::distance(std::filesystem::directory_iterator(folder_), std::filesystem::directory_iterator())) << "no temporary file stays";
  EXPECT_EQ(ErrorCode::kLimitExceeded, code_of([&] { read_file(path("a"), 299999); }));
}

TEST_F(FileTest, AFailedWriteLeavesNothing) {
  EXPECT_EQ(ErrorCode::kIo, code_of([&] { write_file_atomic(path("missing/a"), "x"); }));
  std::filesystem::create_directories(path("folder"));
  EXPECT_EQ(ErrorCode::kIo, code_of([&] { write_file_atomic(path("folder"), "x"); }));
  EXPECT_EQ(1, std::distance(std::filesystem::directory_iterator(folder_), std::filesystem::directory_iterator()));
}

TEST_F(FileTest, ReadsByOffset) {
  write_file_atomic(path("a"), "0123456789");
  const File file = File::open(path("a"));
  EXPECT_EQ(10u, file.size());
  std::string part(4, ' ');
  file.read_at(3, std::as_writable_bytes(std::span(part)));
  EXPECT_EQ("3456", part);
  file.read_at(10, {});
  for (const uint64_t offset : {uint64_t{7}, uint64_t{10}, uint64_t{11}, UINT64_MAX, UINT64_MAX - 3}) {
    EXPECT_EQ(ErrorCode::kIo, code_of([&] { file.read_at(offset, std::as_writable_bytes(std::span(part))); })) << offset;
  }
}

TEST_F(FileTest, AFileThatShrinksIsAnError) {
  write_file_atomic(path("a"), std::string(10000, 'x'));
  const File file = File::open(path("a"));
  std::filesystem::resize_file(path("a"), 100);
  std::string part(50, ' ');
  EXPECT_EQ(ErrorCode::kIo, code_of([&] { file.read_at(500, std::as_writable_bytes(std::span(part))); }));
}

TEST_F(FileTest, WhatIsNoFileIsRefusedWithoutWaiting) {
  EXPECT_EQ(ErrorCode::kNotFound, code_of([&] { File::open(path("nothing")); }));
  EXPECT_EQ(ErrorCode::kIo, code_of([&] { File::open(folder_); }));
  ASSERT_EQ(0, mkfifo(path("fifo").c_str(), 0600));
  EXPECT_EQ(ErrorCode::kIo, code_of([&] { File::open(path("fifo")); }));
  EXPECT_EQ(ErrorCode::kIo, code_of([&] { File::open("/dev/zero"); }));
  EXPECT_EQ(ErrorCode::kInvalidArgument, code_of([&] { File::open(""); }));
  EXPECT_EQ(ErrorCode::kInvalidArgument, code_of([&] { File::open(std::string("a\0b", 3)); }));
  EXPECT_EQ(ErrorCode::kNotFound, code_of([&] { File::open(std::string(100000, 'x')); }));
}

TEST_F(FileTest, MovesKeepTheFileOpen) {
  write_file_atomic(path("a"), "abc");
  write_file_atomic(path("b"), "de");
  File file = File::open(path("a"));
  File moved = std::move(file);
  File other = File::open(path("b"));
  other = std::move(moved);
  std::string all(3, ' ');
  other.read_at(0, std::as_writable_bytes(std::span(all)));
  EXPECT_EQ("abc", all);
}

}  // namespace
}  // namespace wick
