#include "wick/nn/made_up_cache.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "wick/base/error.h"
#include "wick/kernels/kv_append.h"

namespace wick::nn {
namespace {

TEST(MadeUpCache, EveryPositionOfEveryLayerHasOrdinaryNumbers) {
  for (const DType type : {DType::kF32, DType::kF16, DType::kBF16, DType::kQ8_0}) {
    Context ctx(Device::cpu(), {.threads = 2});
    KvPool pool({3, 2, 16, type, 8});
    PageTable other = pool.make_table(64), table = pool.make_table(400);
    ASSERT_TRUE(pool.append(other, 10));
    make_up(ctx, pool, table, 200);
    ASSERT_EQ(table.length(), 200);
    ASSERT_EQ(table.pages().size(), 4u);
    double square = 0, count = 0;
    for (int32_t layer = 0; layer < 3; ++layer) {
      const KvLayerView view = pool.layer(layer);
      for (int64_t position = 0; position < 200; ++position) {
        const int32_t page = table.pages()[static_cast<size_t>(position / kPagePositions)];
        for (int64_t d = 0; d < 16; ++d) {
          for (const float x : {ref::key_at(view, page, 1, position % kPagePositions, d), ref::value_at(view, page, 0, position % kPagePositions, d)}) {
            ASSERT_LE(std::fabs(x), 1.01f);
            square += double{x} * x;
            ++count;
          }
        }
      }
      EXPECT_NE(view.head(table.pages()[0], 0), view.head(table.pages()[3], 0));
    }
    EXPECT_NEAR(square / count, 1.0 / 3, 0.06);  // uniform between -1 and 1, but for the first pair of a key, which is zero
  }
}

TEST(MadeUpCache, Misuse) {
  Context ctx;
  KvPool pool({1, 1, 16, DType::kF16, 2});
  PageTable table = pool.make_table(1000);
  EXPECT_THROW(make_up(ctx, pool, table, 0), Error);
  EXPECT_THROW(make_up(ctx, pool, table, 129), Error);
  EXPECT_EQ(pool.pages_in_use(), 0);
  make_up(ctx, pool, table, 1);
  EXPECT_THROW(make_up(ctx, pool, table, 1), Error);
}

}  // namespace
}  // namespace wick::nn
