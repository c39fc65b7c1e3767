#include "wick/ops/arguments.h"

#include <gtest/gtest.h>

#include <random>
#include <set>

#include "tests/ops/support.h"

namespace wick {
namespace {

using namespace test;  // NOLINT(google-build-using-namespace)

bool refused(const Tensor& in, const Tensor& out, bool same_is_fine) {
  try {
    same_is_fine ? ops::require_disjoint_or_same("op", {"x", in}, {"y", out}) : ops::require_disjoint("op", {"x", in}, {"y", out});
    return false;
  } catch (const Error&) {
    return true;
  }
}

std::set<const std::byte*> places(const Tensor& t) {
  std::set<const std::byte*> all;
  for_each_element(t, t, [&](int64_t at, int64_t) { all.insert(t.raw() + at); });
  return all;
}

TEST(Overlap, SlicesOfOneBuffer) {
  const Tensor buffer = Tensor::zeros({4, 10}, DType::kF32);
  const Tensor left = buffer.slice(1, 0, 5), right = buffer.slice(1, 5, 10), middle = buffer.slice(1, 3, 8);
  EXPECT_FALSE(refused(left, right, true));
  EXPECT_FALSE(refused(left, left, true));
  EXPECT_TRUE(refused(left, left, false));
  EXPECT_TRUE(refused(left, middle, true));
  EXPECT_TRUE(refused(middle, right, true));
  EXPECT_TRUE(refused(buffer, left, true));
  EXPECT_FALSE(refused(buffer.slice(0, 0, 2), buffer.slice(0, 2, 4), true));
  EXPECT_FALSE(refused(buffer.slice(1, 0, 2), buffer.slice(1, 2, 9), true));  // of different widths
  EXPECT_FALSE(refused(buffer.slice(1, 0, 0), buffer, true));                 // nothing overlaps nothing
  EXPECT_TRUE(refused(buffer.slice(0, 0, 4).slice(1, 0, 4), buffer.slice(0, 0, 4).slice(1, 0, 4).transpose(0, 1), true));
}

// Against counting the elements of random slices of one buffer.
TEST(Overlap, MatchesTheElementsOfRandomSlices) {
  std::mt19937 random(5);
  const Tensor buffer = Tensor::zeros({5, 6, 7}, DType::kF16);
  int overlaps = 0;
  for (int round = 0; round < 3000; ++round) {
    Tensor views[2] = {buffer, buffer};
    for (Tensor& view : views) {
      for (int dim = 0; dim < 3; ++dim) {
        const int64_t begin = static_cast<int64_t>(random() % static_cast<uint32_t>(buffer.dim(dim)));
        view = view.slice(dim, begin, begin + 1 + static_cast<int64_t>(random() % static_cast<uint32_t>(buffer.dim(dim) - begin)));
      }
    }
    const std::set<const std::byte*> a = places(views[0]), b = places(views[1]);
    bool touch = false;
    for (const std::byte* place : a) touch = touch || b.count(place) > 0;
    overlaps += touch;
    ASSERT_EQ(refused(views[0], views[1], false), touch) << views[0].shape().to_string() << views[1].shape().to_string();
  }
  EXPECT_GT(overlaps, 300);
  EXPECT_LT(overlaps, 2700);
}

}  // namespace
}  // namespace wick
