#include "wick/nn/rotary.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numbers>

#include "wick/base/checked.h"
#include "wick/base/error.h"
#include "wick/ops/embedding.h"
#include "wick/ops/rope.h"

namespace wick::nn {
namespace {

void require_positive(double value, const char* name) {
  require(value > 0 && std::isfinite(value), "rope: ", name, " is ", value, ", expected a finite number > 0");
}

void check_factors(const RopeConfig& config, const Tensor& factors, const char* name) {
  require(factors.defined(), "rope: ", name, " are missing");
  require(factors.device().is_cpu() && factors.dtype() == DType::kF32 && factors.shape() == Shape({config.rotary_dim / 2}), "rope: ", name,
          " are ", dtype_name(factors.dtype()), " ", factors.shape(), ", expected f32 [", config.rotary_dim / 2, "]");
  const Tensor plain = factors.contiguous();
  for (int64_t i = 0; i < plain.elements(); ++i) require_positive(plain.data<float>()[i], concat("an element of ", name).c_str());
}

void check_scaling(const RopeConfig& config) {
  if (config.scaling == RopeScaling::kNone) return;
  require_positive(config.factor, "factor");
  if (config.scaling == RopeScaling::kLinear) return;
  require(config.original_context > 0, "rope: original_context is ", config.original_context, ", expected a number > 0");
  require(config.length >= 0, "rope: length is ", config.length, ", expected 0 or more");
  require(config.attention_factor >= 0 && std::isfinite(config.attention_factor), "rope: attention_factor is ", config.attention_factor,
          ", expected a finite number >= 0");
  switch (config.scaling) {
    case RopeScaling::kLlama3:
      require_positive(config.low_freq_factor, "low_freq_factor");
      require_positive(config.high_freq_factor, "high_freq_factor");
      require(config.high_freq_factor > config.low_freq_factor, "rope: high_freq_factor is ", config.high_freq_factor,
              ", expected more than low_freq_factor, ", config.low_freq_factor);
      break;
    case RopeScaling::kDynamic:
      require(config.factor >= 1, "rope: factor is ", config.factor, ", expected at least 1");
      require(config.rotary_dim > 2, "rope: rotary_dim is ", config.rotary_dim, ", expected more than 2");
      break;
    case RopeScaling::kYarn:
      require_positive(config.beta_fast, "beta_fast");
      require_positive(config.beta_slow, "beta_slow");
      require(config.theta > 1, "rope: theta is ", config.theta, ", expected more than 1");
      break;
    case RopeScaling::kLongRope:
      check_factors(config, config.short_factors, "short_factors");
      check_factors(config, config.long_factors, "long_factors");
      require(config.original_context > 1, "rope: original_context is 1, expected more");
      break;
    default: break;
  }
}

void check(const RopeConfig& config) {
  constexpr int64_t kMaxRotaryDim = int64_t{1} << 20;  // far above any head, small enough that no size below can wrap
  constexpr int64_t kMaxPositions = int64_t{1} << 40;
  require_positive(config.theta, "theta");
  require(config.rotary_dim > 0 && config.rotary_dim % 2 == 0 && config.rotary_dim <= kMaxRotaryDim, "rope: rotary_dim is ",
          config.rotary_dim, ", expected an even number from 2 to ", kMaxRotaryDim);
  require(config.max_positions > 0 && config.max_positions <= kMaxPositions, "rope: max_positions is ", config.max_positions,
          ", expected 1 to ", kMaxPositions);
  if (config.frequency_factors.defined()) check_factors(config, config.frequency_factors, "frequency_factors");
  check_scaling(config);
}

int64_t length_of(const RopeConfig& config) { return config.length > 0 ? config.length : config.max_positions; }

double llama3_frequency(const RopeConfig& config, double frequency) {
  const double wavelengths = static_cast<double>(config.original_context) * frequency / (2 * std::numbers::pi);  // in the original context
  if (wavelengths > config.high_freq_factor) return frequency;
  if (wavelengths < config.low_freq_factor) return frequency / config.factor;
  const double s = (wavelengths - config.low_freq_factor) / (config.high_freq_factor - config.low_freq_factor);
  return (1 - s) * frequency / config.factor + s * frequency;
}

// Which frequencies YaRN keeps: 1 for those that turn beta_fast times or more within the original context, 0 for beta_slow or less.
class YarnRamp {
 public:
  explicit YarnRamp(const RopeConfig& config) {
    const double last = static_cast<double>(config.rotary_dim - 1);
    low_ = std::max(0.0, std::floor(index_of(config, config.beta_fast)));
    high_ = std::min(last, std::ceil(index_of(config, config.beta_slow)));
    if (low_ == high_) high_ += 0.001;
  }
  double kept(size_t i) const { return 1 - std::clamp((static_cast<double>(i) - low_) / (high_ - low_), 0.0, 1.0); }

