#include "wick/kernels/cpu/panel_format.h"

#include <cstring>

#include "wick/tensor/half.h"

namespace wick::cpu {
namespace {

constexpr uint32_t kOnes = 0x01010101u;
constexpr uint32_t kNibbles = 15 * kOnes;

void put_integers(const BlockFormat& format, const BlockIntegers& q, int64_t r, std::byte* block) {
  std::byte* lane = block + 4 * r;
  constexpr int64_t kVector = 4 * kPanelRows;
  if (format.whole_bytes()) {
    for (int w = 0; w < 8; ++w) store_as(q.words[w], lane + w * kVector);
    return;
  }
  uint32_t bits[2] = {0, 0};
  for (int g = 0; g < 4; ++g) {
    const uint32_t low = q.words[g], high = q.words[4 + g];
    store_as((low & kNibbles) | (high & kNibbles) << 4, lane + g * kVector);
    if (format.high_bits == 1) bits[0] |= (low >> 4 & kOnes) << g | (high >> 4 & kOnes) << (4 + g);
    if (format.high_bits == 2) {
      bits[0] |= (low >> 4 & 3 * kOnes) << 2 * g;
      bits[1] |= (high >> 4 & 3 * kOnes) << 2 * g;
    }
  }
  for (int i = 0; i < format.high_bits; ++i) store_as(bits[i], lane + (4 + i) * kVector);
}

// The scales of row r of a panel.
void put_scales(const BlockFormat& format, const std::byte* row, int64_t blocks, int64_t r, std::byte* panel) {
  for (int64_t b = 0; b < blocks; b += format.super() ? kBlocksPerSuper : 1, row += format.bytes()) {
    std::byte* const scales = panel + scales_at(format, b);
    std::byte* d = scales + (format.scales == ScaleKind::kSuper16 ? 256 : 0);
    std::memcpy(d + 2 * r, row + format.d_at, 2);
    if (format.has_min()) std::memcpy(d + 32 + 2 * r, row + format.d_at + 2, 2);
    const std::byte* integers = row + format.scales_at;
    if (format.scales == ScaleKind::kSuper) {
      for (int64_t w = 0; w < 3; ++w) std::memcpy(scales + 64 + (w * kPanelRows + r) * 4, integers + 4 * w, 4);
    } else if (format.scales == ScaleKind::kSuper16) {
      for (int64_t s = 0; s < 16; ++s) scales[s * kPanelRows + r] = integers[s];
    }
  }
}

}  // namespace

void pack_quantised_row(const BlockFormat& format, const std::byte* row, int64_t k, int64_t r, std::byte* panel) {
  const int64_t blocks = k / kQuantBlock;
  for (int64_t b = 0; b < blocks; ++b) put_integers(format, read_integers(format, row, b), r, panel + integers_at(format, b));
  put_scales(format, row, blocks, r, panel);
}

void unpack_block(const BlockFormat& format, const std::byte* panel, int64_t b, uint8_t* out) {
  const auto* block = reinterpret_cast<const uint8_t*>(panel + integers_at(format, b));
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

BlockScales panel_scales(const BlockFormat& format, const std::byte* panel, int64_t b, int64_t r) {
  const std::byte* scales = panel + scales_at(format, b);
  const int64_t part = b % kBlocksPerSuper;
  const auto half = [&](int64_t at) { return f16_to_f32(load_as<uint16_t>(scales + at + 2 * r)); };
  switch (format.scales) {
    case ScaleKind::kHalf: return {half(0), half(0), 0};
    case ScaleKind::kHalfMin: return {half(0), half(0), half(32)};
    case ScaleKind::kSuper: {
      const auto word = [&](int64_t w) { return load_as<uint32_t>(scales + 64 + (w * kPanelRows + r) * 4); };
      return six_bit_scales(half(0), half(32), {word(0), word(1), word(2)}, part);
    }
    default: {
      const auto scale = [&](int64_t i) { return half(256) * static_cast<float>(std::to_integer<int8_t>(scales[i * kPanelRows + r])); };
      return {scale(2 * part), scale(2 * part + 1), 0};
    }
  }
}

void unpack_quantised_row(const BlockFormat& format, const std::byte* panel, int64_t k, int64_t r, float* out) {
  const int64_t blocks = k / kQuantBlock;
  uint8_t q[512];
  for (int64_t b = 0; b < blocks; ++b) {
    unpack_block(format, panel, b, q);
    const BlockScales scales = panel_scales(format, panel, b, r);
    for (int64_t e = 0; e < kQuantBlock; ++e) {
      out[b * kQuantBlock + e] = scales.weight(format, static_cast<size_t>(e), q[(e / 4 * kPanelRows + r) * 4 + e % 4]);
    }
  }
}

}  // namespace wick::cpu
