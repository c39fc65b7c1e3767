#include "wick/text/bpe.h"

#include <algorithm>
#include <bit>
#include <limits>

namespace wick {
namespace {

constexpr uint32_t kNone = std::numeric_limits<uint32_t>::max();

uint64_t pair_key(int32_t left, int32_t right) { return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right); }

}  // namespace

MergeTable::MergeTable(size_t merges) {
  const int bits = std::max(4, static_cast<int>(std::bit_width(merges * 2)));
  slots_.resize(size_t{1} << bits);
  shift_ = 64 - bits;
}

void MergeTable::add(int32_t left, int32_t right, Merge merge) {
  const uint64_t key = pair_key(left, right);
  size_t slot = slot_of(key);
  while (slots_[slot].key != kEmpty && slots_[slot].key != key) slot = (slot + 1) & (slots_.size() - 1);
  if (slots_[slot].key == key) return;
  slots_[slot] = {key, merge};
  ranks_ = std::max(ranks_, merge.rank + 1);
}

const MergeTable::Merge* MergeTable::find(int32_t left, int32_t right) const {
  const uint64_t key = pair_key(left, right);
  for (size_t slot = slot_of(key); slots_[slot].key != kEmpty; slot = (slot + 1) & (slots_.size() - 1)) {
    if (slots_[slot].key == key) return &slots_[slot].merge;
  }
  return nullptr;
}

void BpeMerger::merge(std::vector<int32_t>& symbols, std::vector<int32_t>& out) {
  constexpr size_t kShort = 48;
  if (symbols.size() <= kShort) {
    merge_short(symbols);
  } else {
    merge_long(symbols);
  }
  out.insert(out.end(), symbols.begin(), symbols.end());
}

void BpeMerger::merge_short(std::vector<int32_t>& symbols) const {
  while (symbols.size() > 1) {
    const MergeTable::Merge* best = nullptr;
    size_t at = 0;
    for (size_t i = 0; i + 1 < symbols.size(); ++i) {
      const MergeTable::Merge* merge = merges_.find(symbols[i], symbols[i + 1]);
      if (merge && (!best || merge->rank < best->rank)) {
        best = merge;
        at = i;
      }
    }
    if (!best) return;
    symbols[at] = best->token;
    symbols.erase(symbols.begin() + static_cast<int64_t>(at) + 1);
  }
}

void BpeMerger::add_pair(uint32_t left) {
  const Node& node = nodes_[left];
  if (node.next == kNone) return;
  const MergeTable::Merge* merge = merges_.find(node.token, nodes_[node.next].token);
  if (!merge) return;
  Bucket& bucket = buckets_[static_cast<size_t>(merge->rank)];
  bucket.sorted = bucket.sorted && (bucket.positions.size() == bucket.done || bucket.positions.back() < left);
  bucket.positions.push_back(left);
  const size_t word = static_cast<size_t>(merge->rank) / 64;
  occupied_[word] |= uint64_t{1} << (merge->rank % 64);
  lowest_word_ = std::min(lowest_word_, word);
}

int32_t BpeMerger::lowest_bucket() {
  while (lowest_word_ < occupied_.size() && !occupied_[lowest_word_]) ++lowest_word_;
  if (lowest_word_ == occupied_.size()) return -1;
  return static_cast<int32_t>(lowest_word_ * 64) + std::countr_zero(occupied_[lowest_word_]);
}

// One bucket of positions per rank instead of a heap: all pairs of a rank are the same pair, so only their order from left to right
// counts, and only when they can overlap.
void BpeMerger::merge_long(std::vector<int32_t>& symbols) {
  buckets_.resize(static_cast<size_t>(merges_.ranks()));
  occupied_.assign((buckets_.size() + 63) / 64, 0);
  nodes_.clear();
  nodes_.reserve(symbols.size());
  for (size_t i = 0; i < symbols.size(); ++i) {
    nodes_.push_back({symbols[i], i == 0 ? kNone : static_cast<uint32_t>(i - 1), i + 1 == symbols.size() ? kNone : static_cast<uint32_t>(i + 1)});
  }
  for (uint32_t i = 0; i < nodes_.size(); ++i) add_pair(i);
  for (int32_t rank = lowest_bucket(); rank >= 0; rank = lowest_bucket()) {
    Bucket& bucket = buckets_[static_cast<size_t>(rank)];
    if (!bucket.sorted) {
      std::sort(bucket.positions.begin() + static_cast<int64_t>(bucket.done), bucket.positions.end());
      bucket.sorted = true;
    }
    const uint32_t left = bucket.positions[bucket.done++];
    if (bucket.done == bucket.positions.size()) {
      bucket = Bucket();
      occupied_[static_cast<size_t>(rank) / 64] &= ~(uint64_t{1} << (rank % 64));
    }
    Node& node = nodes_[left];
    if (node.token < 0 || node.next == kNone) continue;
    const uint32_t right = node.next;
    const MergeTable::Merge* merge = merges_.find(node.token, nodes_[right].token);
    if (!merge || merge->rank != rank) continue;  // one of the two has been merged since
    node.token = merge->token;
    node.next = nodes_[right].next;
    nodes_[right].token = -1;
    if (node.next != kNone) nodes_[node.next].previous = left;
    if (node.previous != kNone) add_pair(node.previous);
    add_pair(left);
  }
  symbols.clear();
  for (uint32_t i = nodes_.empty() ? kNone : 0; i != kNone; i = nodes_[i].next) symbols.push_back(nodes_[i].token);
}

}  // namespace wick
