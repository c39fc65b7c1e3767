// Cached keys and values of many sequences in pages of 64 positions, and who owns which page. Prefixes are shared by reference count
// and copied on the first write. Not thread safe: one thread owns a model's state. What a page looks like inside is kernels/kv_page.h's.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "wick/kernels/kv_page.h"
#include "wick/tensor/device.h"
#include "wick/tensor/tensor.h"

namespace wick::nn {

class KvPool;

// The pages of one sequence. Movable; gives its pages back when it goes, so the pool must live longer.
class PageTable {
 public:
  PageTable() = default;  // belongs to no pool: every use but assignment is an error
  PageTable(PageTable&& other) noexcept;
  PageTable& operator=(PageTable&& other) noexcept;
  ~PageTable();

  int64_t length() const { return length_; }  // positions
  int64_t max_positions() const { return max_positions_; }
  std::span<const int32_t> pages() const { return pages_; }  // ceil(length / 64) of them

 private:
  friend class KvPool;
  KvPool* pool_ = nullptr;
  std::vector<int32_t> pages_;  // capacity reserved for max_positions_: growing it does not allocate
  int64_t length_ = 0;
  int64_t max_positions_ = 0;
};

struct KvPoolConfig {
  int32_t layers = 0;
  int32_t kv_heads = 0;
  int32_t head_dim = 0;
  DType type = DType::kF16;  // f32, f16, bf16, q8_0
  int32_t pages = 0;

  uint64_t page_bytes() const;  // of one page of all layers. Error(kInvalidArgument) for values that cannot be
};

class KvPool {
 public:
  // Reserves memory for all pages; the system commits it as pages are written. Error(kInvalidArgument | kOutOfMemory).
  explicit KvPool(const KvPoolConfig& config, const Device& device = Device::cpu());
  KvPool(const KvPool&) = delete;
  KvPool& operator=(const KvPool&) = delete;

  // An empty table for up to `max_positions`. The one allocation of a sequence's life.
  PageTable make_table(int64_t max_positions);

  // Makes room for n more positions: length grows by n, pages are added, and a shared last page that would be written to is copied.
  // False when the pool has too few free pages; nothing has changed then. Error(kLimitExceeded) beyond max_positions.
  [[nodiscard]] bool append(PageTable& table, int64_t n);
  int64_t pages_needed(const PageTable& table, int64_t n) const;  // free pages that append(table, n) takes
  // Forgets positions from `length` on. 0 <= length <= table.length(), else Error(kInvalidArgument).
  void truncate(PageTable& table, int64_t length);
  void release(PageTable& table) { truncate(table, 0); }
  // A table that shares the pages of the first `length` positions of `table`.
  PageTable fork(const PageTable& table, int64_t length);
  PageTable fork(const PageTable& table) { return fork(table, table.length()); }

  KvLayerView layer(int32_t index) const;
  const KvPoolConfig& config() const { return config_; }
  int32_t pages_in_use() const { return config_.pages - pages_free(); }
  int32_t pages_free() const { return static_cast<int32_t>(free_.size()); }
  int32_t references(int32_t page) const { return references_[static_cast<size_t>(page)]; }
  uint64_t bytes() const { return storage_->bytes(); }

 private:
  void check_owner(const PageTable& table, const char* op) const;
  bool copies_last_page(const PageTable& table) const;
  int32_t take_page();
  void drop_page(int32_t page);

  KvPoolConfig config_;
  KvLayout layout_;
  std::shared_ptr<Storage> storage_;  // [layer][page]
  std::vector<int32_t> references_;   // per page
  std::vector<int32_t> free_;         // a stack
};

}  // namespace wick::nn
