#include "wick/nn/kv_cache.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/ops/support.h"
#include "wick/ops/attention.h"
#include "wick/ops/softmax.h"

namespace wick::nn {
namespace {

using namespace test;  // NOLINT(google-build-using-namespace)
using testing::ElementsAre;

// Position p of every row holds p * 10 + row.
Tensor rows(int64_t first, int64_t count, int64_t heads = 2, DType type = DType::kF32) {
  const Tensor t = Tensor::empty({1, heads, count, 2}, DType::kF32);
  for (int64_t h = 0; h < heads; ++h) {
    for (int64_t i = 0; i < count * 2; ++i) t.data<float>()[h * count * 2 + i] = static_cast<float>((first + i / 2) * 10 + h);
  }
  return t.to(type);
}

TEST(KvCache, HoldsWhatWasAppended) {
  Context ctx;
  for (const int64_t chunk : {1, 3, 256}) {
    for (const DType type : kHalfAndSingle) {
      KvCache cache(2, chunk);
      EXPECT_FALSE(cache.k().defined());
      int64_t length = 0;
      for (const int64_t count : {5, 1, 0, 1, 7, 30, 1}) {
        const auto [k, v] = cache.append(ctx, rows(length, count, 2, type), rows(length + 1000, count, 3, type));
        length += count;
        EXPECT_TRUE(same_bits(k, rows(0, length, 2, type)));
        EXPECT_TRUE(same_bits(v, rows(1000, length, 3, type)));
        EXPECT_TRUE(same_bits(cache.k(), k) && same_bits(cache.v(), v));
        EXPECT_EQ(cache.current_seq_len(), length);
      }
    }
  }
}

TEST(KvCache, AnyAxisAndAnyView) {
  Context ctx;
  for (const int dim : {0, 1, 2, 3}) {
    KvCache cache(dim, 2);
    Tensor all;
    for (int64_t step = 0; step < 5; ++step) {
      const Tensor k = rows(step * 3, 3).transpose(2, dim);
      all = cache.append(ctx, with_gaps(k), column_major(k)).first;
      EXPECT_TRUE(same_bits(cache.k(), cache.v()));
    }
    EXPECT_TRUE(same_bits(all, rows(0, 15).transpose(2, dim)));
  }
}

// Storage: whole chunks, then by half, and never more than 1.5 times what is live and a chunk.
TEST(KvCache, GrowsAmortised) {
  Context ctx;
  const int64_t chunk = 16;
  KvCache cache(2, chunk);
  const std::byte* place = nullptr;
  int moves = 0;
  for (int64_t i = 0; i < 16384; ++i) {
    const Tensor k = cache.append(ctx, rows(i, 1), rows(i, 1)).first;
    moves += k.raw() != place;
    place = k.raw();
    const int64_t capacity = k.strides()[1] / 2;  // positions of one head
    ASSERT_EQ(capacity % chunk, 0);
    ASSERT_LE(capacity, (i + 1) + (i + 1) / 2 + chunk);
  }
  EXPECT_LE(moves, 9 + 13);  // eight chunks one by one, then 1.5^13 > 16384 / 144
}

TEST(KvCache, EarlierViewsStayAsTheyWere) {
  Context ctx;
  KvCache cache(2, 4);
  const Tensor first = cache.append(ctx, rows(0, 4), rows(0, 4)).first;
  const Tensor grown = cache.append(ctx, rows(4, 1), rows(4, 1)).first;
  EXPECT_NE(first.raw(), grown.raw());
  cache.truncate(2);
  EXPECT_EQ(cache.current_seq_len(), 2);
  EXPECT_TRUE(same_bits(cache.k(), rows(0, 2)));
  cache.append(ctx, rows(70, 1), rows(70, 1));
  EXPECT_TRUE(same_bits(first, rows(0, 4)));                                // the old storage
  EXPECT_TRUE(same_bits(grown.slice(2, 2, 3), rows(70, 1)));                // the current one sees what is new
  cache.reset();
  EXPECT_EQ(cache.current_seq_len(), 0);
  const Tensor again = cache.append(ctx, rows(1, 1), rows(1, 1)).first;
  EXPECT_EQ(again.raw(), grown.raw());  // reset keeps the storage
}

TEST(KvCache, Misuse) {
  Context ctx;
  EXPECT_THROW(KvCache(2, 0), Error);
  EXPECT_THROW(KvCache(-1, 1), Error);
  KvCache cache(2, 4);
  cache.append(ctx, rows(0, 3), rows(0, 3));
  expect_error([&] { cache.append(ctx, rows(0, 1), rows(0, 2)); }, "they differ in dimension 2");
  expect_error([&] { cache.append(ctx, rows(0, 1, 3), rows(0, 1)); }, "KvCache: k is [1, 3, 1, 2], the cache holds [1, 2, 4, 2]");
  expect_error([&] { cache.append(ctx, rows(0, 1), rows(0, 1, 2, DType::kF16)); }, "v is f16, the cache holds f32");
  expect_error([&] { cache.append(ctx, rows(0, 1).reshape({2, 1, 2}), rows(0, 1)); }, "k has rank 3 and v 4");
  expect_error([&] { cache.append(ctx, Tensor(), rows(0, 1)); }, "empty handle");
  expect_error([&] { cache.truncate(4); }, "truncate to 4, expected 0 to 3");
  expect_error([&] { cache.truncate(-1); }, "truncate to -1");
  EXPECT_TRUE(same_bits(cache.k(), rows(0, 3)));  // as before
}

// The example of the three faults: window 6 after 3, 1 and 4 positions.
TEST(RotatingKvCache, PositionsDataAndOrderAgree) {
  Context ctx;
  RotatingKvCache cache(2, 6);
  EXPECT_FALSE(cache.k().defined());
  cache.append(ctx, rows(0, 3), rows(0, 3));
  EXPECT_THAT(cache.positions(), ElementsAre(0, 1, 2));
  cache.append(ctx, rows(3, 1), rows(3, 1));
  const auto [k, v] = cache.append(ctx, rows(4, 4), rows(4, 4));
  // The first of the four new rows, position 4, sees 0 to 4: nothing that it needs has been overwritten.
  EXPECT_TRUE(same_bits(k, rows(0, 8)));
  EXPECT_THAT(cache.positions(), ElementsAre(2, 3, 4, 5, 6, 7));
  EXPECT_TRUE(same_bits(cache.k(), rows(2, 6)) && same_bits(cache.v(), rows(2, 6)));
  EXPECT_EQ(cache.current_seq_len(), 8);
  cache.reset();
  EXPECT_THAT(cache.positions(), ElementsAre());
}

TEST(RotatingKvCache, KeepsTheWindowForAnySequenceOfAppends) {
  Context ctx;
  for (const int64_t window : {1, 2, 6, 64}) {
    RotatingKvCache cache(2, window);
    int64_t length = 0;
    uint32_t random = 7;
    for (int step = 0; step < 200; ++step) {
      random = random * 1664525 + 1013904223;
      const int64_t count = random >> 28;  // 0 to 15
      const Tensor mask = cache.mask(count);
      const Tensor k = cache.append(ctx, rows(length, count), rows(length, count)).first;
      length += count;
      const int64_t kept = std::min(length, window);
      ASSERT_TRUE(same_bits(cache.k(), rows(length - kept, kept)));
      if (count == 0) continue;
      const int64_t seen = std::min(length, window - 1 + count);
      ASSERT_TRUE(same_bits(k, rows(length - seen, seen)));
      ASSERT_EQ(mask.shape(), Shape({count, seen}));
      for (int64_t t = 0; t < count; ++t) {
        for (int64_t j = 0; j < seen; ++j) {
          const int64_t distance = (length - count + t) - (length - seen + j);
          ASSERT_EQ(mask.data<float>()[t * seen + j] == 0, distance >= 0 && distance < window) << "row " << t << " key " << j;
        }
      }
    }
  }
}

// Attention over what append returns, causal with the window, is attention over everything with the window.
TEST(RotatingKvCache, GivesWhatWindowedAttentionNeeds) {
  Context ctx;
  const int64_t window = 5, total = 23;
  const Tensor q = normal_tensor({1, 4, total, 8}, DType::kF32, 1), k = normal_tensor({1, 2, total, 8}, DType::kF32, 2), v = normal_tensor({1, 2, total, 8}, DType::kF32, 3);
  const ops::AttentionOptions options{.causal = true, .window = window};
  const Tensor expected = ops::attention(ctx, q, k, v, options);
  RotatingKvCache cache(2, window);
  for (int64_t at = 0, count = 1; at < total; at += count, count = std::min(total - at, 2 * count % 7 + 1)) {
    const auto [keys, values] = cache.append(ctx, k.slice(2, at, at + count), v.slice(2, at, at + count));
    Nmse nmse;
    nmse.add(ops::attention(ctx, q.slice(2, at, at + count), keys, values, options), expected.slice(2, at, at + count));
    EXPECT_LE(nmse.error(), 1e-12) << at;
  }
}

TEST(RotatingKvCache, Misuse) {
  Context ctx;
  EXPECT_THROW(RotatingKvCache(2, 0), Error);
  RotatingKvCache cache(2, 4);
  cache.append(ctx, rows(0, 9), rows(0, 9));
  expect_error([&] { cache.append(ctx, rows(0, 1, 3), rows(0, 1)); }, "RotatingKvCache: k is [1, 3, 1, 2]");
  expect_error([&] { cache.mask(-1); }, "a mask of -1 rows");
  EXPECT_TRUE(same_bits(cache.k(), rows(5, 4)));
}

}  // namespace
}  // namespace wick::nn
