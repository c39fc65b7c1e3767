#include "wick/ops/rope.h"

#include <algorithm>
#include <bit>

#include "tests/ops/support.h"
#include "wick/tensor/half.h"

namespace wick {
namespace {

using namespace test;  // NOLINT(google-build-using-namespace)

class RopeOnDevice : public OnDevice {};
WICK_ON_EVERY_DEVICE(RopeOnDevice);

using Rope = Tensor (*)(Context&, const Tensor&, const Tensor&, const Tensor&);
struct Form {
  const char* name;
  Rope run;
  bool thd;
  bool interleaved;
};
const Form kForms[] = {{"rope", ops::rope, false, false},
                       {"rope_i", ops::rope_i, false, true},
                       {"rope_thd", ops::rope_thd, true, false},
                       {"rope_i_thd", ops::rope_i_thd, true, true}};

Shape shape_of(const Form& form, int64_t b, int64_t h, int64_t t, int64_t d) { return form.thd ? Shape{b, t, h, d} : Shape{b, h, t, d}; }

struct Tables {
  Tensor cos, sin;
};

Tables tables(const Shape& shape, DType type = DType::kF32, uint32_t seed = 7) {
  std::vector<float> cos, sin;
  for (int64_t i = 0; i < element_count(shape); ++i) {
    cos.push_back(std::cos(static_cast<float>(i + seed) * 0.37f));
    sin.push_back(std::sin(static_cast<float>(i + seed) * 0.37f));
  }
  return {Tensor::from_values(cos, shape, type), Tensor::from_values(sin, shape, type)};
}

// The definition, in f32 with each product rounded; by indices, sharing nothing with the op.
Tensor by_hand(const Form& form, const Tensor& x, const Tables& table) {
  const std::vector<double> in = values_of(x), cos = values_of(table.cos), sin = values_of(table.sin);
  std::vector<float> out(in.begin(), in.end());
  const int64_t d = x.dim(3), half = table.cos.dim(-1), steps = table.cos.dim(-2);
  for (int64_t row = 0; row < x.elements() / d; ++row) {
    const int64_t b = row / (x.dim(1) * x.dim(2));
    const int64_t t = form.thd ? row / x.dim(2) % x.dim(1) : row % x.dim(2);
    for (int64_t i = 0; i < half; ++i) {
      const size_t angle = static_cast<size_t>(((table.cos.rank() == 3 ? b : 0) * steps + t) * half + i);
      const size_t first = static_cast<size_t>(row * d + (form.interleaved ? 2 * i : i));
      const size_t second = first + static_cast<size_t>(form.interleaved ? 1 : half);
      const float x0 = static_cast<float>(in[first]), x1 = static_cast<float>(in[second]);
      const float c = static_cast<float>(cos[angle]), s = static_cast<float>(sin[angle]);
      out[first] = x0 * c - x1 * s;
      out[second] = x0 * s + x1 * c;
    }
  }
  return Tensor::from_values(out, x.shape(), x.dtype());
}

TEST_P(RopeOnDevice, IsTheDefinitionBitForBit) {
  const struct {
    int64_t b, h, t, d, half, table_steps;
  } cases[] = {{2, 5, 10, 16, 8, 10}, {2, 5, 10, 16, 5, 13}, {1, 3, 1, 64, 32, 9}, {3, 1, 7, 6, 3, 7},
               {1, 2, 3, 96, 48, 3},  {2, 3, 5, 65, 31, 5},  {1, 9, 3, 64, 16, 4}, {1, 1, 4097, 8, 4, 4097},
               {2, 2, 3, 130, 65, 8}, {1, 1, 2, 2, 1, 2},    {1, 2, 2, 5, 0, 2}};
  for (const auto& ctx : contexts(GetParam())) {
    for (const Form& form : kForms) {
      for (const auto& c : cases) {
        for (const DType type : kHalfAndSingle) {
          const Tensor x = normal_tensor(shape_of(form, c.b, c.h, c.t, c.d), type, 1);
          for (const DType table_type : {type, DType::kF32}) {
            for (const Shape& table_shape : {Shape{c.table_steps, c.half}, Shape{c.b, c.table_steps, c.half}}) {
              const Tables table = tables(table_shape, table_type);
              EXPECT_TRUE(same_bits(form.run(*ctx, on(*ctx, x), on(*ctx, table.cos), on(*ctx, table.sin)), by_hand(form, x, table)))
                  << form.name << " " << name_of(*ctx) << " " << x.shape().to_string() << " " << table_shape.to_string() << " "
                  << dtype_name(type);
            }
          }
        }
      }
    }
  }
}

// Rotation of (1, 0) gives the cosine: any f32 rounded to a half type, as wick/tensor/half.h does it.
TEST(Rope, RoundsToNearestEven) {
  std::vector<float> values = {0,        -0.0f,     1,   65504,  65520,   3.3895e38f, 3.4e38f, -3.4e38f,
                               INFINITY, -INFINITY, NAN, 1e-40f, -1e-40f, 6e-8f,      1e-45f};
  for (uint32_t i = 0; i < 1009; ++i)
    values.push_back(std::bit_cast<float>(0x3f800000u + i * 0x1000u + i % 3 - 1));  // ties and their neighbours
  const int64_t half = static_cast<int64_t>(values.size());
  const Tensor cos = Tensor::from_values(values, {1, half}), sin = Tensor::zeros({1, half}, DType::kF32);
  for (const auto& ctx : contexts()) {
    for (const DType type : {DType::kF16, DType::kBF16}) {
      std::vector<float> ones(static_cast<size_t>(2 * half), 0.0f);
      std::fill_n(ones.begin(), half, 1.0f);
      const Tensor y = ops::rope(*ctx, Tensor::from_values(ones, {1, 1, 1, 2 * half}, type), cos, sin);
      for (int64_t i = 0; i < half; ++i) {
        const float value = values[static_cast<size_t>(i)];
        ASSERT_EQ(y.data<uint16_t>()[i], type == DType::kF16 ? f32_to_f16(value) : f32_to_bf16(value))
            << value << " " << dtype_name(type) << " " << name_of(*ctx);
      }
    }
  }
}

TEST(Rope, F64MatchesF32) {
  Context ctx;
  for (const Form& form : kForms) {
    const Tensor x = normal_tensor(shape_of(form, 2, 5, 10, 64), DType::kF32, 2);
    const Tables table = tables({2, 12, 24});
    Nmse nmse;
    nmse.add(form.run(ctx, x, table.cos, table.sin),
             form.run(ctx, x.to(DType::kF64), table.cos.to(DType::kF64), table.sin.to(DType::kF64)));
    EXPECT_LE(nmse.error(), 1e-12) << form.name;
    EXPECT_GT(nmse.error(), 0);
  }
}

TEST(Rope, LayoutsAgreeAndPairingsDiffer) {
  for (const auto& ctx : contexts()) {
    const Tensor x = normal_tensor({2, 5, 10, 16}, DType::kF32, 3);
    const Tables table = tables({2, 12, 8});
    const Tensor split = ops::rope(*ctx, x, table.cos, table.sin);
    const Tensor interleaved = ops::rope_i(*ctx, x, table.cos, table.sin);
    // As a view and as a copy of the other layout.
    for (const Tensor& thd : {x.transpose(1, 2), x.transpose(1, 2).contiguous()}) {
      EXPECT_TRUE(same_bits(ops::rope_thd(*ctx, thd, table.cos, table.sin).transpose(1, 2), split));
      EXPECT_TRUE(same_bits(ops::rope_i_thd(*ctx, thd, table.cos, table.sin).transpose(1, 2), interleaved));
      EXPECT_FALSE(same_bits(ops::rope_thd(*ctx, thd, table.cos, table.sin).transpose(1, 2), interleaved));
    }
    EXPECT_FALSE(same_bits(split, interleaved));
  }
}

// Candle steps T instead of Tc rows of a rank-3 table per batch row.
TEST_P(RopeOnDevice, StackedTablesArePerRowTables) {
  for (const auto& ctx : contexts(GetParam())) {
    for (const Form& form : kForms) {
      for (const int64_t t : {1, 4, 10}) {
        const Tensor x = normal_tensor(shape_of(form, 3, 5, t, 16), DType::kF32, 4);
        const Tables stacked = tables({3, 10, 8});
        const Tensor y = form.run(*ctx, on(*ctx, x), on(*ctx, stacked.cos), on(*ctx, stacked.sin));
        for (int64_t b = 0; b < 3; ++b) {
          const Tensor cos = stacked.cos.slice(0, b, b + 1).contiguous().reshape({10, 8});
          const Tensor sin = stacked.sin.slice(0, b, b + 1).contiguous().reshape({10, 8});
          EXPECT_TRUE(same_bits(form.run(*ctx, on(*ctx, x.slice(0, b, b + 1)), on(*ctx, cos), on(*ctx, sin)), y.slice(0, b, b + 1)))
              << form.name << " row " << b << " T " << t;
        }
      }
    }
  }
}

TEST(Rope, ViewsAndInPlace) {
  for (const auto& ctx : contexts()) {
    for (const Form& form : kForms) {
      for (const DType type : kHalfAndSingle) {
        const Tensor x = normal_tensor(shape_of(form, 2, 3, 7, 50), type, 5);
        const Tables table = tables({2, 9, 20});
        const Tensor y = form.run(*ctx, x, table.cos, table.sin);
        EXPECT_TRUE(same_bits(form.run(*ctx, with_gaps(x), with_gaps(table.cos), with_gaps(table.sin)), y));
        EXPECT_TRUE(same_bits(form.run(*ctx, column_major(x), column_major(table.cos), table.sin), y));
      }
    }
    for (const auto run :
         {static_cast<void (*)(Context&, const Tensor&, const Tensor&, const Tensor&, const Tensor&)>(ops::rope), ops::rope_i}) {
      const Tensor x = normal_tensor({2, 3, 7, 50}, DType::kF32, 6);
      const Tables table = tables({7, 20});
      const Tensor gaps = with_gaps(x);
      const Tensor y = Tensor::empty(x.shape(), DType::kF32);
      run(*ctx, gaps, table.cos, table.sin, y);
      run(*ctx, gaps, table.cos, table.sin, gaps);
      EXPECT_TRUE(same_bits(gaps, y));
    }
  }
}

TEST(Rope, EmptyTensors) {
  Context ctx;
  const Tables table = tables({4, 8});
  EXPECT_EQ(ops::rope(ctx, Tensor::empty({2, 3, 0, 16}, DType::kF32), table.cos, table.sin).elements(), 0);
  EXPECT_EQ(ops::rope_thd(ctx, Tensor::empty({0, 3, 2, 16}, DType::kF32), table.cos, table.sin).elements(), 0);
}

TEST(Rope, Misuse) {
  Context ctx;
  const Tables good = tables({10, 8});
  const auto zeros = [](const Shape& shape, DType type = DType::kF32) { return Tensor::zeros(shape, type); };
  for (const Form& form : kForms) {
    const Tensor x = zeros(shape_of(form, 2, 5, 10, 16));
    const struct {
      Tensor x, cos, sin;
      const char* text;
    } cases[] = {
        {Tensor(), good.cos, good.sin, "x is an empty handle"},
        {x, Tensor(), good.sin, "cos is an empty handle"},
        {zeros({5, 10, 16}), good.cos, good.sin, "x has rank 3, expected 4"},
        {x, zeros({8}), zeros({8}), "cos has rank 1, expected 2 or 3"},
        {x, zeros({2, 10, 8}), good.sin, "sin is [10, 8], expected [2, 10, 8] as cos"},  // Candle takes row 0 for all
        {x, good.cos, zeros({2, 10, 8}), "sin is [2, 10, 8], expected [10, 8] as cos"},
        {x, zeros({3, 10, 8}), zeros({3, 10, 8}), "cos has 3 tables, x a batch of 2"},
        {x, zeros({9, 8}), zeros({9, 8}), "cos has 9 positions, x has 10"},
        {x, zeros({10, 9}), zeros({10, 9}), "cos has 9 angles per position, heads of 16 elements have room for 8"},
        {x, zeros({10, 8}, DType::kF16), zeros({10, 8}, DType::kF16), "cos is f16, expected f32 as x"},
        {x, good.cos, zeros({10, 8}, DType::kF16), "sin is f16, expected f32 as cos"},
        {zeros(x.shape(), DType::kBF16), zeros({10, 8}, DType::kF16), zeros({10, 8}, DType::kF16), "cos is f16, expected bf16 as x"},
        {zeros(x.shape(), DType::kF64), good.cos, good.sin, "cos is f32, expected f64 as x"},
        {zeros(x.shape(), DType::kI32), good.cos, good.sin, "x is i32"},
    };
    for (const auto& c : cases) expect_error([&] { form.run(ctx, c.x, c.cos, c.sin); }, std::string(form.name) + ": " + c.text);
  }
  const Tensor x = zeros({2, 5, 10, 16});
  expect_error([&] { ops::rope(ctx, x, good.cos, good.sin, zeros({2, 5, 16, 10}).transpose(2, 3)); }, "rope: y has stride 10");
  expect_error([&] { ops::rope(ctx, x, good.cos, good.sin, zeros({2, 5, 10, 17})); }, "rope: y is [2, 5, 10, 17]");
}

}  // namespace
}  // namespace wick
