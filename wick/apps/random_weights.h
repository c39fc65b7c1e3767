// Random weights, the same on every machine and for any number of threads.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <tuple>

#include "wick/base/thread_pool.h"
#include "wick/tensor/tensor.h"

namespace wick::apps {

// splitmix64, begun from a name. Integer arithmetic and exact sums only.
class RandomNumbers {
 public:
  explicit RandomNumbers(std::string_view name, uint64_t stream = 0);
  uint64_t next();
  uint64_t at(uint64_t index) const;  // what next() will give after `index` calls
  float normal();  // mean 0, spread 1: the sum of twelve uniform numbers, so at most 6 in magnitude

 private:
  uint64_t state_;
};

// Matrices of any type, put together from a pool of encoded blocks: encoding a billion weights takes a minute, drawing their blocks from
// a few thousand that were encoded properly takes a second, and each block is what an encoder makes of normal numbers.
class RandomWeights {
 public:
  explicit RandomWeights(ThreadPool& pool) : pool_(pool) {}

  // Bytes `offset` and following of a matrix called `name`; whole rows. Rows must be a multiple of 32.
  void fill(const std::string& name, DType type, int64_t row, float spread, uint64_t offset, std::span<std::byte> out);

 private:
  using Key = std::tuple<DType, int64_t, float>;  // type, elements of a piece, spread
  const std::string& pieces(const Key& key);

  ThreadPool& pool_;
  std::map<Key, std::string> pieces_;  // kPieces pieces each, as stored
};

}  // namespace wick::apps
