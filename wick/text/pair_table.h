// A fixed-size hash table from pairs of small integers to one integer: the merges of a vocabulary, the edges of a trie.
#pragma once

#include <cstddef>
#include <cstdint>
#include <random>
#include <vector>

namespace wick {

class PairTable {
 public:
  static constexpr uint32_t kMissing = UINT32_MAX;

  PairTable() : PairTable(0) {}

  // Room for `capacity` pairs. The multiplier is drawn at random, so that no file can be written to make its own pairs collide.
  explicit PairTable(size_t capacity) : multiplier_(std::random_device{}() * 0x9E3779B97F4A7C15u | 1) {
    while (size_t{1} << (64 - shift_) < 2 * capacity) --shift_;
    slots_.resize(size_t{1} << (64 - shift_));
  }

  // The first value of a pair stays: false when it was there. At most `capacity` pairs; value != kMissing.
  bool insert(uint32_t left, uint32_t right, uint32_t value) {
    Slot& slot = slots_[locate(left, right)];
    if (slot.value != kMissing) return false;
    slot = {left, right, value};
    return true;
  }

  uint32_t find(uint32_t left, uint32_t right) const { return slots_[locate(left, right)].value; }

 private:
  struct Slot {
    uint32_t left = 0;
    uint32_t right = 0;
    uint32_t value = kMissing;
  };

  size_t locate(uint32_t left, uint32_t right) const {
    const size_t mask = slots_.size() - 1;
    size_t at = ((uint64_t{left} << 32 | right) * multiplier_) >> shift_;
    while (slots_[at].value != kMissing && (slots_[at].left != left || slots_[at].right != right)) at = (at + 1) & mask;
    return at;
  }

  uint64_t multiplier_;
  int shift_ = 62;  // the table has 2^(64 - shift) slots, at most half of them taken
  std::vector<Slot> slots_;
};

}  // namespace wick
