#include "wick/kernels/block_format.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>

#include "wick/base/error.h"
#include "wick/kernels/block_layout.h"
#include "wick/kernels/block_search.h"
#include "wick/tensor/half.h"

namespace wick {
namespace {

constexpr int kSmallBlock = kQuantBlock;
constexpr int kSubBlocks = kBlocksPerSuper;  // of Q4_K and Q5_K
constexpr int kSubBlock = kQuantBlock;
constexpr int kBlock = kSubBlocks * kSubBlock;
constexpr int kQ6SubBlocks = 16;
constexpr int kQ6SubBlock = 16;
constexpr int kMostScale6 = 63;  // 6 bits without a sign
constexpr int kMostScale8 = 127;

// The values of a block times the power of two that puts the largest magnitude into [1/2, 1): nothing overflows or gets lost in the sums.
template <int N>
struct Scaled {
  float x[N];
  int exponent = 0;

  explicit Scaled(const float* values) {
    uint32_t largest = 0;
    for (int i = 0; i < N; ++i) largest = std::max(largest, std::bit_cast<uint32_t>(values[i]) & 0x7fffffffu);
    if (std::bit_cast<float>(largest) < 0x1p-25f) {  // half of the smallest step that any f16 scale can make
      std::fill_n(x, N, 0.0f);
      return;
    }
    std::frexp(std::bit_cast<float>(largest), &exponent);
    const float half = std::ldexp(1.0f, -exponent / 2), rest = std::ldexp(1.0f, -exponent - -exponent / 2);
    for (int i = 0; i < N; ++i) x[i] = values[i] * half * rest;
  }

  // `scale`, of the scaled values, as the f16 that is stored: never infinite, and not zero unless `scale` is. It becomes what is stored.
  uint16_t store(float& scale) const { return store(scale, f32_to_f16(std::ldexp(scale, exponent))); }
  // The same, but not smaller in magnitude. Below 2^-14 f16 is coarse: a scale rounded down there would clip what it is for.
  uint16_t store_at_least(float& scale) const {
    const float wanted = std::ldexp(scale, exponent);
    const uint16_t nearest = f32_to_f16(wanted);
    return store(scale, static_cast<uint16_t>(nearest + (std::fabs(f16_to_f32(nearest)) < std::fabs(wanted) ? 1 : 0)));
  }

 private:
  uint16_t store(float& scale, uint16_t bits) const {
    constexpr uint16_t kLargest = 0x7bff, kSmallest = 0x0001;
    const auto magnitude = static_cast<uint16_t>(bits & 0x7fffu);
    const auto stored = static_cast<uint16_t>((bits & 0x8000u) | (scale == 0 ? 0 : std::clamp(magnitude, kSmallest, kLargest)));
    scale = std::ldexp(f16_to_f32(stored), -exponent);
    return stored;
  }
};

// The codes that a format has: integers from 0 on less the offset.
CodeRange code_range(const BlockFormat& format) {
  const auto lowest = static_cast<float>(-format.offset);
  return {lowest, lowest + static_cast<float>((16 << format.high_bits) - 1)};
}

template <int N>
void store_codes(const BlockFormat& format, const float* codes, std::byte* block) {
  uint8_t q[N];
  for (int i = 0; i < N; ++i) q[i] = static_cast<uint8_t>(static_cast<int>(codes[i]) + format.offset);
  write_integers(format, q, block);
}

void encode_small(const BlockFormat& format, const float* values, std::byte* block) {
  const CodeRange range = code_range(format);
  const Scaled<kSmallBlock> in(values);
  BlockScale fit;
  if (format.has_min()) {
    fit = fit_line<kSmallBlock>(in.x, range.highest, /*subtract_only=*/false);
    store_as(static_cast<uint16_t>(in.store(fit.minimum) ^ 0x8000u), block + format.d_at + 2);
  } else {
    fit.scale = fit_scale<kSmallBlock>(in.x, range);
  }
  BlockScale nearest = fit, larger = fit;
  const uint16_t nearest_bits = in.store(nearest.scale), larger_bits = in.store_at_least(larger.scale);
  float q[kSmallBlock], q_larger[kSmallBlock];
  const bool take_larger = nearest_codes<kSmallBlock>(in.x, larger, range, q_larger) < nearest_codes<kSmallBlock>(in.x, nearest, range, q);
  store_as(take_larger ? larger_bits : nearest_bits, block + format.d_at);
  store_codes<kSmallBlock>(format, take_larger ? q_larger : q, block);
}

void encode_q8_0(const BlockFormat& format, const float* values, std::byte* block) {
  const Scaled<kSmallBlock> in(values);
  float largest = 0;
  for (const float x : in.x) largest = std::max(largest, std::fabs(x));
  BlockScale fit{largest / kMostScale8, 0};
  store_as(in.store_at_least(fit.scale), block + format.d_at);
  float q[kSmallBlock];
  nearest_codes<kSmallBlock>(in.x, fit, {-kMostScale8, kMostScale8}, q);
  store_codes<kSmallBlock>(format, q, block);
}

// The integer nearest to value / unit in [0, most].
int multiple(float value, float unit, int most) {
  return unit == 0 ? 0 : static_cast<int>(std::nearbyint(std::clamp(value / unit, 0.0f, static_cast<float>(most))));
}

// A block of Q4_K or Q5_K while it is searched for: what is stored, and the codes and error that follow.
struct KChoice {
  float d = 0, dmin = 0;
  uint16_t d_bits = 0, dmin_bits = 0;
  SixBits scales{};
  float q[kBlock];
  float error = INFINITY;

