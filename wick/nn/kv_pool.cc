#include "wick/nn/kv_pool.h"

#include <utility>

#include "wick/base/checked.h"

namespace wick::nn {

PageTable::PageTable(PageTable&& other) noexcept { *this = std::move(other); }

PageTable& PageTable::operator=(PageTable&& other) noexcept {
  std::swap(pool_, other.pool_);
  std::swap(pages_, other.pages_);
  std::swap(length_, other.length_);
  std::swap(max_positions_, other.max_positions_);
  return *this;
}

PageTable::~PageTable() {
  if (pool_ != nullptr) pool_->release(*this);
}

uint64_t KvPoolConfig::page_bytes() const {
  require(layers >= 1, "kv pool: ", layers, " layers");
  const KvLayout layout = make_kv_layout(type, kv_heads, head_dim);
  return mul_or_fail<uint64_t>(static_cast<uint64_t>(layout.page_bytes), static_cast<uint64_t>(layers), "kv pool: bytes of a page");
}

KvPool::KvPool(const KvPoolConfig& config, const Device& device) : config_(config) {
  require(config.pages >= 1, "kv pool: ", config.pages, " pages");
  layout_ = make_kv_layout(config.type, config.kv_heads, config.head_dim);
  storage_ = Storage::allocate(device, mul_or_fail<uint64_t>(config.page_bytes(), static_cast<uint64_t>(config.pages), "kv pool: bytes"));
  references_.assign(static_cast<size_t>(config.pages), 0);
  free_.reserve(static_cast<size_t>(config.pages));
  for (int32_t page = config.pages - 1; page >= 0; --page) free_.push_back(page);
}

PageTable KvPool::make_table(int64_t max_positions) {
  require(max_positions >= 0 && max_positions <= INT32_MAX, "kv pool: a table for ", max_positions, " positions");
  PageTable table;
  table.pool_ = this;
  table.max_positions_ = max_positions;
  table.pages_.reserve(static_cast<size_t>(ceil_div(max_positions, kPagePositions)));
  return table;
}

void KvPool::check_owner(const PageTable& table, const char* op) const {
  require(table.pool_ == this, "kv pool: ", op, " of a table that belongs to another pool");
}

// The next position goes into a page that others see too.
bool KvPool::copies_last_page(const PageTable& table) const {
  return table.length_ % kPagePositions != 0 && references(table.pages_.back()) > 1;
}

int64_t KvPool::pages_needed(const PageTable& table, int64_t n) const {
  check_owner(table, "pages_needed");
  require(n >= 0, "kv pool: append of ", n, " positions");
  if (n == 0) return 0;
  const int64_t length = add_or_fail(table.length_, n, "kv pool: length");
  return ceil_div(length, kPagePositions) - static_cast<int64_t>(table.pages_.size()) + (copies_last_page(table) ? 1 : 0);
}

bool KvPool::append(PageTable& table, int64_t n) {
  check_owner(table, "append");
  if (n > table.max_positions_ - table.length_) {
    fail(ErrorCode::kLimitExceeded, "kv pool: ", table.length_, " + ", n, " positions, the table was made for ", table.max_positions_);
  }
  if (pages_needed(table, n) > pages_free()) return false;
  if (n == 0) return true;
  if (copies_last_page(table)) {
    const int32_t page = take_page();
    const int32_t shared = table.pages_.back();
    for (int32_t i = 0; i < config_.layers; ++i) {
      const KvLayerView view = layer(i);
      copy_memory(storage_->device(), view.head(page, 0), storage_->device(), view.head(shared, 0), static_cast<uint64_t>(layout_.page_bytes));
    }
    drop_page(shared);
    table.pages_.back() = page;
  }
  table.length_ += n;
  const size_t pages = static_cast<size_t>(ceil_div(table.length_, kPagePositions));
  while (table.pages_.size() < pages) table.pages_.push_back(take_page());
  return true;
}

void KvPool::truncate(PageTable& table, int64_t length) {
  check_owner(table, "truncate");
  require(length >= 0 && length <= table.length_, "kv pool: truncate to ", length, " of ", table.length_, " positions");
  const size_t pages = static_cast<size_t>(ceil_div(length, kPagePositions));
  while (table.pages_.size() > pages) {
    drop_page(table.pages_.back());
    table.pages_.pop_back();
  }
  table.length_ = length;
}

PageTable KvPool::fork(const PageTable& table, int64_t length) {
  check_owner(table, "fork");
  require(length >= 0 && length <= table.length_, "kv pool: fork of ", length, " of ", table.length_, " positions");
  PageTable copy = make_table(table.max_positions_);
  copy.length_ = length;
  for (size_t i = 0; i < static_cast<size_t>(ceil_div(length, kPagePositions)); ++i) {
    copy.pages_.push_back(table.pages_[i]);
    ++references_[static_cast<size_t>(table.pages_[i])];
  }
  return copy;
}

KvLayerView KvPool::layer(int32_t index) const {
  require(index >= 0 && index < config_.layers, "kv pool: layer ", index, " of ", config_.layers);
  return {layout_, storage_->data() + int64_t{index} * config_.pages * layout_.page_bytes, config_.pages};
}

int32_t KvPool::take_page() {
  const int32_t page = free_.back();
  free_.pop_back();
  references_[static_cast<size_t>(page)] = 1;
  return page;
}

void KvPool::drop_page(int32_t page) {
  if (--references_[static_cast<size_t>(page)] == 0) free_.push_back(page);
}

}  // namespace wick::nn
