#include "wick/text/string_index.h"

#include <gtest/gtest.h>

#include <set>
#include <string>
#include <vector>

namespace wick {
namespace {

TEST(StringIndex, FindsWhatWasInsertedTheFirstOfEqualStrings) {
  StringIndex index(4);
  EXPECT_TRUE(index.insert("a", 7));
  EXPECT_FALSE(index.insert("a", 8));
  EXPECT_TRUE(index.insert("", 0));
  EXPECT_TRUE(index.insert(std::string_view("\0", 1), 1));
  EXPECT_EQ(index.find("a"), 7);
  EXPECT_EQ(index.find(""), 0);
  EXPECT_EQ(index.find(std::string_view("\0", 1)), 1);
  EXPECT_EQ(index.find(std::string_view("\0\0", 2)), -1);
  EXPECT_EQ(index.find("b"), -1);
  EXPECT_EQ(StringIndex().find(""), -1);
}

TEST(StringIndex, HoldsAsManyAsItHasRoomFor) {
  std::vector<std::string> keys;
  for (int i = 0; i < 5000; ++i) keys.push_back("token " + std::to_string(i));
  StringIndex index(keys.size());
  for (size_t i = 0; i < keys.size(); ++i) ASSERT_TRUE(index.insert(keys[i], static_cast<int32_t>(i)));
  for (size_t i = 0; i < keys.size(); ++i) ASSERT_EQ(index.find(keys[i]), static_cast<int32_t>(i));
  EXPECT_EQ(index.find("token 5000"), -1);
}

TEST(StringIndex, EveryIndexHashesInAWayOfItsOwn) { EXPECT_NE(StringIndex().hash("hello"), StringIndex().hash("hello")); }

// Strings that all have one hash under the usual function with a known seed (MurmurHash64A, which std::hash is): of two blocks of eight
// bytes, the second takes back the one bit by which the first differs.
TEST(StringIndex, StringsMadeToCollideDoNot) {
  constexpr uint64_t kMultiplier = 0xc6a4a7935bd1e995u;
  uint64_t inverse = kMultiplier;
  for (int i = 0; i < 6; ++i) inverse *= 2 - kMultiplier * inverse;
  const auto block = [&](uint64_t mixed) {
    mixed *= inverse;
    mixed = (mixed ^ mixed >> 47) * inverse;
    return std::string(reinterpret_cast<const char*>(&mixed), sizeof mixed);
  };
  constexpr uint64_t kTop = uint64_t{1} << 63;
  const std::string pairs[] = {block(1) + block(2), block(1 ^ kTop) + block(2 ^ kTop)};
  const StringIndex index;
  std::set<uint64_t> hashes;
  for (unsigned n = 0; n < 1024; ++n) {
    std::string key;
    for (int bit = 0; bit < 10; ++bit) key += pairs[n >> bit & 1];
    hashes.insert(index.hash(key));
  }
  EXPECT_EQ(hashes.size(), 1024u);
}

}  // namespace
}  // namespace wick