  BlockScale sub_block(size_t s) const {
    return {d * static_cast<float>(scales.scale[s]), dmin * static_cast<float>(scales.minimum[s])};
  }
};

// Takes d and dmin as given and finds the best integer scale and minimum of each sub-block near the wanted ones.
KChoice choose_k(const Scaled<kBlock>& in, float highest, float d, float dmin, const std::array<BlockScale, kSubBlocks>& wanted) {
  KChoice choice;
  choice.d = d;
  choice.dmin = dmin;
  choice.d_bits = in.store_at_least(choice.d);
  choice.dmin_bits = in.store_at_least(choice.dmin);
  choice.error = 0;
  for (size_t s = 0; s < kSubBlocks; ++s) {
    const float* x = in.x + s * kSubBlock;
    float* q = choice.q + s * kSubBlock;
    const int scale = multiple(wanted[s].scale, choice.d, kMostScale6), minimum = multiple(wanted[s].minimum, choice.dmin, kMostScale6);
    float best_error = INFINITY, tried[kSubBlock];
    SixBits trial = choice.scales;
    for (int a = std::max(0, scale - 1); a <= std::min(kMostScale6, scale + 1); ++a) {
      for (int b = std::max(0, minimum - 1); b <= std::min(kMostScale6, minimum + 1); ++b) {
        trial.scale[s] = static_cast<uint8_t>(a);
        trial.minimum[s] = static_cast<uint8_t>(b);
        const BlockScale block{choice.d * static_cast<float>(a), choice.dmin * static_cast<float>(b)};
        const float error = nearest_codes<kSubBlock>(x, block, {0, highest}, tried);
        if (!(error < best_error)) continue;
        best_error = error;
        choice.scales = trial;
        std::copy_n(tried, kSubBlock, q);
      }
    }
    choice.error += best_error;
  }
  return choice;
}

// The d and dmin with the smallest squared error for the integers of `choice`: w = d * (sc q) - dmin * mn, two unknowns over the whole block.
std::array<float, 2> refit_k(const Scaled<kBlock>& in, const KChoice& choice) {
  double aa = 0, ab = 0, bb = 0, ax = 0, bx = 0;
  for (size_t i = 0; i < kBlock; ++i) {
    const size_t s = i / kSubBlock;
    const double a = choice.scales.scale[s] * choice.q[i], b = -static_cast<double>(choice.scales.minimum[s]), x = in.x[i];
    aa += a * a, ab += a * b, bb += b * b, ax += a * x, bx += b * x;
  }
  const double determinant = aa * bb - ab * ab;
  if (determinant <= 1e-9 * aa * bb) return {choice.d, choice.dmin};
  return {static_cast<float>(std::max(0.0, (ax * bb - bx * ab) / determinant)),
          static_cast<float>(std::max(0.0, (bx * aa - ax * ab) / determinant))};
}

void encode_k(const BlockFormat& format, const float* values, std::byte* block) {
  const float highest = code_range(format).highest;
  const Scaled<kBlock> in(values);
  std::array<BlockScale, kSubBlocks> fits;
  float largest_scale = 0, largest_minimum = 0;
  for (size_t s = 0; s < kSubBlocks; ++s) {
    fits[s] = fit_line<kSubBlock>(in.x + s * kSubBlock, highest, /*subtract_only=*/true);
    largest_scale = std::max(largest_scale, fits[s].scale);
    largest_minimum = std::max(largest_minimum, fits[s].minimum);
  }
  KChoice best = choose_k(in, highest, largest_scale / kMostScale6, largest_minimum / kMostScale6, fits);
  for (size_t s = 0; s < kSubBlocks; ++s) fits[s] = best.sub_block(s);
  const auto [d, dmin] = refit_k(in, best);
  const KChoice refitted = choose_k(in, highest, d, dmin, fits);
  if (refitted.error < best.error) best = refitted;

  store_as(best.d_bits, block + format.d_at);
  store_as(best.dmin_bits, block + format.d_at + 2);
  write_six_bits(best.scales, block + format.scales_at);
  store_codes<kBlock>(format, best.q, block);
}

struct Q6Choice {
  float d = 0;
  uint16_t d_bits = 0;
  std::array<int, kQ6SubBlocks> scales{};
  float q[kBlock];
  float error = INFINITY;
};

Q6Choice choose_q6(const Scaled<kBlock>& in, CodeRange range, float d, const std::array<float, kQ6SubBlocks>& wanted) {
  Q6Choice choice;
  choice.d = d;
  choice.d_bits = in.store_at_least(choice.d);
  choice.error = 0;
  for (size_t s = 0; s < kQ6SubBlocks; ++s) {
    const int magnitude = multiple(std::fabs(wanted[s]), choice.d, kMostScale8), sign = wanted[s] < 0 ? -1 : 1;
    float best_error = INFINITY, tried[kQ6SubBlock];
    for (int a = std::max(0, magnitude - 1); a <= std::min(kMostScale8, magnitude + 1); ++a) {
      const float error = nearest_codes<kQ6SubBlock>(in.x + s * kQ6SubBlock, {choice.d * static_cast<float>(sign * a), 0}, range, tried);
      if (!(error < best_error)) continue;
      best_error = error;
      choice.scales[s] = sign * a;
      std::copy_n(tried, kQ6SubBlock, choice.q + s * kQ6SubBlock);
    }
    choice.error += best_error;
  }
  return choice;
}

void encode_q6_k(const BlockFormat& format, const float* values, std::byte* block) {
  const CodeRange range = code_range(format);
  const Scaled<kBlock> in(values);
  std::array<float, kQ6SubBlocks> fits;
  float largest = 0;
  for (size_t s = 0; s < kQ6SubBlocks; ++s) {
    fits[s] = fit_scale<kQ6SubBlock>(in.x + s * kQ6SubBlock, range);
    largest = std::max(largest, std::fabs(fits[s]));
  }
  Q6Choice best = choose_q6(in, range, largest / kMostScale8, fits);
  double ax = 0, aa = 0;
  for (size_t i = 0; i < kBlock; ++i) {
    const double a = static_cast<float>(best.scales[i / kQ6SubBlock]) * best.q[i];
    ax += a * in.x[i];
    aa += a * a;
  }
  if (aa > 0 && ax > 0) {
    const Q6Choice refitted = choose_q6(in, range, static_cast<float>(ax / aa), fits);
    if (refitted.error < best.error) best = refitted;
  }
  store_as(best.d_bits, block + format.d_at);
  for (size_t s = 0; s < kQ6SubBlocks; ++s) store_as(static_cast<int8_t>(best.scales[s]), block + format.scales_at + s);
  store_codes<kBlock>(format, best.q, block);
}

void encode_block(const BlockFormat& format, const float* values, std::byte* block) {
  switch (format.scales) {
    case ScaleKind::kSuper: return encode_k(format, values, block);
    case ScaleKind::kSuper16: return encode_q6_k(format, values, block);
    default: return format.whole_bytes() ? encode_q8_0(format, values, block) : encode_small(format, values, block);
  }
}

void check_finite(DType type, const float* x, int64_t elements) {
  for (int64_t i = 0; i < elements; ++i) {
    require(std::isfinite(x[i]), "encode: element ", i, " is ", x[i], ", which ", dtype_name(type), " cannot hold");
  }
}

}  // namespace

void encode_blocks(DType type, const float* x, int64_t elements, std::byte* out) {
  switch (type) {
    case DType::kF32: std::memcpy(out, x, static_cast<size_t>(elements) * sizeof(float)); return;
    case DType::kF16:
      for (int64_t i = 0; i < elements; ++i) store_as(f32_to_f16(x[i]), out + 2 * i);
      return;
    case DType::kBF16:
      for (int64_t i = 0; i < elements; ++i) store_as(f32_to_bf16(x[i]), out + 2 * i);
      return;
    default: break;
  }
  const BlockFormat* format = block_format(type);
  if (!format) fail(ErrorCode::kUnsupported, "weights of type ", dtype_name(type), " cannot be written");
  check_finite(type, x, elements);
  dtype_bytes(type, static_cast<uint64_t>(elements));  // whole blocks
  for (int64_t b = 0; b < elements / traits(type).block; ++b) encode_block(*format, x + b * traits(type).block, out + b * format->bytes());
}

}  // namespace wick
