// Byte-pair encoding: merging the symbols of one word by rank.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace wick {

// The merges of a vocabulary: (left, right) → rank and merged token. Open addressing, filled once.
class MergeTable {
 public:
  struct Merge {
    int32_t rank;  // lower first
    int32_t token;
  };
  explicit MergeTable(size_t merges);
  void add(int32_t left, int32_t right, Merge merge);  // the first of a pair counts
  const Merge* find(int32_t left, int32_t right) const;
  int32_t ranks() const { return ranks_; }  // all ranks are below

 private:
  struct Slot {
    uint64_t key = kEmpty;
    Merge merge{};
  };
  static constexpr uint64_t kEmpty = ~uint64_t{0};
  size_t slot_of(uint64_t key) const { return static_cast<size_t>((key * 0x9e3779b97f4a7c15u) >> shift_); }
  std::vector<Slot> slots_;
  int shift_;
  int32_t ranks_ = 0;
};

// Merges words: always the lowest-ranked adjacent pair, the leftmost of equals, until none is left. Keeps its working memory between words.
class BpeMerger {
 public:
  explicit BpeMerger(const MergeTable& merges) : merges_(merges) {}
  // Appends the merged symbols to `out`. Short words are scanned; long ones take O(n) memory and time but for a small factor.
  void merge(std::vector<int32_t>& symbols, std::vector<int32_t>& out);

 private:
  struct Node {
    int32_t token;  // -1: merged into its left neighbour
    uint32_t previous;
    uint32_t next;
  };
  struct Bucket {
    std::vector<uint32_t> positions;  // left symbols of pairs that had this rank when they were added
    size_t done = 0;
    bool sorted = true;
  };
  void merge_short(std::vector<int32_t>& symbols) const;
  void merge_long(std::vector<int32_t>& symbols);
  void add_pair(uint32_t left);
  int32_t lowest_bucket();

  const MergeTable& merges_;
  std::vector<Node> nodes_;
  std::vector<Bucket> buckets_;
  std::vector<uint64_t> occupied_;  // one bit per bucket that has positions left
  size_t lowest_word_ = 0;           // no word of occupied_ before it has a bit
};

}  // namespace wick