 private:
  // The index of the frequency that makes `turns` turns within the original context.
  static double index_of(const RopeConfig& config, double turns) {
    const double wavelength = static_cast<double>(config.original_context) / (turns * 2 * std::numbers::pi);
    return static_cast<double>(config.rotary_dim) * std::log(wavelength) / (2 * std::log(config.theta));
  }
  double low_, high_;
};

double theta_of(const RopeConfig& config) {
  if (config.scaling != RopeScaling::kDynamic) return config.theta;
  const double original = static_cast<double>(config.original_context);
  const double length = std::max(original, static_cast<double>(length_of(config)));
  const double r = static_cast<double>(config.rotary_dim);
  return config.theta * std::pow(config.factor * length / original - (config.factor - 1), r / (r - 2));
}

double scaled(const RopeConfig& config, size_t i, double frequency) {
  switch (config.scaling) {
    case RopeScaling::kLinear: return frequency / config.factor;
    case RopeScaling::kLlama3: return llama3_frequency(config, frequency);
    case RopeScaling::kYarn: {
      const double kept = YarnRamp(config).kept(i);
      return frequency / config.factor * (1 - kept) + frequency * kept;
    }
    case RopeScaling::kLongRope: {
      const Tensor factors = (length_of(config) > config.original_context ? config.long_factors : config.short_factors).contiguous();
      return frequency / factors.data<float>()[i];
    }
    default: return frequency;
  }
}

}  // namespace

std::vector<double> rope_frequencies(const RopeConfig& config) {
  check(config);
  const Tensor factors = config.frequency_factors.defined() ? config.frequency_factors.contiguous() : Tensor();
  const double theta = theta_of(config);
  std::vector<double> frequencies(static_cast<size_t>(config.rotary_dim / 2));
  for (size_t i = 0; i < frequencies.size(); ++i) {
    double frequency = std::pow(theta, -2.0 * static_cast<double>(i) / static_cast<double>(config.rotary_dim));
    if (factors.defined()) frequency /= factors.data<float>()[i];
    frequencies[i] = scaled(config, i, frequency);
  }
  return frequencies;
}

double rope_magnitude(const RopeConfig& config) {
  check(config);
  const bool yarn = config.scaling == RopeScaling::kYarn;
  if (!yarn && config.scaling != RopeScaling::kLongRope) return 1;
  if (config.attention_factor > 0) return config.attention_factor;
  if (config.factor <= 1) return 1;
  if (yarn) return 0.1 * std::log(config.factor) + 1;
  return std::sqrt(1 + std::log(config.factor) / std::log(static_cast<double>(config.original_context)));
}

RopeTable::RopeTable(const RopeConfig& config)
    : frequencies_(rope_frequencies(config)),
      magnitude_(rope_magnitude(config)),
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
  const int64_t built = cos_.device().is_cpu() ? positions_ : 0;
  if (built > 0) {
    std::memcpy(cos.raw(), cos_.raw(), cos_.bytes());
    std::memcpy(sin.raw(), sin_.raw(), sin_.bytes());
  }
  ctx.pool().parallel_for(rows - built, 32, [&](int64_t begin, int64_t end, int) {
    for (int64_t position = built + begin; position < built + end; ++position) {
      for (int64_t i = 0; i < columns; ++i) {
        const double angle = static_cast<double>(position) * frequencies_[static_cast<size_t>(i)];
        cos.data<float>()[position * columns + i] = static_cast<float>(magnitude_ * std::cos(angle));
        sin.data<float>()[position * columns + i] = static_cast<float>(magnitude_ * std::sin(angle));
      }
    }
  });
  cos = cos.to(ctx.device());
  sin_ = sin.to(ctx.device());
  cos_ = std::move(cos);
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
  const Tensor rows = flat.to(ctx.device());
  return rotate(ctx, q, k, ops::embedding(ctx, rows, table_.cos()), ops::embedding(ctx, rows, table_.sin()));
}

}  // namespace wick::nn
