#include "wick/base/file.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>
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

TEST_F(FileTest, TheModeIsThatOfAnyNewFile) {
  std::ofstream(path("plain")) << "x";
  write_file_atomic(path("a"), "x");
  EXPECT_EQ(std::filesystem::status(path("plain")).permissions(), std::filesystem::status(path("a")).permissions());
}

TEST_F(FileTest, AnUncommittedFileIsRemoved) {
  write_file_atomic(path("a"), "old");
  {
    AtomicFile file(path("a"));
    file.append("new");
    EXPECT_EQ("old", read_file(path("a"), 100));
  }
  EXPECT_EQ("old", read_file(path("a"), 100));
  AtomicFile first(path("a")), second(path("a"));
  first.append("first");
  second.append("second");
  second.commit();
  first.commit();
  EXPECT_EQ("first", read_file(path("a"), 100));
  EXPECT_EQ(1, std::distance(std::filesystem::directory_iterator(folder_), std::filesystem::directory_iterator()));
}

// A limit on the size of files stands for a full disk.
TEST_F(FileTest, AFullDiskIsAnError) {
  struct rlimit before;
  getrlimit(RLIMIT_FSIZE, &before);
  const struct rlimit small = {4096, before.rlim_max};
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  setrlimit(RLIMIT_FSIZE, &small);
  const ErrorCode code = code_of([&] { write_file_atomic(path("a"), std::string(10000, 'x')); });
  setrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, handler);
  EXPECT_EQ(ErrorCode::kIo, code);
  EXPECT_TRUE(std::filesystem::is_empty(folder_));
}

TEST_F(FileTest, ASparseFileIsRefusedBeforeItIsRead) {
  std::ofstream(path("sparse")) << "x";
  std::filesystem::resize_file(path("sparse"), uintmax_t{1} << 40);
  EXPECT_EQ(ErrorCode::kLimitExceeded, code_of([&] { read_file(path("sparse"), 1 << 20); }));
  const File file = File::open(path("sparse"));
  std::string part(4, 'x');
  file.read_at((uint64_t{1} << 40) - 4, std::as_writable_bytes(std::span(part)));
  EXPECT_EQ(std::string(4, '\0'), part);
}

TEST_F(FileTest, AFileOfUnknownSizeIsReadToItsEnd) {
  EXPECT_FALSE(read_file("/proc/self/status", 1 << 20).empty());
  EXPECT_EQ(ErrorCode::kLimitExceeded, code_of([&] { read_file("/proc/self/status", 3); }));
}

TEST_F(FileTest, MessagesAreOneLine) {
  for (const std::string& name : {std::string("a\nb\x1b[31m"), "é" + std::string(5000, 'x'), std::string(199, 'x') + "éé" + std::string(100, 'y')}) {
    try {
      File::open(path(name));
      ADD_FAILURE() << "no error";
    } catch (const Error& error) {
      const std::string message = error.what();
      EXPECT_LT(message.size(), 400u);
      for (const char c : message) EXPECT_TRUE(static_cast<unsigned char>(c) >= 0x20) << message;
    }
  }
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
