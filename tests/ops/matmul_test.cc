#include "wick/ops/matmul.h"

#include <array>

#include "tests/ops/support.h"

namespace wick {
namespace {

using namespace test;  // NOLINT(google-build-using-namespace)

TEST(Matmul, MatchesTheSlowTwin) {
  Context plain;
  for (const auto& ctx : contexts()) {
    for (const DType type : kHalfAndSingle) {
      Nmse nmse;
      for (const int64_t m : {1, 2, 5, 33}) {
        for (const int64_t n : {1, 15, 16, 17, 70}) {
          for (const int64_t k : {1, 2, 31, 128, 300}) {
            const Tensor a = normal_tensor({m, k}, type, 1), b = normal_tensor({k, n}, type, 2);
            nmse.add(ops::matmul(*ctx, a, b), ops::matmul(plain, a.to(DType::kF64), b.to(DType::kF64)));
          }
        }
      }
      const double bound = type == DType::kF32 ? 1e-10 : elementwise_bound(type);
      EXPECT_LE(nmse.error(), bound) << name_of(*ctx) << " " << dtype_name(type);
      EXPECT_GE(nmse.count(), 4096u);
    }
  }
}

class MatmulOnDevice : public OnDevice {};
WICK_ON_EVERY_DEVICE(MatmulOnDevice);

// Batches that a library takes in one go, and those that it does not: odd sizes, uneven steps, any strides.
TEST_P(MatmulOnDevice, BatchesMatchTheSlowTwin) {
  Context plain;
  const struct {
    Shape a, b;
  } cases[] = {{{3, 64, 32}, {3, 32, 48}}, {{2, 3, 40, 64}, {2, 3, 64, 16}}, {{5, 16, 24}, {24, 8}},        {{16, 24}, {4, 24, 8}},
               {{2, 1, 16, 8}, {3, 8, 16}}, {{2, 3, 16, 8}, {2, 1, 8, 16}},    {{2, 1, 5, 7, 9}, {3, 1, 9, 4}}, {{1, 512}, {512, 40}},
               {{7, 33, 70}, {7, 70, 31}}};
  for (const auto& ctx : contexts(GetParam())) {
    for (const DType type : kHalfAndSingle) {
      Nmse nmse;
      for (const auto& c : cases) {
        const Tensor a = normal_tensor(c.a, type, 1), b = normal_tensor(c.b, type, 2);
        const Tensor expected = ops::matmul(plain, a.to(DType::kF64), b.to(DType::kF64));
        const int last = b.rank() - 1;
        nmse.add(ops::matmul(*ctx, on(*ctx, a), on(*ctx, b)), expected);
        nmse.add(ops::matmul(*ctx, on(*ctx, a), on(*ctx, b.transpose(last - 1, last).contiguous()).transpose(last - 1, last)), expected);
        nmse.add(ops::matmul(*ctx, on(*ctx, with_gaps(a)), on(*ctx, with_gaps(b))), expected);
        nmse.add(ops::matmul(*ctx, on(*ctx, column_major(a)), on(*ctx, b)), expected);
        const Tensor y = on(*ctx, with_gaps(Tensor::zeros(expected.shape(), type)));
        ops::matmul(*ctx, on(*ctx, a), on(*ctx, b), y);
        nmse.add(y, expected);
      }
      EXPECT_LE(nmse.error(), type == DType::kF32 ? 1e-10 : elementwise_bound(type)) << name_of(*ctx) << " " << dtype_name(type);
    }
  }
}

TEST(Matmul, TheTwinIsThePlainSum) {
  Context ctx;
  const Tensor a = Tensor::from_values(std::vector<float>{1, 2, 3, 4, 5, 6}, {2, 3}), b = Tensor::from_values(std::vector<float>{7, 8, 9, 10, 11, 12}, {3, 2});
  for (const DType type : {DType::kF64, DType::kF32, DType::kF16, DType::kBF16}) {
    expect_values(ops::matmul(ctx, a.to(type), b.to(type)), {58, 64, 139, 154}, type == DType::kBF16 ? 0.5 : 0);
  }
}

TEST(Matmul, LeadingDimensionsBroadcast) {
  for (const auto& ctx : contexts()) {
    for (const DType type : {DType::kF64, DType::kF32, DType::kBF16}) {
      const Tensor a = normal_tensor({2, 1, 5, 7, 9}, DType::kF32, 3).to(type), b = normal_tensor({3, 1, 9, 4}, DType::kF32, 4).to(type);
      const Tensor y = ops::matmul(*ctx, a, b);
      ASSERT_EQ(y.shape(), Shape({2, 3, 5, 7, 4}));
      for (int64_t i = 0; i < 2; ++i) {
        for (int64_t j = 0; j < 3; ++j) {
          for (int64_t l = 0; l < 5; ++l) {
            const Tensor left = a.slice(0, i, i + 1).slice(2, l, l + 1).reshape({7, 9}), right = b.slice(0, j, j + 1).reshape({9, 4});
            EXPECT_TRUE(same_bits(y.slice(0, i, i + 1).slice(1, j, j + 1).slice(2, l, l + 1).contiguous().reshape({7, 4}), ops::matmul(*ctx, left, right)));
          }
        }
      }
    }
  }
}

// Several at once, where the kernel takes them so, give the bits of one after the other.
TEST(Matmul, SeveralAtOnceAreOneAfterTheOther) {
  for (const auto& ctx : contexts()) {
    for (const DType type : {DType::kF32, DType::kF16, DType::kBF16}) {
      for (const auto& [rows, k, n] : {std::array<int64_t, 3>{70, 40, 56}, {19, 64, 16}, {33, 31, 50}, {1, 24, 8}}) {
        const Tensor a = normal_tensor({3, rows, k}, DType::kF32, 3).to(type), b = normal_tensor({3, k, n}, DType::kF32, 4).to(type);
        for (const bool one : {false, true}) {  // matrix b for all
          const Tensor right = one ? b.slice(0, 1, 2) : b;
          const Tensor y = ops::matmul(*ctx, a, right);
          for (int64_t i = 0; i < 3; ++i) {
            const int64_t j = one ? 0 : i;
            const Tensor expected = ops::matmul(*ctx, a.slice(0, i, i + 1).reshape({rows, k}), right.slice(0, j, j + 1).reshape({k, n}));
            EXPECT_TRUE(same_bits(y.slice(0, i, i + 1).reshape({rows, n}), expected))
                << name_of(*ctx) << " " << dtype_name(type) << " " << rows;
          }
        }
      }
    }
  }
}

TEST(Matmul, AnyViews) {
  for (const auto& ctx : contexts()) {
    for (const DType type : {DType::kF64, DType::kF32, DType::kF16, DType::kBF16}) {
      const Tensor a = normal_tensor({3, 20, 33}, DType::kF32, 5).to(type), b = normal_tensor({3, 33, 41}, DType::kF32, 6).to(type);
      const Tensor y = ops::matmul(*ctx, a, b);
      EXPECT_TRUE(same_bits(ops::matmul(*ctx, with_gaps(a), with_gaps(b)), y)) << name_of(*ctx) << dtype_name(type);
      EXPECT_TRUE(same_bits(ops::matmul(*ctx, column_major(a), column_major(b)), y));
      EXPECT_TRUE(same_bits(ops::matmul(*ctx, a, b.transpose(1, 2).contiguous().transpose(1, 2)), y));
      const Tensor gaps = with_gaps(Tensor::zeros(y.shape(), type)), columns = Tensor::zeros({3, 41, 20}, type).transpose(1, 2);
      ops::matmul(*ctx, a, b, gaps);
      EXPECT_TRUE(same_bits(gaps, y));
      ops::matmul(*ctx, a, b, columns);
      EXPECT_TRUE(same_bits(columns, y));
    }
  }
}

TEST(Matmul, ElementsDoNotDependOnTheRestOrTheThreads) {
  const Tensor a = normal_tensor({70, 65}, DType::kF32, 7), b = normal_tensor({65, 150}, DType::kF32, 8);
  const std::vector<std::unique_ptr<Context>> all = contexts();
  for (size_t i = 0; i < all.size(); i += 2) {
    const Tensor y = ops::matmul(*all[i], a, b);
    EXPECT_TRUE(same_bits(ops::matmul(*all[i + 1], a, b), y));
    EXPECT_TRUE(same_bits(ops::matmul(*all[i], a.slice(0, 40, 41), b.slice(1, 99, 103)), y.slice(0, 40, 41).slice(1, 99, 103)));
  }
}

TEST(Matmul, EmptyAndMisuse) {
  Context ctx;
  expect_values(ops::matmul(ctx, Tensor::zeros({2, 0}, DType::kF32), Tensor::zeros({0, 3}, DType::kF32)), {0, 0, 0, 0, 0, 0}, 0);
  expect_values(ops::matmul(ctx, Tensor::zeros({1, 0}, DType::kBF16), Tensor::zeros({0, 1}, DType::kBF16)), {0}, 0);
  EXPECT_EQ(ops::matmul(ctx, Tensor::zeros({0, 4}, DType::kF32), Tensor::zeros({4, 3}, DType::kF32)).shape(), Shape({0, 3}));
  const Tensor a = Tensor::zeros({2, 3}, DType::kF32);
  expect_error([&] { ops::matmul(ctx, a, a); }, "matmul: a is [2, 3] and b [2, 3]");
  expect_error([&] { ops::matmul(ctx, a, Tensor::zeros({3, 2}, DType::kF16)); }, "matmul: b is f16, expected f32 as a");
  expect_error([&] { ops::matmul(ctx, a, Tensor::zeros({3}, DType::kF32)); }, "matmul: a has rank 2 and b 1");
  expect_error([&] { ops::matmul(ctx, Tensor::zeros({2, 1, 3}, DType::kF32), Tensor::zeros({3, 3, 4}, DType::kF32)); }, "do not broadcast");
  expect_error([&] { ops::matmul(ctx, a, Tensor::zeros({3, 4}, DType::kF32), Tensor::zeros({2, 3}, DType::kF32)); }, "matmul: y is [2, 3], expected [2, 4]");
  expect_error([&] { ops::matmul(ctx, Tensor(), a); }, "matmul: a is an empty handle");
}

}  // namespace
}  // namespace wick
