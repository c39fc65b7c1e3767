#include "wick/kernels/linear.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "wick/tensor/half.h"

namespace wick::ref {
namespace {

// x in 8-bit blocks.
std::vector<double> quantise_row(const float* x, int64_t k) {
  std::vector<double> out(static_cast<size_t>(k));
  constexpr int64_t kBlock = 32;
  for (int64_t b = 0; b < k; b += kBlock) {
    float largest = 0.0f;
    bool finite = true;
    for (int64_t i = b; i < b + kBlock; ++i) {
      finite = finite && std::isfinite(x[i]);
      largest = std::max(largest, std::fabs(x[i]));
    }
    const float scale = finite ? largest / 127.0f : NAN;
    const float inverse = largest < 1e-36f ? 0.0f : 127.0f / largest;
    for (int64_t i = b; i < b + kBlock; ++i) {
      out[static_cast<size_t>(i)] = finite ? std::nearbyint(x[i] * inverse) * static_cast<double>(scale) : NAN;
    }
  }
  return out;
}

// x as the segment sees it.
std::vector<double> round_row(const float* x, int64_t k, const WeightSegment& segment) {
  std::vector<double> out(x, x + k);
  if (segment.type == DType::kBF16) {
    for (double& value : out) value = bf16_to_f32(f32_to_bf16(static_cast<float>(value)));
  }
  if (!is_quantised(segment.type)) return out;
  out = quantise_row(x, k);
  if (!segment.precise) return out;
  std::vector<float> rest(static_cast<size_t>(k));
  for (size_t i = 0; i < rest.size(); ++i) rest[i] = static_cast<float>(x[i] - out[i]);
  const std::vector<double> second = quantise_row(rest.data(), k);
  for (size_t i = 0; i < out.size(); ++i) out[i] += second[i];
  return out;
}

}  // namespace

void linear(Context&, const LinearArgs& args) {
  const int64_t k = args.weight->k;
  std::vector<float> row(static_cast<size_t>(k));
  int64_t column = 0;
  for (const WeightSegment& segment : args.weight->segments) {
    std::vector<std::vector<double>> x;
    for (int64_t t = 0; t < args.rows; ++t) x.push_back(round_row(args.x + t * args.ldx, k, segment));
    for (int64_t n = column; n < column + segment.rows; ++n) {
      cpu::unpack_row(*args.weight, n, row.data());
      for (int64_t t = 0; t < args.rows; ++t) {
        double sum = args.bias ? args.bias[n] : 0.0;
        for (int64_t i = 0; i < k; ++i) sum += x[static_cast<size_t>(t)][static_cast<size_t>(i)] * row[static_cast<size_t>(i)];
        float& y = args.y[t * args.ldy + n];
        y = static_cast<float>(args.accumulate ? y + sum : sum);
      }
    }
    column += segment.rows;
  }
}

void matmul(const MatmulArgs& args) {
  for (int64_t t = 0; t < args.rows; ++t) {
    for (int64_t n = 0; n < args.n; ++n) {
      double sum = 0;
      for (int64_t i = 0; i < args.k; ++i) {
        sum += args.a[t * args.a_strides[0] + i * args.a_strides[1]] * args.b[n * args.b_strides[0] + i * args.b_strides[1]];
      }
      args.y[t * args.y_strides[0] + n * args.y_strides[1]] = sum;
    }
  }
}

}  // namespace wick::ref
