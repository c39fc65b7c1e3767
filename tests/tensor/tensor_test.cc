#include "wick/tensor/tensor.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "wick/base/error.h"

namespace wick {
namespace {

std::vector<float> values_of(const Tensor& tensor) {
  const Tensor plain = tensor.to(DType::kF32);
  return {plain.data<float>(), plain.data<float>() + plain.elements()};
}

Tensor counting(const Shape& shape) {
  std::vector<float> values(static_cast<size_t>(element_count(shape)));
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i);
  return Tensor::from_values(values, shape);
}

TEST(Tensor, ViewsShareMemory) {
  std::vector<float> memory = {0, 1, 2, 3, 4, 5};
  const Tensor tensor = Tensor::from_memory(memory.data(), {2, 3}, DType::kF32);
  const Tensor column = tensor.slice(1, 1, 2);
  EXPECT_EQ((std::vector<float>{1, 4}), values_of(column));
  memory[4] = 40;
  EXPECT_EQ((std::vector<float>{1, 40}), values_of(column));
  EXPECT_EQ((std::vector<float>{0, 3, 1, 40, 2, 5}), values_of(tensor.transpose(0, 1)));
  EXPECT_EQ((std::vector<float>{40}), values_of(tensor.slice(0, 1, 2).slice(1, 1, 2)));
}

TEST(Tensor, ContiguityAndReshape) {
  const Tensor tensor = counting({2, 3, 4});
  EXPECT_TRUE(tensor.is_contiguous());
  EXPECT_TRUE(tensor.slice(0, 1, 2).is_contiguous());
  EXPECT_FALSE(tensor.slice(2, 0, 2).is_contiguous());
  EXPECT_TRUE(tensor.slice(2, 0, 2).rows_contiguous());
  EXPECT_FALSE(tensor.transpose(1, 2).rows_contiguous());
  EXPECT_EQ(values_of(tensor), values_of(tensor.reshape({4, 6})));
  EXPECT_THROW(tensor.reshape({5, 5}), Error);
  EXPECT_THROW(tensor.transpose(0, 1).reshape({24}), Error);
  EXPECT_TRUE(tensor.transpose(0, 2).contiguous().is_contiguous());
  EXPECT_EQ(values_of(tensor.transpose(0, 2)), values_of(tensor.transpose(0, 2).contiguous()));
}

TEST(Tensor, RankZeroAndEmptyAreLegal) {
  const Tensor scalar = Tensor::zeros({}, DType::kF32);
  EXPECT_EQ(1, scalar.elements());
  EXPECT_EQ(4u, scalar.bytes());
  const Tensor empty = Tensor::zeros({3, 0, 2}, DType::kF16);
  EXPECT_EQ(0, empty.elements());
  EXPECT_EQ(0, empty.to(DType::kF32).elements());
  EXPECT_EQ(0, counting({4}).slice(0, 4, 4).elements());
  const Tensor wide = Tensor::zeros({0, int64_t{1} << 40}, DType::kF32);
  EXPECT_EQ(wide.raw(), wide.slice(1, (int64_t{1} << 40) - 1, int64_t{1} << 40).raw()) << "no address outside of the memory";
  EXPECT_EQ(0, empty.transpose(0, 2).contiguous().elements());
  EXPECT_EQ("f16 [3, 0, 2] {}", empty.to_string());
  EXPECT_EQ("f32 [] {0}", scalar.to_string());
  EXPECT_FALSE(Tensor().defined());
}

TEST(Tensor, Conversions) {
  const std::vector<float> values = {0.5f, -2.0f, 65504.0f, 1e-3f};
  for (const DType type : {DType::kF16, DType::kBF16, DType::kF64, DType::kF32}) {
    const std::vector<float> back = values_of(Tensor::from_values(values, {4}, type));
    for (size_t i = 0; i < values.size(); ++i) EXPECT_NEAR(values[i], back[i], std::fabs(values[i]) / 200) << dtype_name(type);
  }
  std::vector<int32_t> integers = {1, -2, 3};
  EXPECT_EQ((std::vector<float>{1, -2, 3}), values_of(Tensor::from_memory(integers.data(), {3}, DType::kI32)));
  EXPECT_THROW(counting({32}).to(DType::kQ8_0), Error);
}

TEST(Tensor, IntegersStopAtTheEndsOfTheirRange) {
  const float infinity = std::numeric_limits<float>::infinity();
  const std::vector<float> values = {1.9f, -1.9f, 300, -300, 1e30f, -infinity, std::nanf("")};
  const Tensor source = Tensor::from_values(values, {7});
  EXPECT_EQ((std::vector<float>{1, -1, 127, -128, 127, -128, 0}), values_of(source.to(DType::kI8)));
  EXPECT_EQ((std::vector<float>{1, 0, 255, 0, 255, 0, 0}), values_of(source.to(DType::kU8)));
  EXPECT_EQ((std::vector<float>{1, -1, 300, -300, 32767, -32768, 0}), values_of(source.to(DType::kI16)));
  const Tensor i32 = source.to(DType::kI32), i64 = source.to(DType::kI64);
  EXPECT_EQ(INT32_MAX, i32.data<int32_t>()[4]);
  EXPECT_EQ(INT32_MIN, i32.data<int32_t>()[5]);
  EXPECT_EQ(INT64_MAX, i64.data<int64_t>()[4]);
  EXPECT_EQ(INT64_MIN, i64.data<int64_t>()[5]);
  EXPECT_EQ(INT32_MAX, i64.to(DType::kI32).data<int32_t>()[4]);
}

TEST(Tensor, AConversionCopiesAViewAndKeepsAContiguousTensor) {
  const Tensor tensor = counting({3, 4});
  EXPECT_EQ(tensor.raw(), tensor.to(DType::kF32).raw());
  const Tensor column = tensor.slice(1, 2, 3);
  EXPECT_NE(column.raw(), column.contiguous().raw());
  EXPECT_EQ((std::vector<float>{2, 6, 10}), values_of(column.to(DType::kF16)));
}

TEST(Tensor, AnUndefinedTensorIsAnErrorToUse) {
  const Tensor nothing;
  EXPECT_EQ(nullptr, nothing.raw());
  EXPECT_THROW(nothing.device(), Error);
  EXPECT_THROW(nothing.to(DType::kF16), Error);
  EXPECT_THROW(nothing.reshape({0}), Error);
  EXPECT_THROW(nothing.slice(0, 0, 0), Error);
  EXPECT_THROW(nothing.transpose(0, 0), Error);
  EXPECT_THROW(nothing.dim(0), Error);
}

TEST(Tensor, TheLastTensorFreesTheMemory) {
  Tensor view;
  {
    const Tensor tensor = counting({1000});
    view = tensor.slice(0, 990, 1000);
  }
  EXPECT_EQ(999, view.data<float>()[9]);
}

TEST(Tensor, RowsOfQuantisedTensorsCanBeTaken) {
  Tensor tensor = Tensor::zeros({2, 3, 64}, DType::kQ8_0);
  for (uint64_t i = 0; i < tensor.bytes(); ++i) tensor.raw()[i] = static_cast<std::byte>(i % 251);
  const Tensor middle = tensor.slice(1, 1, 2);
  EXPECT_FALSE(middle.is_contiguous());
  const Tensor copy = middle.contiguous();
  const size_t row = 2 * 34;
  ASSERT_EQ(2 * row, copy.bytes());
  EXPECT_EQ(0, std::memcmp(copy.raw(), tensor.raw() + row, row));
  EXPECT_EQ(0, std::memcmp(copy.raw() + row, tensor.raw() + 4 * row, row));
  EXPECT_THROW(middle.reshape({2, 64}), Error);
  EXPECT_THROW(tensor.reshape({2, 3 * 64 / 16, 16}), Error);
  EXPECT_EQ(tensor.raw(), tensor.reshape({6 * 64}).raw());
}

TEST(Tensor, QuantisedTensorsAreWholeBlocks) {
  const Tensor tensor = Tensor::zeros({4, 64}, DType::kQ4_1);
  EXPECT_EQ(4u * 2 * 20, tensor.bytes());
  EXPECT_EQ(tensor.raw() + 2 * 2 * 20, tensor.slice(0, 2, 4).raw());
  EXPECT_THROW(tensor.slice(1, 0, 32), Error);
  EXPECT_THROW(tensor.transpose(0, 1), Error);
  EXPECT_THROW(tensor.to(DType::kF32), Error);
  EXPECT_THROW(Tensor::zeros({4, 33}, DType::kQ4_1), Error);
  EXPECT_THROW(Tensor::zeros({}, DType::kQ8_0), Error);
}

TEST(Tensor, SizesThatCannotBeAreErrors) {
  const int64_t huge = int64_t{1} << 62;
  EXPECT_THROW(Tensor::empty({-1}, DType::kF32), Error);
  EXPECT_THROW(Tensor::empty({huge, 4}, DType::kF32), Error);
  EXPECT_THROW(Tensor::empty({huge}, DType::kF64), Error);
  try {
    Tensor::empty({huge / 4}, DType::kF32);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(ErrorCode::kOutOfMemory, error.code());
  }
  EXPECT_THROW((Shape{1, 1, 1, 1, 1, 1, 1, 1, 1}), Error);
  EXPECT_THROW(Tensor::empty({0, huge, huge}, DType::kF32), Error) << "its strides do not fit";
  EXPECT_THROW(Tensor::empty({huge, huge, 0}, DType::kF32), Error);
  EXPECT_THROW(Tensor::empty({0, -1}, DType::kF32), Error);
  EXPECT_THROW(Tensor::zeros({int64_t{1} << 44}, DType::kF32), Error) << "nothing that the machine cannot hold is touched";
  EXPECT_THROW(Tensor::from_memory(nullptr, {2}, DType::kF32), Error);
  EXPECT_THROW(Tensor::from_values(std::vector<float>{1, 2}, {3}), Error);
}

TEST(Tensor, BadRangesAreErrors) {
  const Tensor tensor = counting({2, 3});
  EXPECT_THROW(tensor.dim(2), Error);
  EXPECT_THROW(tensor.dim(-3), Error);
  EXPECT_EQ(3, tensor.dim(-1));
  EXPECT_THROW(tensor.slice(0, 0, 3), Error);
  EXPECT_THROW(tensor.slice(0, -1, 1), Error);
  EXPECT_THROW(tensor.slice(0, 2, 1), Error);
  EXPECT_THROW(tensor.slice(2, 0, 1), Error);
  EXPECT_THROW(tensor.transpose(0, 2), Error);
}

TEST(Tensor, Printing) {
  EXPECT_EQ("f32 [2, 2] {0, 1, 2, 3}", counting({2, 2}).to_string());
  EXPECT_EQ("f32 [100] {0, 1, …}", counting({100}).to_string(2));
  EXPECT_EQ("f32 [100] {…}", counting({100}).to_string(0));
  EXPECT_EQ("f32 [100] {…}", counting({100}).to_string(-1));
  EXPECT_EQ("f32 [3, 2] {0, 3, 1, 4, …}", counting({2, 3}).transpose(0, 1).to_string(4));
  int64_t large = INT64_MAX;
  EXPECT_EQ("i64 [1] {9223372036854775807}", Tensor::from_memory(&large, {1}, DType::kI64).to_string());
  int32_t seven = 1234567;
  EXPECT_EQ("i32 [] {1234567}", Tensor::from_memory(&seven, {}, DType::kI32).to_string());
  EXPECT_EQ("q8_0 [1, 32]", Tensor::zeros({1, 32}, DType::kQ8_0).to_string());
  EXPECT_EQ("undefined", Tensor().to_string());
}

TEST(DType, TableNamesAndSizes) {
  for (const DTypeTraits& row : kDTypes) {
    EXPECT_EQ(&row, &traits(row.type)) << "rows are in the order of the enumerators";
    EXPECT_EQ(row.type, dtype_from_name(row.name));
  }
  EXPECT_FALSE(dtype_from_name("q9"));
  EXPECT_EQ(34u, dtype_bytes(DType::kQ8_0, 32));
  EXPECT_EQ(2 * 210u, dtype_bytes(DType::kQ6_K, 512));
  EXPECT_THROW(dtype_bytes(DType::kQ6_K, 32), Error);
  EXPECT_THROW(dtype_bytes(DType::kQ8_0, 31), Error);
  EXPECT_THROW(dtype_bytes(DType::kF64, UINT64_MAX), Error);
}

}  // namespace
}  // namespace wick
