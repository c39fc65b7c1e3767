// What tests of products share: weights of any type, inputs, and a run.
#pragma once

#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "tests/ops/support.h"
#include "wick/base/checked.h"
#include "wick/ops/linear.h"
#include "wick/tensor/half.h"

namespace wick::test {

inline constexpr DType kLinearTypes[] = {DType::kF32,  DType::kF16,  DType::kBF16, DType::kQ4_0, DType::kQ4_1, DType::kQ8_0,
                                         DType::kQ5_0, DType::kQ5_1, DType::kQ4_K, DType::kQ5_K, DType::kQ6_K};
inline constexpr DType kQuantisedTypes[] = {DType::kQ4_0, DType::kQ4_1, DType::kQ8_0, DType::kQ5_0,
                                            DType::kQ5_1, DType::kQ4_K, DType::kQ5_K, DType::kQ6_K};

// At least k inputs, in whole blocks.
inline int64_t fitting(DType type, int64_t k) { return round_up<int64_t>(k, traits(type).block); }

inline std::vector<float> normals(int64_t count, uint32_t seed) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(static_cast<size_t>(count));
  for (float& value : values) value = normal(generator);
  return values;
}

// Random stored weights of any type: every block scale finite, every quantised value possible.
inline Tensor random_weight(DType type, int64_t rows, int64_t k, uint32_t seed) {
  if (!is_quantised(type)) return Tensor::from_values(normals(rows * k, seed), {rows, k}, type);
  Tensor weight = Tensor::empty({rows, k}, type);
  std::mt19937 generator(seed);
  std::uniform_real_distribution<float> scale(0.001f, 0.1f);
  auto* bytes = reinterpret_cast<uint8_t*>(weight.raw());
  for (uint64_t i = 0; i < weight.bytes(); ++i) bytes[i] = static_cast<uint8_t>(generator());
  const int64_t block = traits(type).bytes;
  for (uint8_t* p = bytes; p < bytes + weight.bytes(); p += block) {
    const uint16_t d = f32_to_f16(scale(generator));
    std::memcpy(type == DType::kQ6_K ? p + 208 : p, &d, 2);
    const bool six_bits = type == DType::kQ4_K || type == DType::kQ5_K;
    const uint16_t m = f32_to_f16(scale(generator) * (six_bits ? 8 : -8));
    if (type == DType::kQ4_1 || type == DType::kQ5_1 || six_bits) std::memcpy(p + 2, &m, 2);
  }
  return weight;
}

inline std::vector<float> floats_of(const Tensor& x) {
  const Tensor here = x.to(Device::cpu()).contiguous();
  return {here.data<float>(), here.data<float>() + here.elements()};
}

inline double normalised_error(const std::vector<float>& got, const std::vector<float>& expected) {
  double error = 0, power = 0;
  for (size_t i = 0; i < got.size(); ++i) {
    error += std::pow(static_cast<double>(got[i]) - expected[i], 2);
    power += std::pow(static_cast<double>(expected[i]), 2);
  }
  return error / power;
}

inline std::vector<float> run(Context& ctx, const PackedWeight& weight, std::vector<float>& x, int64_t t) {
  const Tensor y = on(ctx, Tensor::zeros({t, weight.rows}, DType::kF32));
  ops::linear(ctx, on(ctx, Tensor::from_memory(x.data(), {t, weight.k}, DType::kF32)), weight, y);
  const Tensor here = y.to(Device::cpu());
  return std::vector<float>(here.data<float>(), here.data<float>() + here.elements());
}

}  // namespace wick::test
