#include "wick/nn/rotary.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numbers>

#include "wick/base/checked.h"
#include "wick/base/error.h"
#include "wick/ops/rope.h"

namespace wick::nn {
namespace {

void require_positive(double value, const char* name) {
  require(value > 0 && std::isfinite(value), "rope: ", name, " is ", value, ", expected a finite number > 0");
}

void check_factors(const RopeConfig& config) {
  const Tensor& factors = config.frequency_factors;
  if (!factors.defined()) return;
  require(factors.device().is_cpu() && factors.dtype() == DType::kF32 && factors.shape() == Shape({config.rotary_dim / 2}),
          "rope: frequency_factors are ", dtype_name(factors.dtype()), " ", factors.shape().to_string(), ", expected f32 [",
          config.rotary_dim / 2, "]");
}

void check(const RopeConfig& config) {
  constexpr int64_t kMaxRotaryDim = int64_t{1} << 20;  // far above any head, small enough that no size below can wrap
  constexpr int64_t kMaxPositions = int64_t{1} << 40;
  require_positive(config.theta, "theta");
  require(config.rotary_dim > 0 && config.rotary_dim % 2 == 0 && config.rotary_dim <= kMaxRotaryDim, "rope: rotary_dim is ",
          config.rotary_dim, ", expected an even number from 2 to ", kMaxRotaryDim);
  require(config.max_positions > 0 && config.max_positions <= kMaxPositions, "rope: max_positions is ", config.max_positions,
          ", expected 1 to ", kMaxPositions);
  check_factors(config);
  if (config.scaling == RopeScaling::kNone) return;
  require_positive(config.factor, "factor");
  if (config.scaling == RopeScaling::kLinear) return;
  require_positive(config.low_freq_factor, "low_freq_factor");
  require_positive(config.high_freq_factor, "high_freq_factor");
  require(config.high_freq_factor > config.low_freq_factor, "rope: high_freq_factor is ", config.high_freq_factor,
          ", expected more than low_freq_factor, ", config.low_freq_factor);
  require(config.original_context > 0, "rope: original_context is ", config.original_context, ", expected a number > 0");
}

double llama3_frequency(const RopeConfig& config, double frequency) {
  const double wavelengths = static_cast<double>(config.original_context) * frequency / (2 * std::numbers::pi);  // in the original context
  if (wavelengths > config.high_freq_factor) return frequency;
  if (wavelengths < config.low_freq_factor) return frequency / config.factor;
  const double s = (wavelengths - config.low_freq_factor) / (config.high_freq_factor - config.low_freq_factor);
  return (1 - s) * frequency / config.factor + s * frequency;
}

double scaled(const RopeConfig& config, double frequency) {
  switch (config.scaling) {
    case RopeScaling::kLinear: return frequency / config.factor;
    case RopeScaling::kLlama3: return llama3_frequency(config, frequency);
    case RopeScaling::kNone: break;
  }
  return frequency;
}

// Rows `index` of a table.
Tensor gather_rows(const Tensor& table, const int32_t* index, const Shape& positions) {
  const int64_t half = table.dim(1);
  const Shape shape = positions.rank() == 1 ? Shape{positions[0], half} : Shape{positions[0], positions[1], half};
  Tensor rows = Tensor::empty(shape, DType::kF32);
  const int64_t count = element_count(positions);
  for (int64_t i = 0; i < count; ++i) std::copy_n(table.data<float>() + index[i] * half, half, rows.data<float>() + i * half);
  return rows;
}

}  // namespace

std::vector<double> rope_frequencies(const RopeConfig& config) {
  check(config);
  const Tensor factors = config.frequency_factors.defined() ? config.frequency_factors.contiguous() : Tensor();
  std::vector<double> frequencies(static_cast<size_t>(config.rotary_dim / 2));
  for (size_t i = 0; i < frequencies.size(); ++i) {
    double frequency = std::pow(config.theta, -2.0 * static_cast<double>(i) / static_cast<double>(config.rotary_dim));
    if (factors.defined()) {
      const double factor = factors.data<float>()[i];
      require_positive(factor, "an element of frequency_factors");
      frequency /= factor;
    }
    frequencies[i] = scaled(config, frequency);
  }
  return frequencies;
}

RopeTable::RopeTable(const RopeConfig& config)
    : frequencies_(rope_frequencies(config)),
      max_positions_(config.max_positions),
      cos_(Tensor::empty({0, half()}, DType::kF32)),
      sin_(Tensor::empty({0, half()}, DType::kF32)) {}

void RopeTable::ensure(Context& ctx, int64_t positions) {
  require(positions >= 0, "rope: ", positions, " positions, expected 0 or more");
  if (positions <= positions_) return;
  if (positions > max_positions_) {
    fail(ErrorCode::kLimitExceeded, "rope: position ", positions - 1, " is past the context of ", max_positions_, " positions");
  }
  const int64_t rows = std::min(max_positions_, round_up(std::max(positions, positions_ + positions_ / 2), kChunk));
  const int64_t columns = half();
  Tensor cos = Tensor::empty({rows, columns}, DType::kF32);
  Tensor sin = Tensor::empty({rows, columns}, DType::kF32);
  if (positions_ > 0) {
    std::memcpy(cos.raw(), cos_.raw(), cos_.bytes());
    std::memcpy(sin.raw(), sin_.raw(), sin_.bytes());
  }
  const int64_t built = positions_;
  ctx.pool().parallel_for(rows - built, 32, [&](int64_t begin, int64_t end, int) {
    for (int64_t position = built + begin; position < built + end; ++position) {
      for (int64_t i = 0; i < columns; ++i) {
        const double angle = static_cast<double>(position) * frequencies_[static_cast<size_t>(i)];
        cos.data<float>()[position * columns + i] = static_cast<float>(std::cos(angle));
        sin.data<float>()[position * columns + i] = static_cast<float>(std::sin(angle));
      }
    }
  });
  cos_ = std::move(cos);
  sin_ = std::move(sin);
  positions_ = rows;
}

std::pair<Tensor, Tensor> Rotary::rotate(Context& ctx, const Tensor& q, const Tensor& k, const Tensor& cos, const Tensor& sin) const {
  const auto rope = [&](const Tensor& x) { return interleaved_ ? ops::rope_i(ctx, x, cos, sin) : ops::rope(ctx, x, cos, sin); };
  return {rope(q), rope(k)};
}

std::pair<Tensor, Tensor> Rotary::forward(Context& ctx, const Tensor& q, const Tensor& k, int64_t position) {
  require(q.rank() == 4 && k.rank() == 4, "rotary: q has rank ", q.rank(), " and k ", k.rank(), ", expected 4");
  require(q.dim(2) == k.dim(2), "rotary: q has ", q.dim(2), " positions and k ", k.dim(2));
  require(position >= 0, "rotary: position is ", position, ", expected 0 or more");
  const int64_t end = add_or_fail(position, q.dim(2), "rotary: position");
  table_.ensure(ctx, end);
  return rotate(ctx, q, k, table_.cos().slice(0, position, end), table_.sin().slice(0, position, end));
}

std::pair<Tensor, Tensor> Rotary::forward(Context& ctx, const Tensor& q, const Tensor& k, const Tensor& positions) {
  require(positions.defined() && positions.dtype() == DType::kI32 && (positions.rank() == 1 || positions.rank() == 2) &&
              positions.device().is_cpu(),
          "rotary: positions are ", dtype_name(positions.dtype()), " ", positions.shape().to_string(), ", expected i32 [T] or [B, T]");
  require(q.rank() == 4 && k.rank() == 4, "rotary: q has rank ", q.rank(), " and k ", k.rank(), ", expected 4");
  require(positions.dim(-1) == q.dim(2) && positions.dim(-1) == k.dim(2), "rotary: ", positions.dim(-1), " positions for q of ", q.dim(2),
          " and k of ", k.dim(2), " rows");
  const Tensor flat = positions.contiguous();
  const int32_t* index = flat.data<int32_t>();
  int64_t needed = 0;
  for (int64_t i = 0; i < flat.elements(); ++i) {
    require(index[i] >= 0, "rotary: position ", index[i], ", expected 0 or more");
    needed = std::max<int64_t>(needed, int64_t{index[i]} + 1);
  }
  table_.ensure(ctx, needed);
  return rotate(ctx, q, k, gather_rows(table_.cos(), index, flat.shape()), gather_rows(table_.sin(), index, flat.shape()));
}

}  // namespace wick::nn
