#include "wick/kernels/block_format.h"

#include <array>
#include <cstring>

#include "wick/base/error.h"
#include "wick/tensor/half.h"

namespace wick {
namespace {

constexpr int64_t kQuantBlock = 32;

// How a quantised type makes a weight from an integer q >= 0:  w = scale * (q - offset) + minimum.
struct BlockFormat {
  enum class Scales {
    kHalf,     // one f16 per 32
    kHalfMin,  // and an f16 minimum
    kSuper,    // per 256 an f16 for scales and one for minimums, per 32 six bits of each (Q4_K, Q5_K)
    kSuper16,  // per 256 an f16, per 16 a signed byte (Q6_K)
  };
  DType type;
  int high_bits;  // of q above its low four: 0, 1, 2; 4 where q is a whole byte
  int offset;     // 0 with minimums
  Scales scales;

  constexpr bool has_min() const { return scales == Scales::kHalfMin || scales == Scales::kSuper; }
  constexpr bool whole_bytes() const { return high_bits == 4; }
};

constexpr std::array<BlockFormat, 8> kBlockFormats = {{
    {DType::kQ4_0, 0, 8, BlockFormat::Scales::kHalf},
    {DType::kQ4_1, 0, 0, BlockFormat::Scales::kHalfMin},
    {DType::kQ5_0, 1, 16, BlockFormat::Scales::kHalf},
    {DType::kQ5_1, 1, 0, BlockFormat::Scales::kHalfMin},
    {DType::kQ8_0, 4, 128, BlockFormat::Scales::kHalf},
    {DType::kQ4_K, 0, 0, BlockFormat::Scales::kSuper},
    {DType::kQ5_K, 1, 0, BlockFormat::Scales::kSuper},
    {DType::kQ6_K, 2, 32, BlockFormat::Scales::kSuper16},
}};

// Null for plain types.
constexpr const BlockFormat* block_format(DType type) {
  for (const BlockFormat& format : kBlockFormats) {
    if (format.type == type) return &format;
  }
  return nullptr;
}

// The integers of 32 elements of a row: four of them in a word, those of elements 4g .. 4g + 3 in low[g] and of 16 + 4g .. in high[g].
struct BlockIntegers {
  uint32_t low[4];
  uint32_t high[4];
};

constexpr int64_t kSuperBlock = 256;
constexpr uint32_t kNibbles = 0x0f0f0f0fu;
constexpr uint32_t kOnes = 0x01010101u;

uint16_t load_u16(const std::byte* p) {
  uint16_t value;
  std::memcpy(&value, p, sizeof value);
  return value;
}

uint32_t load_u32(const std::byte* p) {
  uint32_t value;
  std::memcpy(&value, p, sizeof value);
  return value;
}

float load_f16(const std::byte* p) { return f16_to_f32(load_u16(p)); }

// Nibbles as Q4_0 has them: byte j holds elements j and 16 + j.
void read_nibbles(const std::byte* qs, BlockIntegers& out) {
  for (int g = 0; g < 4; ++g) {
    const uint32_t word = load_u32(qs + 4 * g);
    out.low[g] = word & kNibbles;
    out.high[g] = word >> 4 & kNibbles;
  }
}

// As the 256-element formats have them: 32 bytes hold elements of one block in their low nibbles and of another in their high ones.
void read_super_nibbles(const std::byte* qs, bool upper, BlockIntegers& out) {
  const int shift = upper ? 4 : 0;
  for (int g = 0; g < 4; ++g) {
    out.low[g] = load_u32(qs + 4 * g) >> shift & kNibbles;
    out.high[g] = load_u32(qs + 16 + 4 * g) >> shift & kNibbles;
  }
}

// Bit e of `bits` is the fifth of element e.
void add_bit_mask(uint32_t bits, BlockIntegers& out) {
  const auto spread = [](uint32_t four) { return (four * 0x00204081u & kOnes) << 4; };
  for (int g = 0; g < 4; ++g) {
    out.low[g] |= spread(bits >> 4 * g & 15);
    out.high[g] |= spread(bits >> (16 + 4 * g) & 15);
  }
}

// Bits [first, first + count) of byte e are the upper ones of element e.
void add_bit_bytes(const std::byte* bytes, int first, int count, BlockIntegers& out) {
  const uint32_t mask = count == 1 ? kOnes : 3 * kOnes;
  for (int g = 0; g < 4; ++g) {
    out.low[g] |= (load_u32(bytes + 4 * g) >> first & mask) << 4;
    out.high[g] |= (load_u32(bytes + 16 + 4 * g) >> first & mask) << 4;
  }
}

float element(const BlockIntegers& integers, int64_t e) {
  const uint32_t word = e < 16 ? integers.low[e / 4] : integers.high[e / 4 - 4];
  return static_cast<float>(word >> 8 * (e % 4) & 255);
}

// The six-bit scale and minimum of block b, from 12 bytes: four of each whole, then the low four bits of four more, whose upper two stand
// above the first.
struct ScaleAndMin {
  float scale, min;
};
ScaleAndMin super_scale(const std::byte* packed, int64_t b) {
  const auto byte = [&](int64_t i) { return std::to_integer<int>(packed[i]); };
  if (b < 4) return {static_cast<float>(byte(b) & 63), static_cast<float>(byte(b + 4) & 63)};
  return {static_cast<float>((byte(b + 4) & 15) | (byte(b - 4) >> 6 << 4)), static_cast<float>((byte(b + 4) >> 4) | (byte(b) >> 6 << 4))};
}

// Of block b of a stored row.
BlockIntegers read_integers(const BlockFormat& format, const std::byte* row, int64_t b) {
  BlockIntegers out;
  const int64_t bytes = traits(format.type).bytes;
  const std::byte* block = row + (traits(format.type).block == kSuperBlock ? b / 8 : b) * bytes;
  const int64_t part = b % 8;
  switch (format.type) {
    case DType::kQ5_0:
      read_nibbles(block + 6, out);
      add_bit_mask(load_u32(block + 2), out);
      break;
    case DType::kQ5_1:
      read_nibbles(block + 8, out);
      add_bit_mask(load_u32(block + 4), out);
      break;
    case DType::kQ8_0:
      for (int g = 0; g < 4; ++g) {  // + 128 turns signed bytes into unsigned ones
        out.low[g] = load_u32(block + 2 + 4 * g) ^ 0x80808080u;
        out.high[g] = load_u32(block + 18 + 4 * g) ^ 0x80808080u;
      }
      break;
    case DType::kQ4_K: read_super_nibbles(block + 16 + part / 2 * 32, part % 2 == 1, out); break;
    case DType::kQ5_K:
      read_super_nibbles(block + 48 + part / 2 * 32, part % 2 == 1, out);
      add_bit_bytes(block + 16, static_cast<int>(part), 1, out);
      break;
    case DType::kQ6_K:
      read_super_nibbles(block + part / 4 * 64 + part % 2 * 32, part % 4 >= 2, out);
      add_bit_bytes(block + 128 + part / 4 * 32, static_cast<int>(2 * (part % 4)), 2, out);
      break;
    default: read_nibbles(block + (format.type == DType::kQ4_1 ? 4 : 2), out);
  }
  return out;
}

void decode_block(const BlockFormat& format, const std::byte* row, int64_t b, float* out) {
  const BlockIntegers integers = read_integers(format, row, b);
  const int64_t bytes = traits(format.type).bytes;
  const float offset = static_cast<float>(format.offset);
  switch (format.scales) {
    case BlockFormat::Scales::kHalf: {
      const float d = load_f16(row + b * bytes);
      for (int64_t e = 0; e < kQuantBlock; ++e) out[e] = d * (element(integers, e) - offset);
      return;
    }
    case BlockFormat::Scales::kHalfMin: {
      const float d = load_f16(row + b * bytes), m = load_f16(row + b * bytes + 2);
      for (int64_t e = 0; e < kQuantBlock; ++e) out[e] = d * element(integers, e) + m;
      return;
    }
    case BlockFormat::Scales::kSuper: {
      const std::byte* super = row + b / 8 * bytes;
      const ScaleAndMin six = super_scale(super + 4, b % 8);
      const float d = load_f16(super) * six.scale, m = load_f16(super + 2) * six.min;
      for (int64_t e = 0; e < kQuantBlock; ++e) out[e] = d * element(integers, e) - m;
      return;
    }
    case BlockFormat::Scales::kSuper16: {
      const std::byte* super = row + b / 8 * bytes;
      const std::byte* scales = super + 192 + 2 * (b % 8);
      for (int64_t e = 0; e < kQuantBlock; ++e) {
        const float d = load_f16(super + 208) * static_cast<float>(std::to_integer<int8_t>(scales[e / 16]));
        out[e] = d * (element(integers, e) - offset);
      }
      return;
    }
  }
}

}  // namespace

bool has_codec(DType type) { return type == DType::kF32 || type == DType::kF16 || type == DType::kBF16 || block_format(type) != nullptr; }

void decode_blocks(DType type, const std::byte* stored, int64_t elements, float* out) {
  switch (type) {
    case DType::kF32: std::memcpy(out, stored, static_cast<size_t>(elements) * sizeof(float)); return;
    case DType::kF16:
      for (int64_t i = 0; i < elements; ++i) out[i] = f16_to_f32(load_u16(stored + 2 * i));
      return;
    case DType::kBF16:
      for (int64_t i = 0; i < elements; ++i) out[i] = bf16_to_f32(load_u16(stored + 2 * i));
      return;
    default: break;
  }
  const BlockFormat* format = block_format(type);
  if (!format) fail(ErrorCode::kUnsupported, "weights of type ", dtype_name(type), " are not supported");
  for (int64_t b = 0; b < elements / kQuantBlock; ++b) decode_block(*format, stored, b, out + b * kQuantBlock);
}

}  // namespace wick
