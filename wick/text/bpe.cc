#include "wick/text/bpe.h"

#include <algorithm>
#include <functional>
#include <queue>
#include <utility>

#include "wick/base/error.h"

namespace wick {
namespace {

// Up to here looking through all pairs for the best is faster than keeping them in order.
constexpr size_t kShortWord = 128;
constexpr uint32_t kNoRank = PairTable::kMissing;
constexpr uint32_t kNone = UINT32_MAX;

// The word as a linked list of symbols, each at the position of its first byte.
struct Symbol {
  int32_t id;
  uint32_t previous;
  uint32_t next;
};

// Every adjacent pair that has a merge, by rank and then by position.
//
// One bucket per rank instead of one heap of pairs: in a word of megabytes the buckets are filled and drained front to back, where a heap
// misses the cache at every level. A bucket is sorted once, when it first becomes the best: pairs that appear later contain the token that
// it makes, are therefore longer than its own, and so belong to other buckets.
class PairQueue {
 public:
  PairQueue(std::vector<Bpe::Scratch::Bucket>& buckets, size_t ranks) : buckets_(buckets) {
    if (buckets_.size() < ranks) buckets_.resize(ranks);
  }

  void push(uint32_t rank, uint32_t position) {
    auto& positions = buckets_[rank].positions;
    if (positions.empty()) active_.push(rank);
    positions.push_back(position);
  }

  bool empty() const { return active_.empty(); }

  // The best rank and the leftmost position of it; the queue is not empty.
  std::pair<uint32_t, uint32_t> pop() {
    const uint32_t rank = active_.top();
    auto& bucket = buckets_[rank];
    if (bucket.done == 0 && !std::is_sorted(bucket.positions.begin(), bucket.positions.end())) {
      std::sort(bucket.positions.begin(), bucket.positions.end());
    }
    const uint32_t position = bucket.positions[bucket.done++];
    if (bucket.done == bucket.positions.size()) {
      bucket = {};
      active_.pop();
    }
    return {rank, position};
  }

 private:
  std::vector<Bpe::Scratch::Bucket>& buckets_;
  std::priority_queue<uint32_t, std::vector<uint32_t>, std::greater<>> active_;
};

}  // namespace

Bpe::Bpe(std::vector<Merge> merges, const std::array<int32_t, 256>& byte_ids)
    : merges_(std::move(merges)), ranks_(merges_.size()), byte_ids_(byte_ids) {
  for (size_t i = 0; i < merges_.size(); ++i) {
    ranks_.insert(static_cast<uint32_t>(merges_[i].left), static_cast<uint32_t>(merges_[i].right), static_cast<uint32_t>(i));
  }
}

int32_t Bpe::byte_id(char byte) const {
  const int32_t id = byte_ids_[static_cast<uint8_t>(byte)];
  require(id >= 0, "tokenizer: the vocabulary has no token for byte ", static_cast<int>(static_cast<uint8_t>(byte)));
  return id;
}

void Bpe::encode(std::string_view word, Scratch& scratch, std::vector<int32_t>& ids) const {
  if (word.size() <= kShortWord) {
    encode_short(word, ids);
  } else {
    encode_long(word, scratch, ids);
  }
}

void Bpe::encode_short(std::string_view word, std::vector<int32_t>& ids) const {
  std::array<int32_t, kShortWord> symbols;
  std::array<uint32_t, kShortWord> pair_ranks;  // of symbols i and i + 1
  size_t count = word.size();
  for (size_t i = 0; i < count; ++i) symbols[i] = byte_id(word[i]);
  for (size_t i = 0; i + 1 < count; ++i) pair_ranks[i] = rank(symbols[i], symbols[i + 1]);
  while (count > 1) {
    const auto* best = std::min_element(pair_ranks.begin(), pair_ranks.begin() + (count - 1));
    if (*best == kNoRank) break;
    const auto at = static_cast<size_t>(best - pair_ranks.begin());
    symbols[at] = merges_[*best].merged;
    std::copy(symbols.begin() + at + 2, symbols.begin() + count, symbols.begin() + at + 1);
    std::copy(pair_ranks.begin() + at + 1, pair_ranks.begin() + (count - 1), pair_ranks.begin() + at);
    --count;
    if (at > 0) pair_ranks[at - 1] = rank(symbols[at - 1], symbols[at]);
    if (at + 1 < count) pair_ranks[at] = rank(symbols[at], symbols[at + 1]);
  }
  ids.insert(ids.end(), symbols.begin(), symbols.begin() + count);
}

void Bpe::encode_long(std::string_view word, Scratch& scratch, std::vector<int32_t>& ids) const {
  if (word.size() >= kNone) fail(ErrorCode::kLimitExceeded, "tokenizer: a word of ", word.size(), " bytes, at most ", kNone - 1);
  const auto count = static_cast<uint32_t>(word.size());
  std::vector<Symbol> symbols(count);
  for (uint32_t i = 0; i < count; ++i) symbols[i] = {byte_id(word[i]), i == 0 ? kNone : i - 1, i + 1 == count ? kNone : i + 1};

  PairQueue queue(scratch.buckets, merges_.size());
  const auto push = [&](uint32_t at) {
    const uint32_t pair = rank(symbols[at].id, symbols[symbols[at].next].id);
    if (pair != kNoRank) queue.push(pair, at);
  };
  for (uint32_t i = 0; i + 1 < count; ++i) push(i);

  while (!queue.empty()) {
    const auto [pair, at] = queue.pop();
    const Merge& merge = merges_[pair];
    Symbol& left = symbols[at];
    // An earlier merge may have taken either half; the halves of a gone symbol keep no id.
    if (left.id != merge.left || left.next == kNone || symbols[left.next].id != merge.right) continue;
    Symbol& right = symbols[left.next];
    right.id = -1;
    left.id = merge.merged;
    left.next = right.next;
    if (left.next != kNone) {
      symbols[left.next].previous = at;
      push(at);
    }
    if (left.previous != kNone) push(left.previous);
  }
  for (uint32_t at = 0; at != kNone; at = symbols[at].next) ids.push_back(symbols[at].id);
}

}  // namespace wick
