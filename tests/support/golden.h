// Results of PyTorch (tests/data/ops) and the inputs that they belong to.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tests/ops/support.h"
#include "wick/base/file.h"

namespace wick::test {

// The formula of tools/make_op_goldens.py.
inline Tensor golden_input(uint32_t seed, const Shape& shape, float factor = 1) {
  Tensor t = Tensor::empty(shape, DType::kF32);
  for (int64_t i = 0; i < t.elements(); ++i) {
    const uint32_t mixed = static_cast<uint32_t>(i + 1) * 2654435761u + seed * 40503u * 65537u;
    t.data<float>()[i] = (static_cast<float>(((mixed ^ (mixed >> 15)) * 2246822519u) >> 16) / 32768.0f - 1.0f) * factor;
  }
  return t;
}

// cos and sin of position * theta^(-i / half).
inline std::pair<Tensor, Tensor> golden_tables(int64_t positions, int64_t half) {
  const Tensor cos = Tensor::empty({positions, half}, DType::kF32), sin = Tensor::empty({positions, half}, DType::kF32);
  for (int64_t i = 0; i < positions * half; ++i) {
    const double angle = static_cast<double>(i / half) * std::pow(10000.0, -static_cast<double>(i % half) / static_cast<double>(half));
    cos.data<float>()[i] = static_cast<float>(std::cos(angle));
    sin.data<float>()[i] = static_cast<float>(std::sin(angle));
  }
  return {cos, sin};
}

class Goldens {
 public:
  // |got - expected| <= tolerance * (1 + |expected|) for every element.
  void expect(const Tensor& got, const std::string& name, double tolerance) const {
    SCOPED_TRACE(name);
    const std::vector<double> expected = json_.at(name).get<std::vector<double>>(), values = values_of(got);
    ASSERT_EQ(values.size(), expected.size());
    for (size_t i = 0; i < values.size(); ++i) EXPECT_NEAR(values[i], expected[i], tolerance * (1 + std::fabs(expected[i]))) << "element " << i;
  }

 private:
  nlohmann::json json_ = nlohmann::json::parse(read_file(WICK_TEST_DATA "/ops/goldens.json", 1 << 20));
};

}  // namespace wick::test
