#include "wick/kernels/block_layout.h"

#include "wick/tensor/half.h"

namespace wick {
namespace {

constexpr uint32_t kOnes = 0x01010101u;
constexpr uint32_t kNibbles = 15 * kOnes;
constexpr uint32_t kSigns = 128 * kOnes;

float load_f16(const std::byte* p) { return f16_to_f32(load_as<uint16_t>(p)); }

// ---- Formats of 32: byte j has the nibbles of elements j and 16 + j, bit j of a word the fifth bit of element j ----

BlockIntegers read_small(const BlockFormat& format, const std::byte* block) {
  BlockIntegers q;
  for (int w = 0; w < 4; ++w) {
    const uint32_t nibbles = load_as<uint32_t>(block + format.low_at + 4 * w);
    q.words[w] = nibbles & kNibbles;
    q.words[4 + w] = nibbles >> 4 & kNibbles;
  }
  if (format.high_bits == 0) return q;
  const auto fifth = load_as<uint32_t>(block + format.high_at);
  for (int w = 0; w < 8; ++w) q.words[w] |= ((fifth >> 4 * w & 15) * 0x00204081u & kOnes) << 4;
  return q;
}

void write_small(const BlockFormat& format, const uint8_t* q, std::byte* block) {
  uint32_t fifth = 0;
  for (int j = 0; j < 32; ++j) fifth |= static_cast<uint32_t>(q[j] >> 4) << j;
  if (format.high_bits == 1) store_as(fifth, block + format.high_at);
  for (int j = 0; j < 16; ++j) block[format.low_at + j] = static_cast<std::byte>((q[j] & 15) | (q[16 + j] & 15) << 4);
}

// ---- Q8_0: signed bytes; + 128 turns them into unsigned ones ----

BlockIntegers read_bytes(const BlockFormat& format, const std::byte* block) {
  BlockIntegers q;
  for (int w = 0; w < 8; ++w) q.words[w] = load_as<uint32_t>(block + format.low_at + 4 * w) ^ kSigns;
  return q;
}

void write_bytes(const BlockFormat& format, const uint8_t* q, std::byte* block) {
  for (int j = 0; j < 32; ++j) block[format.low_at + j] = static_cast<std::byte>(q[j] ^ 128);
}

// ---- K formats: byte j has bits of element j of several blocks of 32 ----

// The bytes of block `part`, and from which of their bits on it has its own.
struct SuperPlace {
  int64_t low;
  int low_shift;
  int64_t high;
  int high_shift;
};

SuperPlace super_place(const BlockFormat& format, int64_t part) {
  const int p = static_cast<int>(part);
  if (format.scales == ScaleKind::kSuper16) {
    return {format.low_at + p / 4 * 64 + p % 2 * 32, p % 4 / 2 * 4, format.high_at + p / 4 * 32, p % 4 * 2};
  }
  return {format.low_at + p / 2 * 32, p % 2 * 4, format.high_at, p};
}

BlockIntegers read_super(const BlockFormat& format, const std::byte* block, int64_t part) {
  const SuperPlace place = super_place(format, part);
  const uint32_t mask = (1u << format.high_bits) * kOnes - kOnes;
  BlockIntegers q;
  for (int w = 0; w < 8; ++w) {
    q.words[w] = load_as<uint32_t>(block + place.low + 4 * w) >> place.low_shift & kNibbles;
    if (format.high_bits > 0) q.words[w] |= (load_as<uint32_t>(block + place.high + 4 * w) >> place.high_shift & mask) << 4;
  }
  return q;
}

void write_super(const BlockFormat& format, const uint8_t* q, std::byte* block) {
  std::memset(block + format.low_at, 0, 128);
  std::memset(block + format.high_at, 0, static_cast<size_t>(32 * format.high_bits));
  for (int64_t part = 0; part < kBlocksPerSuper; ++part, q += kQuantBlock) {
    const SuperPlace place = super_place(format, part);
    for (int64_t j = 0; j < kQuantBlock; ++j) {
      block[place.low + j] |= static_cast<std::byte>((q[j] & 15) << place.low_shift);
      if (format.high_bits > 0) block[place.high + j] |= static_cast<std::byte>(q[j] >> 4 << place.high_shift);
    }
  }
}

}  // namespace

BlockIntegers read_integers(const BlockFormat& format, const std::byte* row, int64_t b) {
  const std::byte* block = row + format.stored_block(b) * format.bytes();
  if (format.super()) return read_super(format, block, b % kBlocksPerSuper);
  return format.whole_bytes() ? read_bytes(format, block) : read_small(format, block);
}

void write_integers(const BlockFormat& format, const uint8_t* q, std::byte* block) {
  if (format.super()) return write_super(format, q, block);
  return format.whole_bytes() ? write_bytes(format, q, block) : write_small(format, q, block);
}

BlockScales read_scales(const BlockFormat& format, const std::byte* row, int64_t b) {
  const std::byte* block = row + format.stored_block(b) * format.bytes();
  const int64_t part = b % kBlocksPerSuper;
  const float d = load_f16(block + format.d_at);
  const std::byte* scales = block + format.scales_at;
  switch (format.scales) {
    case ScaleKind::kHalf: return {d, d, 0};
    case ScaleKind::kHalfMin: return {d, d, load_f16(block + format.d_at + 2)};
    case ScaleKind::kSuper: return six_bit_scales(d, load_f16(block + format.d_at + 2), load_as<std::array<uint32_t, 3>>(scales), part);
    default: {
      const auto scale = [&](int64_t i) { return d * static_cast<float>(std::to_integer<int8_t>(scales[i])); };
      return {scale(2 * part), scale(2 * part + 1), 0};
    }
  }
}

// Four scales and four minimums whole in the low six bits of their bytes; of four more the low four bits in the last bytes and the upper
// two above the first ones.
BlockScales six_bit_scales(float d, float dmin, const std::array<uint32_t, 3>& words, int64_t part) {
  const int64_t shift = 8 * (part % 4);
  const uint32_t first = words[0] >> shift & 255, second = words[1] >> shift & 255, third = words[2] >> shift & 255;
  const uint32_t scale = part < 4 ? first & 63 : (third & 15) | first >> 6 << 4;
  const uint32_t minimum = part < 4 ? second & 63 : third >> 4 | second >> 6 << 4;
  const float product = d * static_cast<float>(scale);
  return {product, product, -(dmin * static_cast<float>(minimum))};
}

void write_six_bits(const SixBits& six, std::byte* p) {
  for (size_t s = 0; s < 4; ++s) {
    p[s] = static_cast<std::byte>(six.scale[s] | (six.scale[s + 4] >> 4) << 6);
    p[s + 4] = static_cast<std::byte>(six.minimum[s] | (six.minimum[s + 4] >> 4) << 6);
    p[s + 8] = static_cast<std::byte>((six.scale[s + 4] & 15) | (six.minimum[s + 4] & 15) << 4);
  }
}

}  // namespace wick
