// What the tests of elementwise and row ops share: every way to run an op on this machine, inputs, views, and comparisons.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <initializer_list>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "tests/support/on_device.h"
#include "wick/base/error.h"
#include "wick/tensor/context.h"
#include "wick/tensor/tensor.h"

namespace wick::test {

inline constexpr DType kHalfAndSingle[] = {DType::kF32, DType::kF16, DType::kBF16};
inline constexpr int64_t kSizes[] = {1, 3, 7, 8, 9, 15, 16, 17, 31, 63, 64, 65, 100, 576, 1000, 1025, 4099};

// The same view of a copy in the memory of ctx's device; on the CPU the tensor itself.
inline Tensor on(const Context& ctx, const Tensor& tensor) { return tensor.defined() ? tensor.to(ctx.device()) : tensor; }

// The instruction sets of this machine, in ascending order. Where threads are watched only the best: they meet in the same way on each.
inline std::vector<Isa> isas() {
  std::vector<Isa> all;
  for (const Isa isa : kIsas) {
    if (isa_available(isa)) all.push_back(isa);
  }
#ifdef __SANITIZE_THREAD__
  all.erase(all.begin(), all.end() - 1);
#endif
  return all;
}

// One context per instruction set and number of threads; the first is scalar with one thread.
inline std::vector<std::unique_ptr<Context>> contexts() {
  std::vector<std::unique_ptr<Context>> all;
  for (const Isa isa : isas()) {
    for (const int threads : {1, 3}) all.push_back(std::make_unique<Context>(Device::cpu(), Context::Options{threads, isa}));
  }
  return all;
}

// As above on the CPU, on another device one.
inline std::vector<std::unique_ptr<Context>> contexts(const std::string& device) {
  if (device == "cpu") return contexts();
  std::vector<std::unique_ptr<Context>> one;
  one.push_back(std::make_unique<Context>(Device::parse(device), Context::Options{1}));
  return one;
}

// One context per instruction set with two threads; on another device one.
inline std::vector<std::unique_ptr<Context>> contexts_of_two_threads(const std::string& device) {
  std::vector<std::unique_ptr<Context>> all;
  for (const auto& each : contexts(device)) {
    if (each->threads() == 1) all.push_back(std::make_unique<Context>(each->device(), Context::Options{2, each->isa()}));
  }
  return all;
}

// On which a row does not depend on those beside it: one for the device.
inline std::unique_ptr<Context> batch_invariant_context(const std::string& device) {
  Context::Options options;
  options.threads = 2;
  options.batch_invariant = true;
  return std::make_unique<Context>(Device::parse(device), options);
}

// Calls body(first, count) for pieces of `rows` rows, of a size each.
template <class Body>
void for_chunks(int64_t rows, std::initializer_list<int64_t> sizes, Body&& body) {
  for (const int64_t size : sizes) {
    for (int64_t first = 0; first < rows; first += size) body(first, std::min(size, rows - first));
  }
}

inline std::string name_of(const Context& ctx) {
  if (!ctx.device().is_cpu()) return ctx.device().name();
  return std::string(isa_name(ctx.isa())) + " with " + std::to_string(ctx.threads()) + " threads";
}

// Standard-normal values rounded to `type`.
inline Tensor normal_tensor(const Shape& shape, DType type, uint32_t seed) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(static_cast<size_t>(element_count(shape)));
  for (float& value : values) value = normal(generator);
  return Tensor::from_values(values, shape, type);
}

inline std::vector<double> values_of(const Tensor& tensor) {
  const Tensor wide = tensor.to(Device::cpu()).contiguous().to(DType::kF64);
  return std::vector<double>(wide.data<double>(), wide.data<double>() + wide.elements());
}

// Calls visit(offset_a, offset_b) in bytes for every element of two views of one shape and type.
template <class Visit>
void for_each_element(const Tensor& a, const Tensor& b, const Visit& visit) {
  const int64_t bytes = traits(a.dtype()).bytes;
  for (int64_t i = 0; i < a.elements(); ++i) {
    int64_t rest = i, at_a = 0, at_b = 0;
    for (int d = a.rank() - 1; d >= 0; --d) {
      at_a += rest % a.shape()[d] * a.strides()[d];
      at_b += rest % a.shape()[d] * b.strides()[d];
      rest /= a.shape()[d];
    }
    visit(at_a * bytes, at_b * bytes);
  }
}

inline void copy_elements(const Tensor& from, const Tensor& to) {
  const size_t bytes = static_cast<size_t>(traits(from.dtype()).bytes);
  for_each_element(from, to, [&](int64_t a, int64_t b) { std::memcpy(to.raw() + b, from.raw() + a, bytes); });
}

// The same elements in a wider buffer: every dimension but the last with gaps, rows that start off any alignment.
inline Tensor with_gaps(const Tensor& tensor) {
  Shape shape = tensor.shape();
  for (int d = 0; d < shape.rank(); ++d) shape[d] += 3;
  Tensor view = Tensor::zeros(shape, tensor.dtype());
  for (int d = 0; d < shape.rank(); ++d) view = view.slice(d, 1, 1 + tensor.shape()[d]);
  copy_elements(tensor, view);
  return view;
}

// The same elements with the first dimension innermost in memory: rows whose elements are not neighbours.
inline Tensor column_major(const Tensor& tensor) {
  return tensor.transpose(0, tensor.rank() - 1).contiguous().transpose(0, tensor.rank() - 1);
}

inline bool same_bits(const Tensor& first, const Tensor& second) {
  const Tensor a = first.to(Device::cpu()), b = second.to(Device::cpu());
  if (!(a.shape() == b.shape()) || a.dtype() != b.dtype()) return false;
  bool same = true;
  const size_t bytes = static_cast<size_t>(traits(a.dtype()).bytes);
  for_each_element(a, b, [&](int64_t at_a, int64_t at_b) { same = same && std::memcmp(a.raw() + at_a, b.raw() + at_b, bytes) == 0; });
  return same;
}

// Squared error and reference pooled over many calls; error() is their quotient.
class Nmse {
 public:
  void add(const Tensor& got, const Tensor& expected) {
    const std::vector<double> a = values_of(got);
    const std::vector<double> b = values_of(expected);
    ASSERT_EQ(a.size(), b.size());
    for (size_t i = 0; i < a.size(); ++i) {
      difference_ += (a[i] - b[i]) * (a[i] - b[i]);
      reference_ += b[i] * b[i];
    }
    count_ += a.size();
  }
  double error() const { return difference_ / reference_; }
  size_t count() const { return count_; }

 private:
  double difference_ = 0;
  double reference_ = 0;
  size_t count_ = 0;
};

inline double elementwise_bound(DType type) { return type == DType::kF16 ? 5e-7 : type == DType::kBF16 ? 2e-5 : 1e-12; }

inline void expect_values(const Tensor& got, const std::vector<double>& expected, double tolerance) {
  const std::vector<double> values = values_of(got);
  ASSERT_EQ(values.size(), expected.size());
  for (size_t i = 0; i < values.size(); ++i) EXPECT_NEAR(values[i], expected[i], tolerance) << "element " << i;
}

// `call` throws an Error of this code whose message holds `text`.
template <class Call>
void expect_error(const Call& call, const std::string& text, ErrorCode code = ErrorCode::kInvalidArgument) {
  try {
    call();
    ADD_FAILURE() << "no error, expected: " << text;
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), testing::HasSubstr(text));
    EXPECT_EQ(error.code(), code) << error.what();
  }
}

}  // namespace wick::test
