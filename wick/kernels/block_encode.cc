#include "wick/kernels/block_format.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>

#include "wick/base/error.h"
#include "wick/kernels/block_search.h"
#include "wick/tensor/half.h"

namespace wick {
namespace {

constexpr int kSmallBlock = 32;
constexpr int kBlock = 256;
constexpr int kSubBlocks = 8;         // of Q4_K and Q5_K
constexpr int kSubBlock = 32;
constexpr int kQ6SubBlocks = 16;
constexpr int kQ6SubBlock = 16;
constexpr int kMostScale6 = 63;       // 6 bits without a sign
constexpr int kMostScale8 = 127;

void store_u16(std::byte* p, uint16_t value) { std::memcpy(p, &value, sizeof value); }

// ---- Layouts: codes, numbers from 0 on, into the bytes of a block ----

// Q4_0, Q4_1, Q5_0, Q5_1: f16 d, then the other parts where the type has them.
struct SmallLayout {
  bool minimum;
  bool fifth_bit;

  int high_bits() const { return minimum ? 4 : 2; }  // where qh would be
  int codes() const { return high_bits() + (fifth_bit ? 4 : 0); }
  CodeRange range() const {
    const float half = fifth_bit ? 16 : 8;
    return minimum ? CodeRange{0, 2 * half - 1} : CodeRange{-half, half - 1};
  }
};

SmallLayout small_layout(DType type) {
  return {type == DType::kQ4_1 || type == DType::kQ5_1, type == DType::kQ5_0 || type == DType::kQ5_1};
}

void write_codes(SmallLayout layout, const uint8_t* q, std::byte* block) {
  uint32_t high = 0;
  for (int j = 0; j < kSmallBlock; ++j) high |= static_cast<uint32_t>(q[j] >> 4) << j;
  if (layout.fifth_bit) std::memcpy(block + layout.high_bits(), &high, sizeof high);
  std::byte* qs = block + layout.codes();
  for (int j = 0; j < kSmallBlock / 2; ++j) qs[j] = static_cast<std::byte>((q[j] & 15) | (q[j + kSmallBlock / 2] & 15) << 4);
}

// Q4_K and Q5_K.
struct KLayout {
  static constexpr int kScales = 4;  // after d and dmin
  static constexpr int kScaleBytes = 12;
  bool fifth_bit;

