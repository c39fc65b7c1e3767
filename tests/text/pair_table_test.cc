#include "wick/text/pair_table.h"

#include <gtest/gtest.h>

namespace wick {
namespace {

TEST(PairTable, FindsWhatWasInsertedTheFirstOfEqualPairs) {
  PairTable table(3);
  EXPECT_TRUE(table.insert(0, 0, 5));
  EXPECT_FALSE(table.insert(0, 0, 6));
  EXPECT_TRUE(table.insert(UINT32_MAX, UINT32_MAX, 0));
  EXPECT_TRUE(table.insert(1, 2, 9));
  EXPECT_EQ(table.find(0, 0), 5u);
  EXPECT_EQ(table.find(UINT32_MAX, UINT32_MAX), 0u);
  EXPECT_EQ(table.find(1, 2), 9u);
  EXPECT_EQ(table.find(2, 1), PairTable::kMissing);
  EXPECT_EQ(PairTable().find(0, 0), PairTable::kMissing);
}

TEST(PairTable, HoldsAsManyAsItHasRoomFor) {
  constexpr uint32_t kSide = 100;
  PairTable table(kSide * kSide);
  for (uint32_t i = 0; i < kSide; ++i) {
    for (uint32_t j = 0; j < kSide; ++j) ASSERT_TRUE(table.insert(i << 16, j << 16, kSide * i + j));
  }
  for (uint32_t i = 0; i < kSide; ++i) {
    for (uint32_t j = 0; j < kSide; ++j) ASSERT_EQ(table.find(i << 16, j << 16), kSide * i + j);
  }
  EXPECT_EQ(table.find(kSide << 16, 0), PairTable::kMissing);
}

}  // namespace
}  // namespace wick
