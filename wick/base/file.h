// Reading files by explicit offsets, and writing them so that a reader never sees half of one.
// Plain reads, no mappings: a file truncated while in use is an Error here and would be a signal there.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>

namespace wick {

class File {
 public:
  // Opens a regular file for reading. Throws Error(kNotFound) when it is missing, Error(kIo) when it cannot be opened or is not a regular
  // file (a pipe is refused without waiting for it), Error(kInvalidArgument) when the name is empty or holds a NUL.
  static File open(const std::string& path);
  // Takes ownership of a descriptor.
  static File adopt(int fd, uint64_t size, std::string path) { return File(fd, size, std::move(path)); }
  ~File();
  File(File&& other) noexcept;
  File& operator=(File&& other) noexcept;

  uint64_t size() const { return size_; }            // at open
  const std::string& path() const { return path_; }
  // Fills `out` from `offset`. Thread-safe. Throws Error(kIo) on a short read: the file shrank or the range lies past its end.
  void read_at(uint64_t offset, std::span<std::byte> out) const;

 private:
  File(int fd, uint64_t size, std::string path);
  int fd_ = -1;
  uint64_t size_ = 0;
  std::string path_;
};

// The whole file as bytes; Error(kLimitExceeded) when it is larger than max_bytes. "-" reads standard input up to the same limit.
std::string read_file(const std::string& path, uint64_t max_bytes);

// A file written beside `path` that takes its place when it is complete: `path` holds all of it or is as before. Its mode is
// that of any new file. Errors are kIo.
class AtomicFile {
 public:
  explicit AtomicFile(const std::string& path);
  ~AtomicFile();  // removes what was written unless commit() returned
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;
  void append(std::string_view bytes);
  void commit();  // syncs and renames; the last call on this object

 private:
  std::string path_;
  std::string temporary_;  // empty once it is in place
  int fd_ = -1;
};

// All of `content` through an AtomicFile.
void write_file_atomic(const std::string& path, std::string_view content);

}  // namespace wick