  static constexpr int high_bits() { return kScales + kScaleBytes; }
  int codes() const { return high_bits() + (fifth_bit ? kSubBlock : 0); }
  float highest() const { return fifth_bit ? 31 : 15; }
};

KLayout k_layout(DType type) { return {type == DType::kQ5_K}; }

void write_codes(KLayout layout, const uint8_t* q, std::byte* block) {
  std::byte* qs = block + layout.codes();
  for (int s = 0; s < kSubBlocks; s += 2) {
    for (int j = 0; j < kSubBlock; ++j) {
      qs[s / 2 * kSubBlock + j] = static_cast<std::byte>((q[s * kSubBlock + j] & 15) | (q[(s + 1) * kSubBlock + j] & 15) << 4);
    }
  }
  if (!layout.fifth_bit) return;
  for (int j = 0; j < kSubBlock; ++j) {
    int bits = 0;
    for (int s = 0; s < kSubBlocks; ++s) bits |= (q[s * kSubBlock + j] >> 4) << s;
    block[layout.high_bits() + j] = static_cast<std::byte>(bits);
  }
}

struct Scales6 {
  std::array<uint8_t, kSubBlocks> scale, minimum;
};

void write_scales(const Scales6& scales, std::byte* p) {
  for (size_t s = 0; s < 4; ++s) {
    p[s] = static_cast<std::byte>(scales.scale[s] | (scales.scale[s + 4] >> 4) << 6);
    p[s + 4] = static_cast<std::byte>(scales.minimum[s] | (scales.minimum[s + 4] >> 4) << 6);
    p[s + 8] = static_cast<std::byte>((scales.scale[s + 4] & 15) | (scales.minimum[s + 4] & 15) << 4);
  }
}

// Q6_K
constexpr int kQ6High = 128, kQ6Scales = 192, kQ6D = 208;

void write_q6_codes(const uint8_t* q, std::byte* block) {
  for (int half = 0; half < 2; ++half) {
    const uint8_t* codes = q + half * 128;
    for (int j = 0; j < 64; ++j) block[half * 64 + j] = static_cast<std::byte>((codes[j] & 15) | (codes[j + 64] & 15) << 4);
    for (int j = 0; j < 32; ++j) {
      block[kQ6High + half * 32 + j] =
          static_cast<std::byte>(codes[j] >> 4 | codes[j + 32] >> 4 << 2 | codes[j + 64] >> 4 << 4 | codes[j + 96] >> 4 << 6);
    }
  }
}

// ---- Encoding ----

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

template <int N>
void to_bytes(const float* q, float lowest, uint8_t* codes) {
  for (int i = 0; i < N; ++i) codes[i] = static_cast<uint8_t>(static_cast<int>(q[i] - lowest));
}

void encode_small(DType type, const float* values, std::byte* block) {
  const SmallLayout layout = small_layout(type);
  const CodeRange range = layout.range();
  const Scaled<kSmallBlock> in(values);
  BlockScale fit;
  if (layout.minimum) {
    fit = fit_line<kSmallBlock>(in.x, range.highest, /*subtract_only=*/false);
    store_u16(block + 2, static_cast<uint16_t>(in.store(fit.minimum) ^ 0x8000u));
  } else {
    fit.scale = fit_scale<kSmallBlock>(in.x, range);
  }
  BlockScale nearest = fit, larger = fit;
  const uint16_t nearest_bits = in.store(nearest.scale), larger_bits = in.store_at_least(larger.scale);
  float q[kSmallBlock], q_larger[kSmallBlock];
  const bool take_larger = nearest_codes<kSmallBlock>(in.x, larger, range, q_larger) < nearest_codes<kSmallBlock>(in.x, nearest, range, q);
  store_u16(block, take_larger ? larger_bits : nearest_bits);
  uint8_t codes[kSmallBlock];
  to_bytes<kSmallBlock>(take_larger ? q_larger : q, range.lowest, codes);
  write_codes(layout, codes, block);
}

void encode_q8_0(const float* values, std::byte* block) {
  const Scaled<kSmallBlock> in(values);
  float largest = 0;
  for (const float x : in.x) largest = std::max(largest, std::fabs(x));
  BlockScale fit{largest / kMostScale8, 0};
  store_u16(block, in.store_at_least(fit.scale));
  float q[kSmallBlock];
  nearest_codes<kSmallBlock>(in.x, fit, {-kMostScale8, kMostScale8}, q);
  for (int i = 0; i < kSmallBlock; ++i) block[2 + i] = static_cast<std::byte>(static_cast<int8_t>(q[i]));
}

// The integer nearest to value / unit in [0, most].
int multiple(float value, float unit, int most) {
  return unit == 0 ? 0 : static_cast<int>(std::nearbyint(std::clamp(value / unit, 0.0f, static_cast<float>(most))));
}

// A block of Q4_K or Q5_K while it is searched for: what is stored, and the codes and error that follow.
struct KChoice {
  float d = 0, dmin = 0;
  uint16_t d_bits = 0, dmin_bits = 0;
  Scales6 scales{};
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
    Scales6 trial = choice.scales;
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

void encode_k(DType type, const float* values, std::byte* block) {
  const KLayout layout = k_layout(type);
  const Scaled<kBlock> in(values);
  std::array<BlockScale, kSubBlocks> fits;
  float largest_scale = 0, largest_minimum = 0;
  for (size_t s = 0; s < kSubBlocks; ++s) {
    fits[s] = fit_line<kSubBlock>(in.x + s * kSubBlock, layout.highest(), /*subtract_only=*/true);
    largest_scale = std::max(largest_scale, fits[s].scale);
    largest_minimum = std::max(largest_minimum, fits[s].minimum);
  }
  KChoice best = choose_k(in, layout.highest(), largest_scale / kMostScale6, largest_minimum / kMostScale6, fits);
  for (size_t s = 0; s < kSubBlocks; ++s) fits[s] = best.sub_block(s);
  const auto [d, dmin] = refit_k(in, best);
  const KChoice refitted = choose_k(in, layout.highest(), d, dmin, fits);
  if (refitted.error < best.error) best = refitted;

  store_u16(block, best.d_bits);
  store_u16(block + 2, best.dmin_bits);
  write_scales(best.scales, block + KLayout::kScales);
  uint8_t codes[kBlock];
  to_bytes<kBlock>(best.q, 0, codes);
  write_codes(layout, codes, block);
}

struct Q6Choice {
  float d = 0;
  uint16_t d_bits = 0;
  std::array<int, kQ6SubBlocks> scales{};
  float q[kBlock];
  float error = INFINITY;
};

constexpr CodeRange kQ6Range = {-32, 31};

Q6Choice choose_q6(const Scaled<kBlock>& in, float d, const std::array<float, kQ6SubBlocks>& wanted) {
  Q6Choice choice;
  choice.d = d;
  choice.d_bits = in.store_at_least(choice.d);
  choice.error = 0;
  for (size_t s = 0; s < kQ6SubBlocks; ++s) {
    const int magnitude = multiple(std::fabs(wanted[s]), choice.d, kMostScale8), sign = wanted[s] < 0 ? -1 : 1;
    float best_error = INFINITY, tried[kQ6SubBlock];
    for (int a = std::max(0, magnitude - 1); a <= std::min(kMostScale8, magnitude + 1); ++a) {
      const float error = nearest_codes<kQ6SubBlock>(in.x + s * kQ6SubBlock, {choice.d * static_cast<float>(sign * a), 0}, kQ6Range, tried);
      if (!(error < best_error)) continue;
      best_error = error;
      choice.scales[s] = sign * a;
      std::copy_n(tried, kQ6SubBlock, choice.q + s * kQ6SubBlock);
    }
    choice.error += best_error;
  }
  return choice;
}

void encode_q6_k(const float* values, std::byte* block) {
  const Scaled<kBlock> in(values);
  std::array<float, kQ6SubBlocks> fits;
  float largest = 0;
  for (size_t s = 0; s < kQ6SubBlocks; ++s) {
    fits[s] = fit_scale<kQ6SubBlock>(in.x + s * kQ6SubBlock, kQ6Range);
    largest = std::max(largest, std::fabs(fits[s]));
  }
  Q6Choice best = choose_q6(in, largest / kMostScale8, fits);
  double ax = 0, aa = 0;
  for (size_t i = 0; i < kBlock; ++i) {
    const double a = static_cast<float>(best.scales[i / kQ6SubBlock]) * best.q[i];
    ax += a * in.x[i];
    aa += a * a;
  }
  if (aa > 0 && ax > 0) {
    const Q6Choice refitted = choose_q6(in, static_cast<float>(ax / aa), fits);
    if (refitted.error < best.error) best = refitted;
  }
  store_u16(block + kQ6D, best.d_bits);
  for (size_t s = 0; s < kQ6SubBlocks; ++s) block[kQ6Scales + s] = static_cast<std::byte>(static_cast<int8_t>(best.scales[s]));
  uint8_t codes[kBlock];
  to_bytes<kBlock>(best.q, kQ6Range.lowest, codes);
  write_q6_codes(codes, block);
}

// Calls block(element, byte) at the first of each.
template <class Block>
void for_each_block(DType type, int64_t elements, Block&& block) {
  const DTypeTraits& row = traits(type);
  dtype_bytes(type, static_cast<uint64_t>(elements));  // whole blocks
  for (int64_t b = 0; b < elements / row.block; ++b) block(b * row.block, b * row.bytes);
}

void check_finite(DType type, const float* x, int64_t elements) {
  for (int64_t i = 0; i < elements; ++i) {
    require(std::isfinite(x[i]), "encode: element ", i, " is ", x[i], ", which ", dtype_name(type), " cannot hold");
  }
}

}  // namespace

void encode_blocks(DType type, const float* x, int64_t elements, std::byte* out) {
  const auto each = [&](auto encode) { for_each_block(type, elements, [&](int64_t i, int64_t at) { encode(x + i, out + at); }); };
  if (is_quantised(type)) check_finite(type, x, elements);
  switch (type) {
    case DType::kF32: std::memcpy(out, x, static_cast<size_t>(elements) * sizeof(float)); return;
    case DType::kF16: return each([](const float* value, std::byte* p) { store_u16(p, f32_to_f16(*value)); });
    case DType::kBF16: return each([](const float* value, std::byte* p) { store_u16(p, f32_to_bf16(*value)); });
    case DType::kQ4_0:
    case DType::kQ4_1:
    case DType::kQ5_0:
    case DType::kQ5_1: return each([type](const float* values, std::byte* p) { encode_small(type, values, p); });
    case DType::kQ8_0: return each(encode_q8_0);
    case DType::kQ4_K:
    case DType::kQ5_K: return each([type](const float* values, std::byte* p) { encode_k(type, values, p); });
    case DType::kQ6_K: return each(encode_q6_k);
    default: fail(ErrorCode::kUnsupported, "weights of type ", dtype_name(type), " cannot be written");
  }
}

}  // namespace wick
