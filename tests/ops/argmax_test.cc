#include "wick/ops/argmax.h"

#include <algorithm>

#include "tests/ops/support.h"

namespace wick {
namespace {

using namespace test;  // NOLINT(google-build-using-namespace)

class ArgmaxOnDevice : public OnDevice {};
WICK_ON_EVERY_DEVICE(ArgmaxOnDevice);

int32_t argmax(Context& ctx, const std::vector<float>& values, DType type = DType::kF32) {
  const Tensor x = Tensor::from_values(values, {static_cast<int64_t>(values.size())}, type);
  return *ops::argmax(ctx, on(ctx, x)).to(Device::cpu()).data<int32_t>();
}

TEST_P(ArgmaxOnDevice, EveryPositionOfEverySize) {
  for (const auto& ctx : contexts(GetParam())) {
    for (const DType type : kHalfAndSingle) {
      for (const int64_t n : {1, 3, 7, 15, 16, 17, 31, 32, 33, 64, 65, 100}) {
        for (int64_t at = 0; at < n; ++at) {
          std::vector<float> values(static_cast<size_t>(n), -2.0f);
          values[static_cast<size_t>(at)] = -1.0f;
          ASSERT_EQ(argmax(*ctx, values, type), at) << name_of(*ctx) << " of " << n;
          for (size_t i = static_cast<size_t>(at); i < values.size(); ++i) values[i] = -1.0f;
          ASSERT_EQ(argmax(*ctx, values, type), at) << "ties go to the lowest position";
          values.back() = NAN;
          ASSERT_EQ(argmax(*ctx, values, type), -1);
          values.back() = 0;
          values[static_cast<size_t>(at)] = -NAN;
          ASSERT_EQ(argmax(*ctx, values, type), -1);
        }
      }
    }
  }
}

TEST_P(ArgmaxOnDevice, SpecialRows) {
  for (const auto& ctx : contexts(GetParam())) {
    EXPECT_EQ(argmax(*ctx, std::vector<float>(40, -INFINITY)), 0);
    EXPECT_EQ(argmax(*ctx, {-INFINITY, -3e38f, -INFINITY}), 1);
    EXPECT_EQ(argmax(*ctx, {1, INFINITY, INFINITY}), 1);
    EXPECT_EQ(argmax(*ctx, {-0.0f, 0.0f}), 0);
    EXPECT_EQ(argmax(*ctx, {0.0f, -0.0f}), 0);
  }
}

TEST_P(ArgmaxOnDevice, RowsAndViews) {
  const Tensor x = normal_tensor({3, 5, 49157}, DType::kF32, 1);
  const float* data = x.data<float>();
  for (const auto& ctx : contexts(GetParam())) {
    const Tensor y = ops::argmax(*ctx, on(*ctx, x)).to(Device::cpu());
    EXPECT_EQ(y.shape(), (Shape{3, 5}));
    for (int64_t row = 0; row < 15; ++row) {
      const float* begin = data + row * 49157;
      EXPECT_EQ(y.data<int32_t>()[row], std::max_element(begin, begin + 49157) - begin);
    }
    EXPECT_TRUE(same_bits(ops::argmax(*ctx, on(*ctx, x.transpose(0, 1))).transpose(0, 1), y));
    EXPECT_TRUE(same_bits(ops::argmax(*ctx, on(*ctx, with_gaps(x.slice(2, 0, 99)))), ops::argmax(*ctx, on(*ctx, column_major(x.slice(2, 0, 99))))));
    if (ctx->device().is_cpu()) {
      EXPECT_TRUE(same_bits(ops::argmax(*ctx, x.to(DType::kF64)), y));
    }
    EXPECT_EQ(ops::argmax(*ctx, on(*ctx, Tensor::empty({0, 5}, DType::kF32))).elements(), 0);
  }
}

TEST(Argmax, Misuse) {
  Context ctx;
  const Tensor x = Tensor::zeros({2, 4}, DType::kF32);
  expect_error([&] { ops::argmax(ctx, Tensor()); }, "argmax: x is an empty handle");
  expect_error([&] { ops::argmax(ctx, Tensor::zeros({2, 0}, DType::kF32)); }, "argmax: the last dimension of x is 0");
  expect_error([&] { ops::argmax(ctx, Tensor::zeros({2, 4}, DType::kI32)); }, "argmax: x is i32");
  expect_error([&] { ops::argmax(ctx, x, Tensor()); }, "argmax: y is not a tensor on device cpu");
  expect_error([&] { ops::argmax(ctx, x, Tensor::zeros({2}, DType::kI64)); }, "argmax: y is i64 [2], expected contiguous i32 [2]");
  expect_error([&] { ops::argmax(ctx, x, Tensor::zeros({3}, DType::kI32)); }, "argmax: y is i32 [3]");
}

}  // namespace
}  // namespace wick
