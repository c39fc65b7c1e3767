#include "wick/tensor/context.h"

#include <algorithm>
#include <cstring>
#include <exception>
#include <memory>
#include <vector>

#include "wick/base/checked.h"
#include "wick/base/error.h"
#include "wick/tensor/tensor.h"

namespace wick {

// A stack of blocks. Positions count through all of them as if they were one, so a mark is one number. What does not fit in the rest of
// a block goes into the next one.
struct Context::Scratch {
  struct Block {
    std::shared_ptr<Storage> storage;
    int64_t begin;  // position where the block starts
    int64_t end() const { return begin + static_cast<int64_t>(storage->bytes()); }
  };
  static constexpr int64_t kAlignment = 64;
  static constexpr int64_t kFirstBlock = int64_t{1} << 20;
  static constexpr int64_t kLargest = int64_t{1} << 56;  // above any address space; sums with it do not wrap

  explicit Scratch(const Device& on) : device(on) {}

  void* take(int64_t bytes) {
    if (bytes > kLargest) fail(ErrorCode::kOutOfMemory, "scratch: cannot allocate ", bytes, " bytes on device ", device.name());
    bytes = round_up(bytes, kAlignment);
    size_t at = current;
    while (at < blocks.size() && std::max(used, blocks[at].begin) + bytes > blocks[at].end()) ++at;
    if (at == blocks.size()) grow(bytes);
    current = at;
    const int64_t position = std::max(used, blocks[at].begin);
    used = position + bytes;
    return blocks[at].storage->data() + (position - blocks[at].begin);
  }

  // As much again as there is: few blocks, whatever the sizes.
  void grow(int64_t bytes) {
    ++version;
    const int64_t end = blocks.empty() ? 0 : blocks.back().end();
    const int64_t size = std::max({bytes, kFirstBlock, end});
    blocks.push_back({Storage::allocate(device, static_cast<uint64_t>(size)), end});
  }

  void reset(int64_t mark) noexcept {
    used = mark;
    while (current > 0 && blocks[current].begin >= mark) --current;
    if (mark == 0 && blocks.size() > 1) join_blocks();
  }

  // One block as long as all of them: the next round finds everything in one place, since no position in it is higher than it was.
  void join_blocks() noexcept {
    const int64_t total = blocks.back().end();
    ++version;
    blocks.clear();
    current = 0;
    try {
      blocks.push_back({Storage::allocate(device, static_cast<uint64_t>(total)), 0});
    } catch (const std::exception&) {
      // There is no room for both at once: the next round begins with small blocks again.
    }
  }

  Device device;
  std::vector<Block> blocks;
  size_t current = 0;  // the block that holds position `used`
  int64_t used = 0;
  uint64_t version = 0;  // of the blocks
};

Context::Context(const Device& device, const Options& options)
    : device_(device),
      isa_(options.isa),
      batch_invariant_(device.is_cpu() || options.batch_invariant),
      pool_(options.threads > 0 ? options.threads : cpu_limits().threads()),
      scratch_(std::make_unique<Scratch>(device)),
      stream_(device.backend().open_stream ? device.backend().open_stream(device.index()) : nullptr) {
  require(options.threads >= 0, "Context: ", options.threads, " threads, expected 0 (automatic) or more");
  if (!isa_available(isa_)) fail(ErrorCode::kUnsupported, "instruction set ", isa_name(isa_), " is not available on this processor");
}

Context::~Context() = default;

void Context::reserve_scratch(uint64_t bytes) {
  if (scratch_->blocks.empty() && bytes > 0) scratch_->grow(static_cast<int64_t>(std::min<uint64_t>(bytes, Scratch::kLargest)));
}

uint64_t Context::scratch_version() const { return scratch_->version; }

void Context::copy(void* to, const void* from, uint64_t bytes) {
  if (stream_) {
    stream_->copy(to, from, bytes);
  } else if (bytes > 0) {
    std::memcpy(to, from, bytes);
  }
}

void* Context::scratch_bytes(int64_t bytes) {
  require(bytes >= 0, "scratch: ", bytes, " bytes");
  return scratch_->take(bytes);
}

ScratchScope::ScratchScope(Context& context) : context_(context), mark_(context.scratch_->used) {}
ScratchScope::~ScratchScope() { context_.scratch_->reset(mark_); }

}  // namespace wick
