// What the bits of a product do not depend on: the rows beside it, threads, instruction sets.
#include <gtest/gtest.h>

#include <cstring>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "tests/ops/linear_support.h"
#include "wick/base/checked.h"
#include "wick/kernels/linear.h"
#include "wick/ops/copy.h"
#include "wick/ops/linear.h"
#include "wick/tensor/half.h"

namespace wick {
namespace {

using test::fitting;
using test::kLinearTypes;
using test::normals;
using test::random_weight;
using test::run;

class LinearBitsOnDevice : public test::OnDevice {};
WICK_ON_EVERY_DEVICE(LinearBitsOnDevice);

// With all that happens on the way, over and below what any kernel takes at once.
TEST_P(LinearBitsOnDevice, ARowDoesNotDependOnTheBatch) {
  const auto ctx = test::batch_invariant_context(GetParam());
  constexpr int64_t t = 150;
  for (const DType type : kLinearTypes) {
    for (const auto& [n, least] : {std::pair<int64_t, int64_t>{72, 100}, {300, 576}, {512, 2048}}) {
      const int64_t k = fitting(type, least);
      PackedWeight weight;
      for (const uint32_t seed : {1u, 2u})
        ops::append_weight(*ctx, ops::weight_source(test::on(*ctx, random_weight(type, n, k, seed))), false, weight);
      const Tensor x = test::on(*ctx, Tensor::from_values(normals(t * k, 11), {t, k})),
                   old = test::on(*ctx, Tensor::from_values(normals(t * 2 * n, 12), {t, 2 * n}));
      const Tensor norm = test::on(*ctx, Tensor::from_values(normals(k, 5), {k})),
                   bias = test::on(*ctx, Tensor::from_values(normals(2 * n, 6), {2 * n}));
      const Tensor next_norm = test::on(*ctx, Tensor::from_values(normals(2 * n, 7), {2 * n}));
      struct Results {
        Tensor product, gated, sum, normed;
      };
      const auto results_of = [&, n = n](int64_t first, int64_t rows) {
        const Tensor part = x.slice(0, first, first + rows);
        Results results;
        results.product = ops::linear(*ctx, part, weight, {.bias = &bias, .norm = &norm, .norm_eps = 1e-5});
        results.gated = ops::linear(*ctx, part, weight, {.bias = &bias, .swiglu = true});
        results.sum = test::on(*ctx, old.slice(0, first, first + rows).to(Device::cpu()).contiguous());
        results.normed = test::on(*ctx, Tensor::zeros({rows, 2 * n}, DType::kBF16));
        ops::LinearOptions options = {.bias = &bias, .accumulate = true};
        if (ops::rounds_to_bf16(*ctx, weight, rows)) {
          options.norm_eps = 1e-5;
          options.normed = &results.normed;
          options.next_norm = &next_norm;
        }
        ops::linear(*ctx, part, weight, results.sum, options);
        return results;
      };
      const Results all = results_of(0, t);
      test::for_chunks(t, {1, 7, 16, 17, 64, 65}, [&](int64_t first, int64_t rows) {
        SCOPED_TRACE(concat(dtype_name(type), " ", n, " x ", k, ", ", rows, " rows at ", first));
        const Results part = results_of(first, rows);
        const auto expect_same = [&, n = n](const Tensor& whole, const Tensor& own, const char* what) {
          EXPECT_TRUE(test::same_bits(whole.slice(0, first, first + rows).to(Device::cpu()).contiguous(), own.to(Device::cpu()))) << what;
        };
        expect_same(all.product, part.product, "product");
        expect_same(all.gated, part.gated, "gated");
        expect_same(all.sum, part.sum, "sum");
        expect_same(all.normed, part.normed, "normed");
      });
    }
  }
}

TEST(LinearBits, ARowDoesNotDependOnTheBatchOrTheThreads) {
  const int64_t t = 64, n = 100;
  const auto check = [&](Isa isa, DType type, bool precise) {
    const int64_t k = fitting(type, 320);
    std::vector<float> x = normals(t * k, 21);
    Context one(Device::cpu(), {.threads = 1, .isa = isa});
    PackedWeight weight = ops::pack_weight(one, random_weight(type, n, k, 9));
    weight.segments[0].precise = precise;
    const std::vector<float> all = run(one, weight, x, t);
    Context many(Device::cpu(), {.threads = 4, .isa = isa});
    EXPECT_EQ(all, run(many, weight, x, t)) << dtype_name(type) << " " << isa_name(isa);
    test::for_chunks(t, {1, 3, 16, 41, 44, 45, 46, 47}, [&](int64_t first, int64_t rows) {
      std::vector<float> part(x.begin() + first * k, x.begin() + (first + rows) * k);
      const std::vector<float> y = run(many, weight, part, rows);
      ASSERT_EQ(0, std::memcmp(y.data(), all.data() + first * n, y.size() * sizeof(float)))
          << dtype_name(type) << " " << rows << " rows at " << first << " " << isa_name(isa);
    });
  };
  for (const Isa isa : test::isas()) {
    for (const DType type : kLinearTypes) {
      check(isa, type, false);
      if (is_quantised(type)) check(isa, type, true);
    }
  }
}

// More of everything than a kernel of many rows takes in one block.
TEST(LinearBits, RowsOfManyAreThoseOfFew) {
  const int64_t t = 531, n = 16 * 35 + 3, k = 1100;
  std::vector<float> x = normals(t * k, 31);
  const Tensor stored = random_weight(DType::kBF16, n, k, 32);
  for (const Isa isa : test::isas()) {
    if (isa == Isa::kScalar) continue;  // slow, and one row at a time
    Context ctx(Device::cpu(), {.threads = 2, .isa = isa});
    const PackedWeight weight = ops::pack_weight(ctx, stored);
    const std::vector<float> all = run(ctx, weight, x, t);
    const auto expect_same = [&](int64_t first, int64_t rows) {
      std::vector<float> part(x.begin() + first * k, x.begin() + (first + rows) * k);
      const std::vector<float> y = run(ctx, weight, part, rows);
      EXPECT_EQ(0, std::memcmp(y.data(), all.data() + first * n, y.size() * sizeof(float)))
          << isa_name(isa) << ": " << rows << " from " << first;
    };
    for (const int64_t row : {0, 15, 16, 31, 32, 511, 512, 527, 528, 530}) expect_same(row, 1);
    for (const int64_t rows : {2, 16, 17, 32, 33, 100}) expect_same(500 - rows, rows);
  }
}

// What bf16_panels_amx.cc says that it does: 32 products in two chains, of even and of odd inputs.
TEST(LinearBits, TilesOfBf16SumAsDocumented) {
  if (!isa_available(Isa::kAvx512Amx)) GTEST_SKIP() << "no AMX";
  const int64_t n = 20, k = 150;
  std::vector<float> x = normals(k, 41);
  const Tensor stored = random_weight(DType::kBF16, n, k, 42);
  Context ctx(Device::cpu(), {.threads = 1, .isa = Isa::kAvx512Amx});
  const std::vector<float> y = run(ctx, ops::pack_weight(ctx, stored), x, 1);
  const uint16_t* w = stored.data<uint16_t>();
  for (int64_t o = 0; o < n; ++o) {
    float sum = 0;
    for (int64_t first = 0; first < k; first += 32) {
      float halves[2] = {};
      for (int64_t i = first; i < std::min(k, first + 32); ++i) {
        halves[i % 2] = std::fma(bf16_to_f32(f32_to_bf16(x[static_cast<size_t>(i)])), bf16_to_f32(w[o * k + i]), halves[i % 2]);
      }
      sum += halves[0] + halves[1];
    }
    EXPECT_EQ(sum, y[static_cast<size_t>(o)]) << o;
  }
}

// Random multiples of 1/512 and a hash of results that does not depend on the machine.
std::vector<float> fractions(int64_t count, uint32_t seed) {
  std::mt19937 generator(seed);
  std::vector<float> values(static_cast<size_t>(count));
  for (float& value : values) value = static_cast<float>(static_cast<int>(generator() % 4001) - 2000) / 512.0f;
  return values;
}

uint64_t hash_of(const std::vector<float>& values) {
  uint64_t hash = 14695981039346656037u;
  for (const float value : values) {
    uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    hash = (hash ^ bits) * 1099511628211u;
  }
  return hash;
}

// Integer sums are exact and the f32 chain is the same: quantised products agree bit for bit wherever fma is one instruction, on every
// architecture.
TEST(LinearBits, QuantisedResultsAreTheSameOnAllVectorInstructionSets) {
  const int64_t t = 20, n = 40, k = 256;
  std::vector<float> x = fractions(t * k, 22);
  const std::pair<DType, uint64_t> hashes[] = {
      {DType::kQ4_0, 1768268033042754606u},  {DType::kQ4_1, 11448084689321689594u}, {DType::kQ8_0, 5239942640574556846u},
      {DType::kQ5_0, 13165287896794566280u}, {DType::kQ5_1, 778821811475621123u},   {DType::kQ4_K, 3347293685340457735u},
      {DType::kQ5_K, 11557884641550632980u}, {DType::kQ6_K, 10717691384383453056u},
  };
  for (const auto& [type, hash] : hashes) {
    for (const Isa isa : test::isas()) {
      if (isa == Isa::kScalar) continue;
      Context ctx(Device::cpu(), {.threads = 1, .isa = isa});
      const PackedWeight weight = ops::pack_weight(ctx, random_weight(type, n, k, 9));
      EXPECT_EQ(hash, hash_of(run(ctx, weight, x, t))) << dtype_name(type) << " " << isa_name(isa);
    }
  }
}

#if defined(__aarch64__)
// BFMLAL rounds as widening and fma do.
TEST(LinearBits, Bf16ResultsAreTheSameWithAndWithoutBf16Instructions) {
  if (!isa_available(Isa::kNeonBf16)) GTEST_SKIP() << "no BF16";
  for (const int64_t k : {1, 255, 576}) {
    const int64_t t = 7, n = 83;
    std::vector<float> x = normals(t * k, 22);
    x[0] = 1e-38f;  // its products are subnormal
    Context plain(Device::cpu(), {.threads = 1, .isa = Isa::kNeon}), bf16(Device::cpu(), {.threads = 1, .isa = Isa::kNeonBf16});
    const PackedWeight weight = ops::pack_weight(plain, random_weight(DType::kBF16, n, k, 9));
    EXPECT_EQ(run(plain, weight, x, t), run(bf16, weight, x, t)) << k;
  }
}
#endif

// Rows of bf16 that a kernel takes as they are, and rounds its sums to: the same bits as by way of f32. Rows that begin anywhere go that
// way.
TEST(LinearBits, RowsOfBf16AreThoseOfF32Rounded) {
  for (const Isa isa : test::isas()) {
    Context ctx(Device::cpu(), {.threads = 2, .isa = isa});
    for (const auto& [n, k] : {std::pair<int64_t, int64_t>{48, 64}, {40, 100}, {300, 31}, {64, 8}}) {
      const Tensor whole = random_weight(DType::kBF16, 2 * n, k, 3);
      const PackedWeight together = ops::pack_weight(ctx, whole);
      PackedWeight apart;
      for (const int64_t first : {int64_t{0}, n})
        ops::append_weight(ctx, ops::weight_source(whole.slice(0, first, first + n).contiguous()), false, apart);
      std::vector<float> added = normals(2 * n, 6);
      added[5] = 1e-39f;  // too small for a normal number, which bf16 keeps
      const Tensor bias = Tensor::from_values(added, {2 * n});
      for (const int64_t t : {1, 5, 16, 17, 40, 70}) {
        Tensor wide = Tensor::from_values(normals(t * 104, 7), {t, 104}).slice(1, 0, k);
        for (int64_t i = 0; i < k; ++i) wide.data<float>()[i] = 0;
        if (t > 3) wide.data<float>()[2 * 104] = std::numeric_limits<float>::quiet_NaN();
        const Tensor x = Tensor::zeros({t, 104}, DType::kBF16).slice(1, 0, k);
        ops::copy(ctx, wide.to(DType::kBF16), x);
        const auto expect_same = [&](const char* what, int64_t outputs, const auto& product) {
          const Tensor expected = Tensor::zeros({t, outputs}, DType::kF32);
          product(x.to(DType::kF32), expected);
          for (const int64_t gap : {0, 3, 8}) {
            const Tensor y = Tensor::zeros({t, outputs + gap}, DType::kBF16).slice(1, 0, outputs);
            product(x, y);
            EXPECT_TRUE(test::same_bits(y.contiguous(), expected.to(DType::kBF16)))
                << what << " " << isa_name(isa) << " n=" << n << " k=" << k << " t=" << t << " gap=" << gap;
          }
        };
        for (const PackedWeight* weight : {&together, static_cast<const PackedWeight*>(&apart)}) {
          expect_same("product", 2 * n, [&](const Tensor& in, const Tensor& y) { ops::linear(ctx, in, *weight, y, {.bias = &bias}); });
          expect_same("gated", n,
                      [&](const Tensor& in, const Tensor& y) { ops::linear(ctx, in, *weight, y, {.bias = &bias, .swiglu = true}); });
        }
        expect_same("plain", 2 * n, [&](const Tensor& in, const Tensor& y) { ops::linear(ctx, in, whole, y, {}); });
      }
    }
  }
}

}  // namespace
}  // namespace wick
