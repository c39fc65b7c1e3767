#include "wick/nn/kv_pool.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <random>
#include <set>
#include <utility>
#include <vector>

#include "wick/base/checked.h"
#include "wick/base/error.h"

namespace wick::nn {
namespace {

using ::testing::ElementsAre;

KvPoolConfig small(int32_t pages) { return {2, 1, 16, DType::kF16, pages}; }

ErrorCode code_of(const std::function<void()>& f) {
  try {
    f();
  } catch (const Error& error) {
    return error.code();
  }
  return ErrorCode::kInternal;
}

std::byte& first_byte(const KvPool& pool, int32_t layer, int32_t page) { return *pool.layer(layer).head(page, 0); }

std::vector<int32_t> pages_of(const PageTable& table) { return {table.pages().begin(), table.pages().end()}; }

TEST(KvPool, AppendTakesPagesAsPositionsNeedThem) {
  KvPool pool(small(4));
  PageTable table = pool.make_table(1000);
  EXPECT_EQ(pool.pages_in_use(), 0);
  EXPECT_TRUE(pool.append(table, 0));
  EXPECT_EQ(pool.pages_in_use(), 0);
  EXPECT_TRUE(pool.append(table, 64));
  EXPECT_EQ(pool.pages_in_use(), 1);
  EXPECT_TRUE(pool.append(table, 1));
  EXPECT_THAT(pages_of(table), ElementsAre(0, 1));
  EXPECT_EQ(table.length(), 65);
  pool.truncate(table, 64);
  EXPECT_EQ(pool.pages_in_use(), 1);
  pool.release(table);
  EXPECT_EQ(pool.pages_in_use(), 0);
  EXPECT_EQ(table.length(), 0);
}

TEST(KvPool, AnExhaustedPoolChangesNothing) {
  KvPool pool(small(2));
  PageTable a = pool.make_table(1000);
  PageTable b = pool.make_table(1000);
  ASSERT_TRUE(pool.append(a, 65));
  EXPECT_FALSE(pool.append(b, 1));
  EXPECT_FALSE(pool.append(a, 64));
  EXPECT_EQ(a.length(), 65);
  EXPECT_EQ(b.length(), 0);
  EXPECT_TRUE(pool.append(a, 63));
  pool.release(a);
  EXPECT_TRUE(pool.append(b, 128));
}

TEST(KvPool, TablesGiveTheirPagesBackWhenTheyGo) {
  KvPool pool(small(4));
  {
    PageTable a = pool.make_table(200);
    ASSERT_TRUE(pool.append(a, 100));
    PageTable moved = std::move(a);
    PageTable assigned;
    assigned = std::move(moved);
    EXPECT_EQ(assigned.length(), 100);
    EXPECT_EQ(pool.pages_in_use(), 2);
  }
  EXPECT_EQ(pool.pages_in_use(), 0);
}

TEST(KvPool, ForksShareFullPagesAndCopyThePartialOneOnWrite) {
  KvPool pool(small(8));
  PageTable a = pool.make_table(1000);
  ASSERT_TRUE(pool.append(a, 100));
  first_byte(pool, 0, 1) = std::byte{17};
  first_byte(pool, 1, 1) = std::byte{42};
  PageTable b = pool.fork(a);
  EXPECT_EQ(pool.pages_in_use(), 2);
  EXPECT_EQ(pool.references(1), 2);
  EXPECT_EQ(pool.pages_needed(b, 1), 1);
  ASSERT_TRUE(pool.append(b, 1));
  EXPECT_THAT(pages_of(b), ElementsAre(0, 2));
  EXPECT_THAT(pages_of(a), ElementsAre(0, 1));
  EXPECT_EQ(first_byte(pool, 0, 2), std::byte{17});
  EXPECT_EQ(first_byte(pool, 1, 2), std::byte{42});
  EXPECT_EQ(pool.pages_needed(a, 1), 0) << "a is alone on its last page now";
  pool.release(a);
  EXPECT_EQ(pool.pages_in_use(), 2);
  pool.release(b);
  EXPECT_EQ(pool.pages_in_use(), 0);
}

TEST(KvPool, ForksOfAPrefixAndTruncatedForksNeverWriteIntoSharedPages) {
  KvPool pool(small(8));
  PageTable a = pool.make_table(1000);
  ASSERT_TRUE(pool.append(a, 128));
  PageTable prefix = pool.fork(a, 64);
  EXPECT_EQ(pool.pages_needed(prefix, 1), 1) << "a full page is shared, not copied";
  ASSERT_TRUE(pool.append(prefix, 1));
  EXPECT_THAT(pages_of(prefix), ElementsAre(0, 2));
  PageTable cut = pool.fork(a);
  pool.truncate(cut, 70);
  ASSERT_TRUE(pool.append(cut, 1));
  EXPECT_THAT(pages_of(cut), ElementsAre(0, 3));
}

TEST(KvPool, ACopyNeedsAFreePage) {
  KvPool pool(small(1));
  PageTable a = pool.make_table(1000);
  ASSERT_TRUE(pool.append(a, 10));
  PageTable b = pool.fork(a);
  EXPECT_FALSE(pool.append(b, 1));
  EXPECT_EQ(b.length(), 10);
  pool.release(a);
  EXPECT_TRUE(pool.append(b, 1));
}

TEST(KvPool, LayersDoNotOverlapAndHoldEveryPage) {
  const KvPool pool({3, 2, 64, DType::kQ8_0, 5});
  const KvLayerView view = pool.layer(0);
  EXPECT_EQ(view.page_count, 5);
  EXPECT_EQ(pool.layer(1).pages - view.pages, 5 * view.layout.page_bytes);
  EXPECT_EQ(pool.bytes(), 15 * static_cast<uint64_t>(view.layout.page_bytes));
  EXPECT_EQ(pool.config().page_bytes() * 5, pool.bytes());
  // 64 positions, 2 heads, keys and values: 64 integers and 2 scales of 2 bytes each.
  EXPECT_EQ(view.layout.page_bytes, 64 * 2 * 2 * (64 + 4));
}

TEST(KvPool, RandomUseKeepsExactAccounts) {
  KvPool pool(small(40));
  std::mt19937 random(7);
  std::vector<PageTable> tables;
  for (int i = 0; i < 3000; ++i) {
    const auto action = random() % 5;
    const size_t index = tables.empty() ? 0 : random() % tables.size();
    if (action == 0 || tables.empty()) {
      if (tables.size() < 12) tables.push_back(pool.make_table(600));
    } else if (action == 1) {
      pool.truncate(tables[index], tables[index].length() * static_cast<int64_t>(random() % 4) / 4);
    } else if (action == 2 && tables.size() < 12) {
      PageTable copy = pool.fork(tables[index], tables[index].length() / 2);
      tables.push_back(std::move(copy));
    } else if (action == 3 && random() % 4 == 0) {
      tables.erase(tables.begin() + static_cast<std::ptrdiff_t>(index));
    } else {
      const int64_t n = std::min<int64_t>(random() % 150, 600 - tables[index].length());
      const bool fits = pool.pages_needed(tables[index], n) <= pool.pages_free();
      EXPECT_EQ(pool.append(tables[index], n), fits);
    }
    std::multiset<int32_t> held;
    for (const PageTable& table : tables) {
      held.insert(table.pages().begin(), table.pages().end());
      ASSERT_EQ(static_cast<int64_t>(table.pages().size()), ceil_div(table.length(), kPagePositions));
    }
    for (int32_t page = 0; page < 40; ++page) ASSERT_EQ(pool.references(page), static_cast<int32_t>(held.count(page)));
    ASSERT_EQ(pool.pages_in_use(), static_cast<int32_t>(std::set<int32_t>(held.begin(), held.end()).size()));
  }
  tables.clear();
  EXPECT_EQ(pool.pages_in_use(), 0);
}

TEST(KvPool, RefusesMisuse) {
  KvPool pool(small(8));
  KvPool other(small(8));
  PageTable table = pool.make_table(100);
  EXPECT_EQ(code_of([&] { (void)pool.append(table, 101); }), ErrorCode::kLimitExceeded);
  EXPECT_EQ(code_of([&] { (void)pool.append(table, INT64_MAX); }), ErrorCode::kLimitExceeded);
  EXPECT_EQ(table.length(), 0);
  EXPECT_EQ(code_of([&] { (void)pool.append(table, -1); }), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code_of([&] { pool.truncate(table, 1); }), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code_of([&] { other.truncate(table, 0); }), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code_of([&] { pool.fork(table, 1); }), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code_of([&] { pool.layer(2); }), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code_of([] { KvPool({1, 1, 12, DType::kF16, 1}); }), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code_of([] { KvPool({1, 1, 16, DType::kI8, 1}); }), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code_of([] { KvPool({1, 0, 16, DType::kF16, 1}); }), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code_of([] { KvPool({0, 1, 16, DType::kF16, 1}); }), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code_of([] { KvPool({1, 1, 16, DType::kF16, 0}); }), ErrorCode::kInvalidArgument);
}

}  // namespace
}  // namespace wick::nn
