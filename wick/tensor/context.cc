#include "wick/tensor/context.h"

#include <algorithm>
#include <memory>
#include <vector>

#include "wick/base/checked.h"
#include "wick/base/error.h"
#include "wick/tensor/tensor.h"

namespace wick {

// A stack of blocks. `used` counts through all of them as if they were one, so a mark is one number.
struct Context::Scratch {
  struct Block {
    std::shared_ptr<Storage> storage;
    int64_t begin;  // of the stack position where the block starts
  };
  static constexpr int64_t kFirstBlock = int64_t{1} << 20;

  explicit Scratch(const Device& on) : device(on) {}

  void* take(int64_t bytes) {
    bytes = round_up<int64_t>(bytes, 64);
    if (blocks.empty() || used + bytes > end()) grow(bytes);
    Block& block = blocks.back();
    void* data = block.storage->data() + (used - block.begin);
    used += bytes;
    return data;
  }

  int64_t end() const { return blocks.back().begin + static_cast<int64_t>(blocks.back().storage->bytes()); }

  void grow(int64_t bytes) {
    const int64_t size = std::max({bytes, kFirstBlock, blocks.empty() ? int64_t{0} : end()});
    if (!blocks.empty()) used = end();
    blocks.push_back({Storage::allocate(device, static_cast<uint64_t>(size)), used});
  }

  // When the outermost scope ends, several blocks become one that holds them all: the next round finds everything in one place.
  void reset(int64_t mark) {
    used = mark;
    if (mark == 0 && blocks.size() > 1) {
      const int64_t total = end();
      blocks.clear();
      blocks.push_back({Storage::allocate(device, static_cast<uint64_t>(total)), 0});
    }
    while (blocks.size() > 1 && blocks.back().begin >= mark) blocks.pop_back();
  }

  Device device;
  std::vector<Block> blocks;
  int64_t used = 0;
};

Context::Context(const Device& device, const Options& options)
    : device_(device),
      isa_(options.isa),
      pool_(options.threads > 0 ? options.threads : cpu_limits().threads()),
      scratch_(std::make_unique<Scratch>(device)) {
  require(options.threads >= 0, "Context: ", options.threads, " threads, expected 0 (automatic) or more");
  if (!isa_available(isa_)) fail(ErrorCode::kUnsupported, "instruction set ", isa_name(isa_), " is not available on this processor");
}

Context::~Context() = default;

void* Context::scratch_bytes(int64_t bytes) {
  require(bytes >= 0, "scratch: ", bytes, " bytes");
  return scratch_->take(bytes);
}

ScratchScope::ScratchScope(Context& context) : context_(context), mark_(context.scratch_->used) {}
ScratchScope::~ScratchScope() { context_.scratch_->reset(mark_); }

}  // namespace wick
