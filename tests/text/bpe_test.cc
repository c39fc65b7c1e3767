#include "wick/text/bpe.h"

#include <gtest/gtest.h>

#include <map>
#include <random>
#include <set>

#include "wick/base/error.h"

namespace wick {
namespace {

std::array<int32_t, 256> identity() {
  std::array<int32_t, 256> ids{};
  for (int i = 0; i < 256; ++i) ids[static_cast<size_t>(i)] = i;
  return ids;
}

std::vector<int32_t> encode(const Bpe& bpe, std::string_view word) {
  Bpe::Scratch scratch;
  std::vector<int32_t> ids;
  bpe.encode(word, scratch, ids);
  return ids;
}

// The definition: as long as some adjacent pair has a merge, apply the best, the leftmost of several.
std::vector<int32_t> encode_slowly(const std::vector<Bpe::Merge>& merges, std::string_view word) {
  std::map<std::pair<int32_t, int32_t>, size_t> ranks;
  for (size_t i = 0; i < merges.size(); ++i) ranks.emplace(std::pair(merges[i].left, merges[i].right), i);
  std::vector<int32_t> ids;
  for (const char c : word) ids.push_back(static_cast<uint8_t>(c));
  while (true) {
    size_t best = merges.size(), at = 0;
    for (size_t i = 0; i + 1 < ids.size(); ++i) {
      const auto found = ranks.find({ids[i], ids[i + 1]});
      if (found != ranks.end() && found->second < best) best = found->second, at = i;
    }
    if (best == merges.size()) return ids;
    ids[at] = merges[best].merged;
    ids.erase(ids.begin() + static_cast<int64_t>(at) + 1);
  }
}

TEST(Bpe, BestMergeFirstLeftmostOfSeveral) {
  const Bpe bpe({{'b', 'c', 300}, {'a', 'b', 301}, {'a', 'a', 302}}, identity());
  EXPECT_EQ(encode(bpe, "abc"), (std::vector<int32_t>{'a', 300}));
  EXPECT_EQ(encode(bpe, "ab"), (std::vector<int32_t>{301}));
  EXPECT_EQ(encode(bpe, "aaa"), (std::vector<int32_t>{302, 'a'}));
  EXPECT_EQ(encode(bpe, "x"), (std::vector<int32_t>{'x'}));
}

// Short words and long ones take different ways.
TEST(Bpe, MatchesTheDefinitionOnRandomMergesAndWords) {
  std::mt19937 random(1);
  for (int round = 0; round < 60; ++round) {
    std::vector<Bpe::Merge> merges;
    std::vector<int32_t> tokens = {'a', 'b', 'c'};
    std::vector<int> lengths = {1, 1, 1};
    std::set<std::pair<int32_t, int32_t>> seen;
    for (int i = 0; i < 40; ++i) {
      const size_t l = random() % tokens.size(), r = random() % tokens.size();
      if (lengths[l] + lengths[r] > 12 || !seen.emplace(tokens[l], tokens[r]).second) continue;
      merges.push_back({tokens[l], tokens[r], 300 + i});
      tokens.push_back(300 + i);
      lengths.push_back(lengths[l] + lengths[r]);
    }
    std::shuffle(merges.begin(), merges.end(), random);
    const Bpe bpe(merges, identity());
    for (const size_t length : {1, 2, 3, 7, 20, 33, 64, 100, 300, 1000}) {
      std::string word;
      for (size_t i = 0; i < length; ++i) word += static_cast<char>('a' + random() % 3);
      ASSERT_EQ(encode(bpe, word), encode_slowly(merges, word)) << word;
    }
    const std::string run(500, 'a');
    ASSERT_EQ(encode(bpe, run), encode_slowly(merges, run));
  }
}

TEST(Bpe, AByteWithoutATokenIsAnError) {
  auto ids = identity();
  ids['z'] = -1;
  const Bpe bpe({}, ids);
  EXPECT_THROW(encode(bpe, "az"), Error);
  EXPECT_THROW(encode(bpe, std::string(1000, 'a') + "z"), Error);
}

}  // namespace
}  // namespace wick
