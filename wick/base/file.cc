#include "wick/base/file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <ios>
#include <utility>

#include "wick/base/error.h"

namespace wick {
namespace {

// A path as part of one line of a message: cut at a character, without control characters.
std::string shown(const std::string& path) {
  constexpr size_t kMaxShown = 200;
  size_t length = std::min(path.size(), kMaxShown);
  if (length < path.size()) {
    while (length > 0 && (path[length] & 0xc0) == 0x80) --length;
  }
  std::string text = path.substr(0, length);
  for (char& c : text) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = '?';
  }
  return length < path.size() ? text + "…" : text;
}

std::string reason(int error) { return std::strerror(error); }

void check_path(const std::string& path) {
  require(!path.empty(), "the file name is empty");
  require(path.find('\0') == std::string::npos, "file name '", shown(path.substr(0, path.find('\0'))), "' holds a NUL character");
}

// Opens without blocking on a FIFO and only keeps regular files.
int open_regular(const std::string& path, uint64_t* size) {
  check_path(path);
  int fd = -1;
  do {
    fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
  } while (fd < 0 && errno == EINTR);
  if (fd < 0) {
    const int error = errno;
    const bool missing = error == ENOENT || error == ENOTDIR || error == ENAMETOOLONG;
    fail(missing ? ErrorCode::kNotFound : ErrorCode::kIo, "cannot open '", shown(path), "': ", reason(error));
  }
  struct stat info;
  if (::fstat(fd, &info) != 0 || !S_ISREG(info.st_mode)) {
    ::close(fd);
    fail(ErrorCode::kIo, "'", shown(path), "' is not a regular file");
  }
  *size = static_cast<uint64_t>(info.st_size);
  return fd;
}

// Reads up to `wanted` bytes; fewer only at the end of the file.
size_t read_some(int fd, std::byte* out, size_t wanted, const std::string& path) {
  while (true) {
    const ssize_t got = ::read(fd, out, std::min<size_t>(wanted, 1u << 30));
    if (got >= 0) return static_cast<size_t>(got);
    if (errno != EINTR) fail(ErrorCode::kIo, "cannot read '", shown(path), "': ", reason(errno));
  }
}

constexpr uint64_t kMaxReserved = uint64_t{64} << 20;

void write_all(int fd, std::string_view content, const std::string& path) {
  while (!content.empty()) {
    const ssize_t put = ::write(fd, content.data(), std::min<size_t>(content.size(), 1u << 30));
    if (put < 0 && errno == EINTR) continue;
    if (put <= 0) fail(ErrorCode::kIo, "cannot write '", shown(path), "': ", reason(errno));
    content.remove_prefix(static_cast<size_t>(put));
  }
}

}  // namespace

File File::open(const std::string& path) {
  uint64_t size = 0;
  const int fd = open_regular(path, &size);
  return File(fd, size, path);
}

File::File(int fd, uint64_t size, std::string path) : fd_(fd), size_(size), path_(std::move(path)) {}

File::~File() {
  if (fd_ >= 0) ::close(fd_);
}

File::File(File&& other) noexcept : fd_(std::exchange(other.fd_, -1)), size_(other.size_), path_(std::move(other.path_)) {}

File& File::operator=(File&& other) noexcept {
  std::swap(fd_, other.fd_);
  std::swap(size_, other.size_);
  std::swap(path_, other.path_);
  return *this;
}

void File::read_at(uint64_t offset, std::span<std::byte> out) const {
  if (offset > size_ || out.size() > size_ - offset) {
    fail(ErrorCode::kIo, "'", shown(path_), "': ", out.size(), " bytes at ", offset, " lie past its end, ", size_);
  }
  while (!out.empty()) {
    const ssize_t got = ::pread(fd_, out.data(), std::min<size_t>(out.size(), 1u << 30), static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) fail(ErrorCode::kIo, "cannot read '", shown(path_), "': ", reason(errno));
    if (got == 0) fail(ErrorCode::kIo, "'", shown(path_), "' was ", size_, " bytes long and ends at ", offset, " now");
    out = out.subspan(static_cast<size_t>(got));
    offset += static_cast<uint64_t>(got);
  }
}

std::string read_file(const std::string& path, uint64_t max_bytes) {
  const bool standard_input = path == "-";
  uint64_t size = 0;
  const int fd = standard_input ? ::fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 0) : open_regular(path, &size);
  if (fd < 0) fail(ErrorCode::kIo, "cannot read standard input: ", reason(errno));
  const File owner = File::adopt(fd, size, path);
  std::string content;
  if (size > max_bytes) fail(ErrorCode::kLimitExceeded, "'", shown(path), "' has ", size, " bytes, expected at most ", max_bytes);
  content.reserve(std::min(size, kMaxReserved));  // a sparse file may claim any size
  std::byte block[65536];
  while (const size_t got = read_some(fd, block, sizeof block, path)) {
    if (got > max_bytes - content.size()) fail(ErrorCode::kLimitExceeded, "'", shown(path), "' is longer than ", max_bytes, " bytes");
    content.append(reinterpret_cast<const char*>(block), got);
  }
  return content;
}

AtomicFile::AtomicFile(const std::string& path) : path_(path) {
  check_path(path);
  // Not mkstemp: it makes files that only their owner may read, and the umask cannot be read without setting it for the whole process.
  static std::atomic<uint64_t> serial{0};
  std::string temporary;
  do {
    const auto now = std::chrono::steady_clock::now().time_since_epoch().count();
    temporary = concat(path, ".", ::getpid(), ".", std::hex, now, ".", serial.fetch_add(1), ".tmp");
    fd_ = ::open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0666);
  } while (fd_ < 0 && (errno == EEXIST || errno == EINTR));
  if (fd_ < 0) fail(ErrorCode::kIo, "cannot create a file beside '", shown(path), "': ", reason(errno));
  temporary_ = std::move(temporary);
}

AtomicFile::~AtomicFile() {
  if (fd_ >= 0) ::close(fd_);
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
}

void AtomicFile::append(std::string_view bytes) { write_all(fd_, bytes, path_); }

void AtomicFile::commit() {
  if (::fsync(fd_) != 0) fail(ErrorCode::kIo, "cannot write '", shown(path_), "': ", reason(errno));
  if (::rename(temporary_.c_str(), path_.c_str()) != 0) fail(ErrorCode::kIo, "cannot replace '", shown(path_), "': ", reason(errno));
  temporary_.clear();
}

void write_file_atomic(const std::string& path, std::string_view content) {
  AtomicFile file(path);
  file.append(content);
  file.commit();
}

}  // namespace wick
