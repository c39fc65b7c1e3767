#include "wick/kernels/cpu/panel_format.h"

#include <cstring>

#include "wick/tensor/half.h"

namespace wick::cpu {
namespace {

constexpr uint32_t kNibbles = 0x0f0f0f0fu;
constexpr uint32_t kOnes = 0x01010101u;

template <class T>
T read(const std::byte* p) {
  T value;
  std::memcpy(&value, p, sizeof value);
  return value;
}

template <class T>
void write(T value, std::byte* p) {
  std::memcpy(p, &value, sizeof value);
}

// Four integers to a word: of elements 4g .. 4g + 3 in low[g], of 16 + 4g .. in high[g].
struct BlockIntegers {
  uint32_t low[4];
  uint32_t high[4];
};

// Byte j holds elements j and 16 + j.
void read_nibbles(const std::byte* qs, BlockIntegers& out) {
  for (int g = 0; g < 4; ++g) {
    const uint32_t word = read<uint32_t>(qs + 4 * g);
    out.low[g] = word & kNibbles;
    out.high[g] = word >> 4 & kNibbles;
  }
}

// 32 bytes hold one block in their low nibbles and another in their high ones.
void read_super_nibbles(const std::byte* qs, bool upper, BlockIntegers& out) {
  const int shift = upper ? 4 : 0;
  for (int g = 0; g < 4; ++g) {
    out.low[g] = read<uint32_t>(qs + 4 * g) >> shift & kNibbles;
    out.high[g] = read<uint32_t>(qs + 16 + 4 * g) >> shift & kNibbles;
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

// Bits first .. of byte e, as many as `mask` has in each byte, stand above the nibble of element e.
void add_bit_bytes(const std::byte* bytes, int64_t first, uint32_t mask, BlockIntegers& out) {
  for (int g = 0; g < 4; ++g) {
    out.low[g] |= (read<uint32_t>(bytes + 4 * g) >> first & mask) << 4;
    out.high[g] |= (read<uint32_t>(bytes + 16 + 4 * g) >> first & mask) << 4;
  }
}

// Of block b of a stored row.
BlockIntegers read_integers(const PanelFormat& format, const std::byte* row, int64_t b) {
  BlockIntegers out;
  const bool super = traits(format.type).block > kQuantBlock;
  const std::byte* block = row + (super ? b / kBlocksPerSuper : b) * traits(format.type).bytes;
  const int64_t part = b % kBlocksPerSuper;
  switch (format.type) {
    case DType::kQ5_0:
      read_nibbles(block + 6, out);
      add_bit_mask(read<uint32_t>(block + 2), out);
      break;
    case DType::kQ5_1:
      read_nibbles(block + 8, out);
      add_bit_mask(read<uint32_t>(block + 4), out);
      break;
    case DType::kQ8_0:
      for (int g = 0; g < 4; ++g) {  // + 128 turns signed bytes into unsigned ones
        out.low[g] = read<uint32_t>(block + 2 + 4 * g) ^ 0x80808080u;
        out.high[g] = read<uint32_t>(block + 18 + 4 * g) ^ 0x80808080u;
      }
      break;
    case DType::kQ4_K: read_super_nibbles(block + 16 + part / 2 * 32, part % 2 == 1, out); break;
    case DType::kQ5_K:
      read_super_nibbles(block + 48 + part / 2 * 32, part % 2 == 1, out);
      add_bit_bytes(block + 16, part, kOnes, out);
      break;
    case DType::kQ6_K:
      read_super_nibbles(block + part / 4 * 64 + part % 2 * 32, part % 4 >= 2, out);
      add_bit_bytes(block + 128 + part / 4 * 32, 2 * (part % 4), 3 * kOnes, out);
      break;
    default: read_nibbles(block + (format.type == DType::kQ4_1 ? 4 : 2), out);
  }
  return out;
}

void write_integers(const PanelFormat& format, const BlockIntegers& q, int64_t r, std::byte* block) {
  std::byte* lane = block + 4 * r;
  constexpr int64_t kVector = 4 * kPanelRows;
  uint32_t bits[2] = {0, 0};
  for (int g = 0; g < 4; ++g) {
    if (format.whole_bytes()) {
      write(q.low[g], lane + g * kVector);
      write(q.high[g], lane + (4 + g) * kVector);
      continue;
    }
    write((q.low[g] & kNibbles) | (q.high[g] & kNibbles) << 4, lane + g * kVector);
    if (format.high_bits == 1) bits[0] |= (q.low[g] >> 4 & kOnes) << g | (q.high[g] >> 4 & kOnes) << (4 + g);
    if (format.high_bits == 2) {
      bits[0] |= (q.low[g] >> 4 & 3 * kOnes) << 2 * g;
      bits[1] |= (q.high[g] >> 4 & 3 * kOnes) << 2 * g;
    }
  }
  if (format.whole_bytes()) return;
  for (int i = 0; i < format.high_bits; ++i) write(bits[i], lane + (4 + i) * kVector);
}

// The scales of row r of blocks [0, blocks).
void write_scales(const PanelFormat& format, const std::byte* row, int64_t blocks, int64_t r, std::byte* scales) {
  const int64_t bytes = traits(format.type).bytes;
  const auto half = [&](const std::byte* from, std::byte* to) { std::memcpy(to + 2 * r, from, 2); };
  switch (format.scales) {
    case ScaleKind::kHalf:
      for (int64_t b = 0; b < blocks; ++b) half(row + b * bytes, scales + b * 32);
      return;
    case ScaleKind::kHalfMin:
      for (int64_t b = 0; b < blocks; ++b) {
        half(row + b * bytes, scales + b * 64);
        half(row + b * bytes + 2, scales + b * 64 + 32);
      }
      return;
    case ScaleKind::kSuper:
      for (int64_t s = 0; s < blocks / kBlocksPerSuper; ++s) {
        half(row + s * bytes, scales + s * 256);
        half(row + s * bytes + 2, scales + s * 256 + 32);
        for (int64_t w = 0; w < 3; ++w) std::memcpy(scales + s * 256 + 64 + (w * kPanelRows + r) * 4, row + s * bytes + 4 + 4 * w, 4);
      }
      return;
    case ScaleKind::kSuper16:
      for (int64_t s = 0; s < blocks / kBlocksPerSuper; ++s) {
        for (int64_t i = 0; i < 16; ++i) scales[s * 288 + i * kPanelRows + r] = row[s * bytes + 192 + i];
        half(row + s * bytes + 208, scales + s * 288 + 256);
      }
      return;
  }
}

// Scale and minimum `b` of the eight pairs of six bits in words[0], words[16] and words[32]: four of each whole, then the low four bits of
// four more, whose upper two stand above the first.
struct SixBits {
  uint32_t scale, min;
};
SixBits six_bits(const std::byte* words, int64_t b) {
  const auto byte = [&](int64_t i) { return read<uint32_t>(words + i / 4 * 4 * kPanelRows) >> 8 * (i % 4) & 255; };
  if (b < 4) return {byte(b) & 63, byte(b + 4) & 63};
  return {(byte(b + 4) & 15) | byte(b - 4) >> 6 << 4, byte(b + 4) >> 4 | byte(b) >> 6 << 4};
}

}  // namespace

void pack_quantised_row(const PanelFormat& format, const std::byte* row, int64_t k, int64_t r, std::byte* panel) {
  const int64_t blocks = k / kQuantBlock;
  for (int64_t b = 0; b < blocks; ++b) write_integers(format, read_integers(format, row, b), r, panel + b * format.block_bytes());
  write_scales(format, row, blocks, r, panel + blocks * format.block_bytes());
}

void unpack_block(const PanelFormat& format, const std::byte* panel, int64_t b, uint8_t* out) {
  const auto* block = reinterpret_cast<const uint8_t*>(panel + b * format.block_bytes());
  if (format.whole_bytes()) {
    std::memcpy(out, block, 512);
    return;
  }
  for (int g = 0; g < 4; ++g) {
    for (int i = 0; i < 64; ++i) {
      out[g * 64 + i] = block[g * 64 + i] & 15;
      out[256 + g * 64 + i] = block[g * 64 + i] >> 4;
    }
    if (format.high_bits == 0) continue;
    const int low = format.high_bits * g, high = format.high_bits == 1 ? 4 + g : 2 * g;
    const uint8_t mask = format.high_bits == 1 ? 1 : 3;
    const uint8_t* low_bits = block + 256;
    const uint8_t* high_bits = block + 256 + 64 * (format.high_bits - 1);
    for (int i = 0; i < 64; ++i) {
      out[g * 64 + i] = static_cast<uint8_t>(out[g * 64 + i] | (low_bits[i] >> low & mask) << 4);
      out[256 + g * 64 + i] = static_cast<uint8_t>(out[256 + g * 64 + i] | (high_bits[i] >> high & mask) << 4);
    }
  }
}

BlockScales block_scales(const PanelFormat& format, const std::byte* panel, int64_t blocks, int64_t b, int64_t r) {
  const std::byte* scales = panel + blocks * format.block_bytes();
  const auto half = [&](int64_t at) { return f16_to_f32(read<uint16_t>(scales + at + 2 * r)); };
  const int64_t super = b / kBlocksPerSuper, part = b % kBlocksPerSuper;
  switch (format.scales) {
    case ScaleKind::kHalf: return {half(b * 32), half(b * 32), 0};
    case ScaleKind::kHalfMin: return {half(b * 64), half(b * 64), half(b * 64 + 32)};
    case ScaleKind::kSuper: {
      const SixBits six = six_bits(scales + super * 256 + 64 + 4 * r, part);
      const float d = half(super * 256) * static_cast<float>(six.scale);
      return {d, d, -(half(super * 256 + 32) * static_cast<float>(six.min))};
    }
    default: {
      const auto scale = [&](int64_t i) { return half(super * 288 + 256) * static_cast<float>(read<int8_t>(scales + super * 288 + i * kPanelRows + r)); };
      return {scale(2 * part), scale(2 * part + 1), 0};
    }
  }
}

void unpack_quantised_row(const PanelFormat& format, const std::byte* panel, int64_t k, int64_t r, float* out) {
  const int64_t blocks = k / kQuantBlock;
  uint8_t q[512];
  for (int64_t b = 0; b < blocks; ++b) {
    unpack_block(format, panel, b, q);
    const BlockScales scales = block_scales(format, panel, blocks, b, r);
    for (int64_t e = 0; e < kQuantBlock; ++e) {
      const int value = q[(e / 4 * kPanelRows + r) * 4 + e % 4] - format.offset;
      const float product = (e < 16 ? scales.low : scales.high) * static_cast<float>(value);
      out[b * kQuantBlock + e] = format.has_min() ? product + scales.min : product;  // + 0 would lose the sign of a zero
    }
  }
}

}  // namespace wick::cpu
