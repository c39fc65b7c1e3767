// Byte-pair encoding of one word: its bytes are joined pairwise, always the adjacent pair with the best merge, the leftmost of several.
// Knows ids only: spellings and the cutting of text into words are for others.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

#include "wick/text/pair_table.h"

namespace wick {

class Bpe {
 public:
  struct Merge {
    int32_t left;
    int32_t right;
    int32_t merged;  // stands for more bytes than either part
  };

  // Buffers that encode() reuses from word to word. One per caller.
  struct Scratch {
    struct Bucket {
      std::vector<uint32_t> positions;
      size_t done = 0;
    };
    std::vector<Bucket> buckets;
  };

  // `merges` best first: of equal pairs the first counts. `byte_ids`: the token of each single byte, -1 for none.
  Bpe(std::vector<Merge> merges, const std::array<int32_t, 256>& byte_ids);

  // Appends the tokens of a non-empty word. O(n log n) time and about 24 n bytes. Error(kInvalidArgument) for a byte without a token,
  // Error(kLimitExceeded) for a word of 2^32 bytes or more.
  void encode(std::string_view word, Scratch& scratch, std::vector<int32_t>& ids) const;

 private:
  uint32_t rank(int32_t left, int32_t right) const { return ranks_.find(static_cast<uint32_t>(left), static_cast<uint32_t>(right)); }
  int32_t byte_id(char byte) const;
  void encode_short(std::string_view word, std::vector<int32_t>& ids) const;
  void encode_long(std::string_view word, Scratch& scratch, std::vector<int32_t>& ids) const;

  std::vector<Merge> merges_;
  PairTable ranks_;
  std::array<int32_t, 256> byte_ids_;
};

}  // namespace wick
