#include "wick/ops/linear.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "tests/ops/linear_support.h"
#include "wick/base/error.h"
#include "wick/kernels/block_format.h"
#include "wick/kernels/linear.h"
#include "wick/ops/activation.h"
#include "wick/ops/embedding.h"
#include "wick/ops/norm.h"
#include "wick/tensor/half.h"

namespace wick {
namespace {

using test::floats_of;
using test::fitting;
using test::kLinearTypes;
using test::kQuantisedTypes;
using test::normalised_error;
using test::normals;
using test::random_weight;
using test::run;

class LinearOnDevice : public test::OnDevice {};
WICK_ON_EVERY_DEVICE(LinearOnDevice);

// The reference reads weights as the CPU packs them, and rounds x as the device does: CUDA's few rows are precise, its many rows bf16.
TEST_P(LinearOnDevice, FastEqualsReferenceForEveryTypeAndShape) {
  Context plain;
  for (const auto& ctx : test::contexts_of_two_threads(GetParam())) {
    const bool cpu = ctx->device().is_cpu();
    for (const DType type : kLinearTypes) {
      for (const int64_t n : {1, 15, 16, 17, 48, 70, 300}) {
        if (cpu && n == 300) continue;
        for (const int64_t least : {32, 96, 576}) {
          const int64_t k = fitting(type, least);
          const Tensor stored = random_weight(type, n, k, 7);
          const PackedWeight weight = ops::pack_weight(*ctx, test::on(*ctx, stored));
          PackedWeight twin = ops::pack_weight(plain, stored);
          twin.segments[0].precise = !cpu;
          for (const int64_t t : {1, 2, 3, 4, 5, 6, 7, 11, 12, 13, 18, 23, 32, 40, 45, 70, 130}) {
            if (cpu && t > 45) continue;
            std::vector<float> x = normals(t * k, 11);
            const std::vector<float> fast = run(*ctx, weight, x, t);
            std::vector<float> slow(fast.size());
            ref::linear(plain, {.x = x.data(), .ldx = k, .rows = t, .weight = &twin, .bias = nullptr, .y = slow.data(), .ldy = n});
            const double bound = !cpu && t > 8 && is_quantised(type) ? 1e-4 : 1e-10;
            ASSERT_LE(normalised_error(fast, slow), bound) << dtype_name(type) << " t=" << t << " n=" << n << " k=" << k << " " << test::name_of(*ctx);
          }
        }
      }
    }
  }
}

// norm and swiglu are what their ops make of it, on CUDA in one kernel for few rows and even shapes. What rounding x makes of a last bit of the
// norm is no more than a step of the second run.
TEST_P(LinearOnDevice, NormAndSwigluAreTheOpsOnTheWay) {
  const auto ctx = std::move(test::contexts_of_two_threads(GetParam()).back());
  for (const DType type : kLinearTypes) {
    for (const auto& [outputs, least] : {std::pair<int64_t, int64_t>{48, 96}, {70, 576}, {1000, 256}}) {
      const int64_t k = fitting(type, least);
      PackedWeight weight;
      for (const uint32_t seed : {1u, 2u}) {
        ops::append_weight(*ctx, ops::weight_source(random_weight(type, outputs, k, seed)), false, weight);
      }
      const Tensor norm = test::on(*ctx, Tensor::from_values(normals(k, 5), {k}));
      const Tensor bias = test::on(*ctx, Tensor::from_values(normals(2 * outputs, 6), {2 * outputs}));
      for (const int64_t t : {1, 2, 3, 5, 8, 9}) {
        const Tensor x = test::on(*ctx, Tensor::from_values(normals(t * k, 7), {t, k}));
        const Tensor product = ops::linear(*ctx, ops::rms_norm(*ctx, x, norm, 1e-5), weight, {.bias = &bias});
        const Tensor fused = ops::linear(*ctx, x, weight, {.bias = &bias, .norm = &norm, .norm_eps = 1e-5, .swiglu = true});
        const Tensor normed = ops::linear(*ctx, x, weight, {.bias = &bias, .norm = &norm, .norm_eps = 1e-5});
        const double bound = ctx->device().is_cpu() ? 0 : t <= 8 && type != DType::kBF16 ? 1e-8 : 1e-4;
        const auto error = [](const Tensor& got, const Tensor& expected) {
          return normalised_error(floats_of(got), floats_of(expected));
        };
        EXPECT_LE(error(normed, product), bound) << dtype_name(type) << " t=" << t << " n=" << outputs << " k=" << k;
        EXPECT_LE(error(fused, ops::swiglu(*ctx, product)), bound) << dtype_name(type) << " t=" << t << " n=" << outputs << " k=" << k;
      }
    }
  }
}

// Batches of every size of tile, with several tiles of outputs and shares of k. x is of bf16 numbers: CUDA rounds the weights alone.
TEST_P(LinearOnDevice, BatchesOfRows) {
  const auto ctx = std::move(test::contexts_of_two_threads(GetParam()).back());
  Context plain;
  const bool cpu = ctx->device().is_cpu();
  for (const DType type : kLinearTypes) {
    for (const auto& [n, k] : {std::pair<int64_t, int64_t>{1, 256}, {300, 512}, {70, 4096}, {520, 1280}, {72, 9216}}) {
      const Tensor stored = random_weight(type, n, k, 7);
      const PackedWeight weight = ops::pack_weight(*ctx, test::on(*ctx, stored));
      PackedWeight twin = ops::pack_weight(plain, stored);
      twin.segments[0].precise = !cpu;
      for (const int64_t t : {9, 16, 17, 33, 64, 65, 128, 129, 200}) {
        if (cpu && t > 33) continue;
        std::vector<float> x = normals(t * k, 11);
        for (float& value : x) value = bf16_to_f32(f32_to_bf16(value));
        const std::vector<float> fast = run(*ctx, weight, x, t);
        std::vector<float> slow(fast.size());
        ref::linear(plain, {.x = x.data(), .ldx = k, .rows = t, .weight = &twin, .y = slow.data(), .ldy = n});
        const double bound = cpu || !is_quantised(type) ? 1e-10 : n == 1 ? 5e-5 : 1e-5;  // a few sums are no average
        ASSERT_LE(normalised_error(fast, slow), bound) << dtype_name(type) << " t=" << t << " n=" << n << " k=" << k;
      }
    }
  }
}

// Gates and ups in one segment, sums on top of what is there, and x and y of bf16: the same numbers, rounded once.
TEST_P(LinearOnDevice, OneSegmentOfGatesAndUpsAndRowsOfBf16) {
  const auto ctx = std::move(test::contexts_of_two_threads(GetParam()).back());
  for (const DType type : kLinearTypes) {
    for (const int64_t k : {256, 2048}) {
      const int64_t half = 96;
      const PackedWeight weight = ops::pack_weight(*ctx, test::on(*ctx, random_weight(type, 2 * half, k, 3)));
      const Tensor bias = test::on(*ctx, Tensor::from_values(normals(2 * half, 6), {2 * half}));
      for (const int64_t t : {1, 8, 9, 40, 140}) {
        const Tensor x = test::on(*ctx, Tensor::from_values(normals(t * k, 7), {t, k}, DType::kBF16));
        const Tensor wide = test::on(*ctx, x.to(Device::cpu()).to(DType::kF32));
        const Tensor product = ops::linear(*ctx, wide, weight, {.bias = &bias});
        const Tensor gated = ops::linear(*ctx, wide, weight, {.bias = &bias, .swiglu = true});
        EXPECT_LE(normalised_error(floats_of(gated), floats_of(ops::swiglu(*ctx, product))), 1e-10) << dtype_name(type) << " t=" << t;
        const Tensor narrow = test::on(*ctx, Tensor::empty({t, half}, DType::kBF16));
        ops::linear(*ctx, wide, weight, narrow, {.bias = &bias, .swiglu = true});
        EXPECT_TRUE(test::same_bits(narrow.to(Device::cpu()), gated.to(Device::cpu()).to(DType::kBF16))) << dtype_name(type) << " t=" << t;
        const Tensor all_narrow = ops::linear(*ctx, x, weight, {.bias = &bias}).to(Device::cpu()).to(DType::kF32);
        EXPECT_LE(normalised_error(floats_of(all_narrow), floats_of(product)), 4e-6) << dtype_name(type) << " t=" << t;
        const Tensor sum = test::on(*ctx, Tensor::from_values(normals(t * 2 * half, 8), {t, 2 * half}));
        std::vector<float> expected = floats_of(sum);
        const std::vector<float> added = floats_of(product);
        for (size_t i = 0; i < added.size(); ++i) expected[i] += added[i];
        ops::linear(*ctx, x, weight, sum, {.bias = &bias, .accumulate = true});
        EXPECT_LE(normalised_error(floats_of(sum), expected), 1e-10) << dtype_name(type) << " t=" << t;
      }
    }
  }
}

// A sum and its norm in one, where steps of many rows ask for that; elsewhere it is refused.
TEST_P(LinearOnDevice, SumsWithTheNextNorm) {
  const auto ctx = std::move(test::contexts_of_two_threads(GetParam()).back());
  for (const DType type : kLinearTypes) {
    for (const auto& [n, k] : {std::pair<int64_t, int64_t>{96, 256}, {2048, 1024}}) {
      const PackedWeight weight = ops::pack_weight(*ctx, test::on(*ctx, random_weight(type, n, k, 3)));
      const Tensor bias = test::on(*ctx, Tensor::from_values(normals(n, 6), {n})), norm = test::on(*ctx, Tensor::from_values(normals(n, 5), {n}));
      for (const int64_t t : {1, 9, 33, 150}) {
        const Tensor x = test::on(*ctx, Tensor::from_values(normals(t * k, 7), {t, k}));
        const auto start = [&, n = n] { return test::on(*ctx, Tensor::from_values(normals(t * n, 8), {t, n})); };
        const Tensor expected = start(), sum = start(), normed = test::on(*ctx, Tensor::zeros({t, n}, DType::kBF16));
        ops::linear(*ctx, x, weight, expected, {.bias = &bias, .accumulate = true});
        const ops::LinearOptions options = {.bias = &bias, .accumulate = true, .norm_eps = 1e-5, .normed = &normed, .next_norm = &norm};
        if (!ops::rounds_to_bf16(*ctx, weight, t)) {
          EXPECT_THROW(ops::linear(*ctx, x, weight, sum, options), Error) << dtype_name(type) << " t=" << t;
          continue;
        }
        ops::linear(*ctx, x, weight, sum, options);
        EXPECT_LE(normalised_error(floats_of(sum), floats_of(expected)), 1e-10) << dtype_name(type) << " t=" << t << " n=" << n;
        const Tensor here = normed.to(Device::cpu()).to(DType::kF32);
        EXPECT_LE(normalised_error(floats_of(here), floats_of(ops::rms_norm(*ctx, expected, norm, 1e-5))), 4e-6) << dtype_name(type) << " t=" << t << " n=" << n;
      }
    }
  }
}

// On the CPU bit for bit: for every instruction set, few rows and many, gates and ups of different types and in one segment, x of any stride.
TEST(Linear, NormAndSwigluOnTheWayChangeNoBit) {
  const struct {
    std::vector<DType> types;
    int64_t outputs;  // of each
  } cases[] = {{{DType::kQ8_0, DType::kQ4_1}, 144}, {{DType::kQ6_K, DType::kQ6_K}, 70}, {{DType::kBF16, DType::kF16}, 33}, {{DType::kF32, DType::kQ5_0}, 16}, {{DType::kQ4_0}, 96}, {{DType::kBF16, DType::kBF16}, 40}, {{DType::kQ8_0, DType::kQ8_0, DType::kF32, DType::kBF16}, 40}};
  constexpr int64_t k = 512;
  for (const Isa isa : test::isas()) {
    Context ctx(Device::cpu(), {.threads = 3, .isa = isa});
    for (const auto& c : cases) {
      PackedWeight weight;
      for (const DType type : c.types) {
        WeightSource source = ops::weight_source(random_weight(type, c.outputs, k, 3));
        source.precise = type == DType::kQ4_1;
        ops::append_weight(ctx, source, false, weight);
      }
      const Tensor norm = Tensor::from_values(normals(k, 5), {k}), bias = Tensor::from_values(normals(weight.rows, 6), {weight.rows});
      for (const int64_t t : {1, 7, 40, 131}) {
        const Tensor wide = Tensor::from_values(normals(t * (k + 3), 7), {t, k + 3}), x = wide.slice(1, 0, k);
        const Tensor product = ops::linear(ctx, ops::rms_norm(ctx, x, norm, 1e-5), weight, {.bias = &bias});
        const std::string what = std::string(isa_name(isa)) + " " + dtype_name(c.types[0]) + " t=" + std::to_string(t);
        EXPECT_TRUE(test::same_bits(product, ops::linear(ctx, x, weight, {.bias = &bias, .norm = &norm, .norm_eps = 1e-5}))) << what;
        const Tensor gated = ops::linear(ctx, x, weight, {.bias = &bias, .norm = &norm, .norm_eps = 1e-5, .swiglu = true});
        EXPECT_TRUE(test::same_bits(ops::swiglu(ctx, product), gated)) << what;
        const Tensor plain = ops::linear(ctx, x, weight);
        EXPECT_TRUE(test::same_bits(ops::swiglu(ctx, plain), ops::linear(ctx, x, weight, {.swiglu = true}))) << what;
      }
    }
  }
}

// More inputs than a block's memory holds for all rows at once, or for any.
TEST_P(LinearOnDevice, ManyInputs) {
  const auto ctx = std::move(test::contexts_of_two_threads(GetParam()).back());
  Context plain;
  for (const DType type : {DType::kBF16, DType::kQ8_0, DType::kQ4_K, DType::kQ6_K}) {
    for (const int64_t k : {14336, 40960}) {
      const Tensor stored = random_weight(type, 17, k, 9);
      const PackedWeight weight = ops::pack_weight(*ctx, test::on(*ctx, stored));
      PackedWeight twin = ops::pack_weight(plain, stored);
      twin.segments[0].precise = !ctx->device().is_cpu();
      for (const int64_t t : {1, 4, 8}) {
        std::vector<float> x = normals(t * k, 11);
        const std::vector<float> fast = run(*ctx, weight, x, t);
        std::vector<float> slow(fast.size());
        ref::linear(plain, {.x = x.data(), .ldx = k, .rows = t, .weight = &twin, .y = slow.data(), .ldy = 17});
        const double bound = ctx->device().is_cpu() || k < 32768 ? 1e-9 : 1e-4;
        EXPECT_LE(normalised_error(fast, slow), bound) << dtype_name(type) << " t=" << t << " k=" << k;
      }
    }
  }
}

// Panels hold what files hold: the same values come back, bit for bit.
TEST(Linear, UnpackedRowsAreTheStoredOnes) {
  Context ctx;
  for (const DType type : kLinearTypes) {
    const int64_t rows = 37, k = fitting(type, 544);
    const Tensor stored = random_weight(type, rows, k, 12);
    const PackedWeight weight = ops::pack_weight(ctx, stored);
    for (int64_t row = 0; row < rows; ++row) {
      std::vector<float> expected(static_cast<size_t>(k)), got(static_cast<size_t>(k));
      decode_blocks(type, stored.raw() + static_cast<uint64_t>(row) * dtype_bytes(type, static_cast<uint64_t>(k)), k, expected.data());
      cpu::unpack_row(weight, row, got.data());
      ASSERT_EQ(0, std::memcmp(expected.data(), got.data(), got.size() * sizeof(float))) << dtype_name(type) << " row " << row;
    }
  }
}

TEST_P(LinearOnDevice, OddInputsOfPlainTypes) {
  Context plain;
  for (const auto& context : test::contexts_of_two_threads(GetParam())) {
    Context& ctx = *context;
    for (const DType type : {DType::kF32, DType::kF16, DType::kBF16}) {
      for (const int64_t k : {1, 3, 31, 65}) {
        const Tensor stored = random_weight(type, 19, k, 3);
        const PackedWeight weight = ops::pack_weight(ctx, test::on(ctx, stored)), twin = ops::pack_weight(plain, stored);
        for (const int64_t t : {1, 5, 9}) {
          std::vector<float> x = normals(t * k, 5);
          const std::vector<float> fast = run(ctx, weight, x, t);
          std::vector<float> slow(fast.size());
          ref::linear(plain, {.x = x.data(), .ldx = k, .rows = t, .weight = &twin, .bias = nullptr, .y = slow.data(), .ldy = 19});
          ASSERT_LE(normalised_error(fast, slow), 1e-10) << dtype_name(type) << " k=" << k << " " << test::name_of(ctx);
        }
      }
    }
  }
}

// Against the product of unrounded activations: what rounding x costs.
TEST(Linear, RoundingOfActivationsStaysWithinBounds) {
  Context ctx;
  const int64_t t = 16, n = 256, k = 512;
  std::vector<float> x = normals(t * k, 1);
  for (const DType type : kLinearTypes) {
    const PackedWeight weight = ops::pack_weight(ctx, random_weight(type, n, k, 2));
    const std::vector<float> fast = run(ctx, weight, x, t);
    std::vector<float> exact(fast.size()), row(static_cast<size_t>(k));
    for (int64_t o = 0; o < n; ++o) {
      cpu::unpack_row(weight, o, row.data());
      for (int64_t i = 0; i < t; ++i) {
        double sum = 0;
        for (int64_t j = 0; j < k; ++j) sum += static_cast<double>(x[static_cast<size_t>(i * k + j)]) * row[static_cast<size_t>(j)];
        exact[static_cast<size_t>(i * n + o)] = static_cast<float>(sum);
      }
    }
    const double bound = is_quantised(type) ? 2e-4 : type == DType::kBF16 ? 2e-5 : 1e-10;
    EXPECT_LE(normalised_error(fast, exact), bound) << dtype_name(type);
  }
}

// Two runs of 8 bits: the error falls by 254 squared, whatever else the dispatch does.
TEST(Linear, PreciseSegmentsMultiplyWhatTheRoundingLeftOver) {
  const int64_t n = 40;
  for (const Isa isa : test::isas()) {
    Context ctx(Device::cpu(), {.threads = 2, .isa = isa});
    for (const DType type : kQuantisedTypes) {
      const int64_t k = fitting(type, 320);
      PackedWeight weight = ops::pack_weight(ctx, random_weight(type, n, k, 9));
      weight.segments[0].precise = true;
      const int64_t t = 45;
      std::vector<float> x = normals(t * k, 23);
      x[7] = 300.0f;  // what costs a block its other values
      const std::vector<float> all = run(ctx, weight, x, t);
      LinearArgs args;
      std::vector<float> twin(all.size());
      args.x = x.data();
      args.ldx = k;
      args.rows = t;
      args.weight = &weight;
      args.y = twin.data();
      args.ldy = n;
      ref::linear(ctx, args);
      EXPECT_LE(normalised_error(all, twin), 1e-12) << dtype_name(type) << " " << isa_name(isa);
      std::vector<float> row(static_cast<size_t>(k)), exact(all.size());
      for (int64_t i = 0; i < t * n; ++i) {
        cpu::unpack_row(weight, i % n, row.data());
        double sum = 0;
        for (int64_t j = 0; j < k; ++j) sum += static_cast<double>(x[static_cast<size_t>(i / n * k + j)]) * row[static_cast<size_t>(j)];
        exact[static_cast<size_t>(i)] = static_cast<float>(sum);
      }
      EXPECT_LE(normalised_error(all, exact), 1e-8) << dtype_name(type) << " " << isa_name(isa);
      for (int64_t i = 0; i < t; ++i) {
        std::vector<float> one(x.begin() + i * k, x.begin() + (i + 1) * k);
        const std::vector<float> y = run(ctx, weight, one, 1);
        ASSERT_EQ(0, std::memcmp(y.data(), all.data() + i * n, y.size() * sizeof(float))) << dtype_name(type) << " " << isa_name(isa) << " row " << i;
      }
      x[0] = std::numeric_limits<float>::quiet_NaN();
      EXPECT_TRUE(std::isnan(run(ctx, weight, x, t)[0]));
    }
  }
}

// Segments one after the other, bias and what was there added; and the plain tensor, packed or expanded on the way.
TEST_P(LinearOnDevice, SegmentsBiasAccumulationAndPlainWeights) {
  for (const auto& context : test::contexts_of_two_threads(GetParam())) {
    Context& ctx = *context;
    const int64_t k = 256, n = 24;
    for (const int64_t t : {3, 40}) {
      std::vector<float> x = normals(t * k, 8);
      const Tensor rows = test::on(ctx, Tensor::from_memory(x.data(), {t, k}, DType::kF32));
      PackedWeight joined;
      std::vector<float> expected(static_cast<size_t>(t * n) * std::size(kLinearTypes));
      size_t column = 0;
      for (const DType type : kLinearTypes) {
        const Tensor part = test::on(ctx, random_weight(type, n, k, 4));
        ops::append_weight(ctx, ops::weight_source(part), false, joined);
        const std::vector<float> alone = run(ctx, ops::pack_weight(ctx, part), x, t);
        for (int64_t i = 0; i < t; ++i) {
          for (int64_t o = 0; o < n; ++o) expected[static_cast<size_t>(i * n) * std::size(kLinearTypes) + column + static_cast<size_t>(o)] = alone[static_cast<size_t>(i * n + o)];
        }
        std::vector<float> plain;
        for (const double value : test::values_of(ops::linear(ctx, rows, part))) plain.push_back(static_cast<float>(value));
        EXPECT_LE(normalised_error(plain, alone), is_quantised(type) ? 2e-4 : 1e-10) << dtype_name(type) << " " << test::name_of(ctx);
        column += static_cast<size_t>(n);
      }
      std::vector<float> bias = normals(joined.rows, 6);
      const Tensor bias_tensor = test::on(ctx, Tensor::from_memory(bias.data(), {joined.rows}, DType::kF32));
      const Tensor y = test::on(ctx, Tensor::from_values(std::vector<float>(expected.size(), 2.0f), {t, joined.rows}));
      ops::linear(ctx, rows, joined, y, {.bias = &bias_tensor, .accumulate = true});
      const std::vector<double> got = test::values_of(y);
      for (size_t i = 0; i < got.size(); ++i) {
        ASSERT_EQ(static_cast<float>(got[i]), expected[i] + bias[i % bias.size()] + 2.0f) << i << " " << test::name_of(ctx);
      }
    }
  }
}

TEST(Linear, SegmentsOfDifferentTypesBiasAndAccumulation) {
  for (const Isa isa : test::isas()) {
    Context ctx(Device::cpu(), {.threads = 2, .isa = isa});
    const int64_t k = 256;
    PackedWeight joined;
    std::vector<Tensor> parts;
    for (const DType type : kLinearTypes) parts.push_back(random_weight(type, 20 + static_cast<int64_t>(type), k, 4));
    for (const Tensor& part : parts) {
      const uint64_t row_bytes = dtype_bytes(part.dtype(), static_cast<uint64_t>(k));
      WeightSource source;
      source.type = part.dtype();
      source.rows = part.dim(0);
      source.k = k;
      source.read_rows = [&](int64_t row, std::span<std::byte> out) { std::memcpy(out.data(), part.raw() + static_cast<uint64_t>(row) * row_bytes, out.size()); };
      ops::append_weight(ctx, source, false, joined);
    }
    const int64_t t = 14;
    std::vector<float> x = normals(t * k, 8);
    std::vector<float> bias = normals(joined.rows, 6);
    std::vector<float> y(static_cast<size_t>(t * joined.rows), 2.0f);
    const Tensor bias_tensor = Tensor::from_memory(bias.data(), {joined.rows}, DType::kF32);
    ops::linear(ctx, Tensor::from_memory(x.data(), {t, k}, DType::kF32), joined, Tensor::from_memory(y.data(), {t, joined.rows}, DType::kF32),
                {.bias = &bias_tensor, .accumulate = true});
    std::vector<float> z(y.size(), 2.0f);
    for (WeightSegment& segment : joined.segments) segment.precise = true;
    ops::linear(ctx, Tensor::from_memory(x.data(), {t, k}, DType::kF32), joined, Tensor::from_memory(z.data(), {t, joined.rows}, DType::kF32),
                {.bias = &bias_tensor, .accumulate = true});
    EXPECT_LE(normalised_error(y, z), 2e-4);
    int64_t column = 0;
    for (const Tensor& part : parts) {
      const PackedWeight alone = ops::pack_weight(ctx, part);
      const std::vector<float> expected = run(ctx, alone, x, t);
      for (int64_t i = 0; i < t; ++i) {
        for (int64_t o = 0; o < alone.rows; ++o) {
          const float sum = expected[static_cast<size_t>(i * alone.rows + o)] + bias[static_cast<size_t>(column + o)];
          ASSERT_EQ(sum + 2.0f, y[static_cast<size_t>(i * joined.rows + column + o)]) << dtype_name(part.dtype()) << " " << isa_name(isa);
        }
      }
      column += alone.rows;
    }
  }
}

TEST(Linear, ViewsOfWiderRows) {
  Context ctx;
  const int64_t t = 6, n = 24, k = 64;
  std::vector<float> wide = normals(t * (k + 5), 1), out(static_cast<size_t>(t * (n + 3)), -1.0f);
  const PackedWeight weight = ops::pack_weight(ctx, random_weight(DType::kQ8_0, n, k, 2));
  const Tensor x = Tensor::from_memory(wide.data(), {t, k + 5}, DType::kF32).slice(1, 2, 2 + k);
  const Tensor y = Tensor::from_memory(out.data(), {t, n + 3}, DType::kF32).slice(1, 1, 1 + n);
  ops::linear(ctx, x, weight, y);
  const Tensor plain = x.contiguous();
  std::vector<float> rows(plain.data<float>(), plain.data<float>() + t * k);
  const std::vector<float> expected = run(ctx, weight, rows, t);
  for (int64_t i = 0; i < t; ++i) {
    EXPECT_EQ(0, std::memcmp(out.data() + i * (n + 3) + 1, expected.data() + i * n, static_cast<size_t>(n) * sizeof(float)));
    EXPECT_EQ(-1.0f, out[static_cast<size_t>(i * (n + 3))]);
    EXPECT_EQ(-1.0f, out[static_cast<size_t>(i * (n + 3) + n + 1)]);
  }
}

TEST_P(LinearOnDevice, NanAndInfinityInActivationsReachTheOutput) {
  for (const auto& context : test::contexts_of_two_threads(GetParam())) {
    Context& ctx = *context;
    for (const DType type : kLinearTypes) {
      const int64_t k = fitting(type, 64);
      const PackedWeight weight = ops::pack_weight(ctx, test::on(ctx, random_weight(type, 16, k, 2)));
      for (const auto& [bad, rows] : {std::pair(std::numeric_limits<float>::quiet_NaN(), 3), {std::numeric_limits<float>::infinity(), 3},
                                      {std::numeric_limits<float>::quiet_NaN(), 45}, {-std::numeric_limits<float>::infinity(), 45}}) {
        std::vector<float> x = normals(rows * k, 1);
        x[static_cast<size_t>(k + 40)] = bad;  // the second row
        const std::vector<float> y = run(ctx, weight, x, rows);
        for (size_t i = 0; i < y.size(); ++i) EXPECT_EQ(i / 16 != 1, std::isfinite(y[i])) << dtype_name(type) << " of " << rows << " rows";
      }
    }
  }
}

TEST(Linear, ZeroAndTinyBlocksQuantiseToZero) {
  Context ctx;
  const PackedWeight weight = ops::pack_weight(ctx, random_weight(DType::kQ4_1, 16, 32, 2));
  std::vector<float> x(32, 0.0f);
  for (const float value : run(ctx, weight, x, 1)) EXPECT_EQ(0.0f, value);
  x.assign(32, 1e-42f);
  for (const float value : run(ctx, weight, x, 1)) EXPECT_NEAR(0.0f, value, 1e-30f);
}

// What packing on the way and half-precision rows give is what packed weights and f32 rows give, rounded once.
TEST(Linear, PlainWeightsHalfTypesAnyRankAndView) {
  for (const Isa isa : test::isas()) {
    Context ctx(Device::cpu(), {.threads = 2, .isa = isa});
    for (const DType weight_type : kLinearTypes) {
      const int64_t n = 35, k = fitting(weight_type, 96);
      const Tensor weight = random_weight(weight_type, n, k, 3);
      const PackedWeight packed = ops::pack_weight(ctx, weight);
      for (const DType type : {DType::kF32, DType::kF16, DType::kBF16}) {
        const Tensor x = Tensor::from_values(normals(2 * 3 * k, 4), {2, 1, 3, k}, type);
        const Tensor bias = Tensor::from_values(normals(n, 5), {n}, type);
        const Tensor y = ops::linear(ctx, x, packed, {.bias = &bias});
        EXPECT_EQ(y.dtype(), type);
        EXPECT_EQ(y.shape(), Shape({2, 1, 3, n}));
        const Tensor wide_bias = bias.to(DType::kF32);
        const Tensor expected = ops::linear(ctx, x.to(DType::kF32), packed, {.bias = &wide_bias}).to(type);
        EXPECT_TRUE(test::same_bits(y, expected)) << dtype_name(weight_type) << " " << dtype_name(type);
        EXPECT_TRUE(test::same_bits(ops::linear(ctx, x, weight, {.bias = &bias}), expected));
        EXPECT_TRUE(test::same_bits(ops::linear(ctx, test::with_gaps(x), weight, {.bias = &wide_bias}), expected));
        EXPECT_TRUE(test::same_bits(ops::linear(ctx, test::column_major(x), packed, {.bias = &bias}), expected));
        const Tensor gaps = test::with_gaps(Tensor::zeros(y.shape(), type));
        ops::linear(ctx, x, weight, gaps, {.bias = &bias});
        EXPECT_TRUE(test::same_bits(gaps, expected));
        const Tensor one = x.slice(0, 1, 2).slice(2, 2, 3).reshape({k});  // rank 1
        EXPECT_TRUE(test::same_bits(ops::linear(ctx, one, packed, {.bias = &bias}), expected.slice(0, 1, 2).slice(2, 2, 3).reshape({n})));
        const Tensor deep = x.reshape({1, 2, 1, 1, 3, k});  // rank 6
        EXPECT_TRUE(test::same_bits(ops::linear(ctx, deep, weight, {.bias = &bias}), expected.reshape({1, 2, 1, 1, 3, n})));
        if (is_quantised(weight_type)) continue;
        EXPECT_TRUE(test::same_bits(ops::linear(ctx, x, test::column_major(weight), {.bias = &bias}), expected));
        EXPECT_TRUE(test::same_bits(ops::linear(ctx, x, test::with_gaps(weight), {.bias = &bias}), expected));
      }
    }
  }
}

TEST(Linear, MisuseNamesWhatIsWrong) {
  Context ctx;
  const PackedWeight weight = ops::pack_weight(ctx, random_weight(DType::kF32, 8, 16, 1));
  const Tensor x = Tensor::zeros({2, 16}, DType::kF32), y = Tensor::zeros({2, 8}, DType::kF32);
  const Tensor short_bias = Tensor::zeros({7}, DType::kF32);
  const auto message = [&](const Tensor& a, const Tensor& b, ops::LinearOptions options = {}) -> std::string {
    try {
      ops::linear(ctx, a, weight, b, options);
    } catch (const Error& error) {
      EXPECT_EQ(ErrorCode::kInvalidArgument, error.code());
      return error.what();
    }
    return "";
  };
  EXPECT_EQ("", message(x, y));
  EXPECT_THAT(message(Tensor::zeros({2, 15}, DType::kF32), y), testing::HasSubstr("x has 15 inputs"));
  EXPECT_NE("", message(x, Tensor::zeros({2, 9}, DType::kF32)));
  EXPECT_NE("", message(x, Tensor::zeros({3, 8}, DType::kF32)));
  EXPECT_NE("", message(x.to(DType::kF16), y));
  EXPECT_NE("", message(Tensor::zeros({}, DType::kF32), y));
  EXPECT_EQ("", message(Tensor::zeros({16, 2}, DType::kF32).transpose(0, 1), y));
  EXPECT_NE("", message(x, Tensor::zeros({8, 2}, DType::kF32).transpose(0, 1), {.accumulate = true}));
  EXPECT_NE("", message(Tensor(), y));
  EXPECT_NE("", message(x, y, {.bias = &short_bias}));
  const Tensor norm = Tensor::zeros({16}, DType::kF32), half = Tensor::zeros({2, 4}, DType::kF32);
  EXPECT_EQ("", message(x, half, {.norm = &norm, .swiglu = true}));
  EXPECT_NE("", message(x, y, {.swiglu = true}));
  EXPECT_THAT(message(x, half, {.accumulate = true, .swiglu = true}), testing::HasSubstr("no accumulate"));
  EXPECT_THAT(message(x, y, {.norm = &short_bias}), testing::HasSubstr("norm is f32 [7]"));
  EXPECT_NE("", message(x, y, {.norm = &norm, .norm_eps = -1}));
  EXPECT_THROW(ops::pack_weight(ctx, Tensor::zeros({2, 2, 2}, DType::kF32)), Error);
  EXPECT_THROW(ops::pack_weight(ctx, Tensor::zeros({2, 2}, DType::kI32)), Error);
  EXPECT_NE("", message(Tensor::zeros({0, 16}, DType::kF32), y));
  EXPECT_EQ("", message(Tensor::zeros({0, 16}, DType::kF32), Tensor::zeros({0, 8}, DType::kF32)));
}

TEST(Embedding, GivesTheTablesOwnValuesForEveryType) {
  Context ctx;
  for (const DType type : kLinearTypes) {
    const int64_t rows = 21, k = fitting(type, 1088);  // longer than one decoding chunk
    const Tensor table = random_weight(type, rows, k, 12);
    const PackedWeight packed = ops::pack_weight(ctx, table);
    std::vector<int32_t> ids = {0, 20, 7, 7, 16};
    const Tensor y = Tensor::empty({5, k}, DType::kF32);
    ops::embedding(ctx, Tensor::from_memory(ids.data(), {5}, DType::kI32), packed, y);
    // The output of a matmul with a unit vector is the column of the same element; the embedding must hold the identical weight.
    for (int64_t i = 0; i < 5; ++i) {
      for (const int64_t j : {int64_t{0}, int64_t{31}, int64_t{32}, int64_t{1023}, int64_t{1024}, k - 1}) {
        std::vector<float> unit(static_cast<size_t>(k), 0.0f);
        unit[static_cast<size_t>(j)] = 1.0f;
        const float product = run(ctx, packed, unit, 1)[static_cast<size_t>(ids[static_cast<size_t>(i)])];
        EXPECT_NEAR(product, y.data<float>()[i * k + j], 2e-6f + 2e-7f * std::fabs(product)) << dtype_name(type) << " " << i << "," << j;
      }
    }
    ids[2] = static_cast<int32_t>(rows);
    EXPECT_THROW(ops::embedding(ctx, Tensor::from_memory(ids.data(), {5}, DType::kI32), packed, y), Error);
    ids[2] = -1;
    EXPECT_THROW(ops::embedding(ctx, Tensor::from_memory(ids.data(), {5}, DType::kI32), packed, y), Error);
  }
}

TEST(Embedding, AnyRankIdsTablesAndTypes) {
  Context ctx(Device::cpu(), {.threads = 2});
  const Tensor table = Tensor::from_values(normals(11 * 70, 6), {11, 70});
  const PackedWeight packed = ops::pack_weight(ctx, table);
  std::vector<int64_t> list = {3, 0, 10, 3, 9, 1};
  const Tensor ids = Tensor::from_memory(list.data(), {3, 2}, DType::kI64);
  const Tensor expected = Tensor::empty({3, 2, 70}, DType::kF32);
  for (size_t i = 0; i < list.size(); ++i) std::memcpy(expected.data<float>() + i * 70, table.data<float>() + list[i] * 70, 70 * sizeof(float));
  EXPECT_TRUE(test::same_bits(ops::embedding(ctx, ids, table), expected));
  EXPECT_TRUE(test::same_bits(ops::embedding(ctx, ids, packed), expected));
  EXPECT_TRUE(test::same_bits(ops::embedding(ctx, ids.transpose(0, 1), table), expected.transpose(0, 1)));
  EXPECT_TRUE(test::same_bits(ops::embedding(ctx, ids, test::column_major(table)), expected));
  EXPECT_TRUE(test::same_bits(ops::embedding(ctx, ids.to(DType::kI32), table.to(DType::kBF16)), expected.to(DType::kBF16)));
  const Tensor half = Tensor::empty({3, 2, 70}, DType::kF16);
  ops::embedding(ctx, ids, packed, half);
  EXPECT_TRUE(test::same_bits(half, expected.to(DType::kF16)));
  EXPECT_EQ(ops::embedding(ctx, ids.slice(0, 1, 2).slice(1, 0, 1).reshape({}), table).shape(), Shape({70}));
  EXPECT_EQ(ops::embedding(ctx, ids.slice(0, 1, 1), table).shape(), Shape({0, 2, 70}));
  test::expect_error([&] { ops::embedding(ctx, ids.to(DType::kF32), table); }, "embedding: ids is f32");
  test::expect_error([&] { ops::embedding(ctx, ids, table, half); }, "embedding: y is f16, expected f32");
  test::expect_error([&] { ops::embedding(ctx, ids, table.slice(0, 0, 10)); }, "id 10 at position 2");
}

// What a packed table gives is what the file's codec says, bit for bit, on every device.
TEST_P(LinearOnDevice, EmbeddingIsTheCodec) {
  for (const auto& context : test::contexts_of_two_threads(GetParam())) {
    Context& ctx = *context;
    for (const DType type : kLinearTypes) {
      const int64_t rows = 21, k = fitting(type, 544);
      const Tensor stored = random_weight(type, rows, k, 12);
      std::vector<int64_t> list = {0, 20, 7, 7, 16};
      const Tensor ids = test::on(ctx, Tensor::from_memory(list.data(), {5}, DType::kI64));
      const Tensor y = ops::embedding(ctx, ids, ops::pack_weight(ctx, test::on(ctx, stored)));
      const Tensor expected = Tensor::empty({5, k}, DType::kF32);
      for (size_t i = 0; i < list.size(); ++i) {
        decode_blocks(type, stored.raw() + static_cast<uint64_t>(list[i]) * dtype_bytes(type, static_cast<uint64_t>(k)), k, expected.data<float>() + static_cast<int64_t>(i) * k);
      }
      EXPECT_TRUE(test::same_bits(y, expected)) << dtype_name(type) << " " << test::name_of(ctx);
    }
    const Tensor table = test::on(ctx, Tensor::from_values(normals(11 * 70, 6), {11, 70}));
    std::vector<int32_t> outside = {3, 11};
    test::expect_error(
        [&] {
          ops::embedding(ctx, test::on(ctx, Tensor::from_memory(outside.data(), {2}, DType::kI32)), table);
          ctx.synchronize();
        },
        "embedding: id 11");
    ctx.synchronize();
  }
}

// Types without a kernel are refused, whatever can read and write them.
TEST(Linear, TypesWithoutKernelsAreRefused) {
  Context ctx;
  for (const DTypeTraits& row : kDTypes) {
    if (ops::can_pack(row.type)) continue;
    try {
      ops::pack_weight(ctx, Tensor::zeros({16, 256}, row.type));
      ADD_FAILURE() << row.name;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kUnsupported) << error.what();
      EXPECT_THAT(error.what(), testing::HasSubstr(row.name));
    }
  }
}

}  // namespace
}  // namespace wick
