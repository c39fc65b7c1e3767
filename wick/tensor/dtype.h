// Element types: plain numbers and the block-quantised formats of GGUF files.
//
// A block format stores `block` consecutive elements of a row in `bytes` bytes; the plain types are blocks of one.
//   Q4_0   { f16 d; u8 qs[16] }           w = d * (q - 8),  q in 0..15
//   Q4_1   { f16 d; f16 m; u8 qs[16] }    w = d * q + m
//   Q5_0   { f16 d; u8 qh[4]; u8 qs[16] }           w = d * (q - 16),  q in 0..31
//   Q5_1   { f16 d; f16 m; u8 qh[4]; u8 qs[16] }    w = d * q + m
//   Q8_0   { f16 d; i8 qs[32] }           w = d * q
// In the 4- and 5-bit formats byte j of qs holds the low four bits of element j in its low nibble and those of element j + 16 in its high
// one; bit j of qh, a little-endian u32, is the fifth bit of element j.
//
// The K formats have blocks of 256, in sub-blocks with integer scales of their own: 8 of 32 elements, in Q6_K 16 of 16.
//   Q4_K   { f16 d; f16 dmin; u8 scales[12]; u8 qs[128] }               w = d * sc * q - dmin * mn
//   Q5_K   { f16 d; f16 dmin; u8 scales[12]; u8 qh[32]; u8 qs[128] }    w = d * sc * q - dmin * mn
//   Q6_K   { u8 ql[128]; u8 qh[64]; i8 scales[16]; f16 d }              w = d * sc * (q - 32),  q in 0..63
// Q4_K, Q5_K: byte j of the i-th 32 bytes of qs holds the low four bits of element j of sub-block 2i in its low nibble and of sub-block
// 2i + 1 in its high one; bit s of qh[j] is the fifth bit of element j of sub-block s. sc and mn have 6 bits: those of sub-blocks s < 4
// are the low bits of scales[s] and scales[s + 4]; those of s >= 4 have their low four bits in the low and high nibble of scales[s + 4]
// and their upper two in the upper bits of scales[s - 4] and scales[s].
// Q6_K: each half of a block, 128 elements, has 64 bytes of ql and 32 of qh. Element j of its quarter i has its low four bits in byte
// j + 32 * (i % 2) of ql, the high nibble for i >= 2, and its upper two in bits 2i and 2i + 1 of byte j of qh.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string_view>

namespace wick {

enum class DType : uint8_t { kF32, kF16, kBF16, kF64, kI8, kI16, kI32, kI64, kU8, kQ4_0, kQ4_1, kQ8_0, kQ5_0, kQ5_1, kQ4_K, kQ5_K, kQ6_K };

struct DTypeTraits {
  DType type;
  const char* name;  // "f32", "q4_0": as flags and JSON write it
  int block;         // elements per block
  int bytes;         // bytes per block
  bool floating;     // f16, bf16, f32, f64
};

// One row per type, in the order of the enumerators.
inline constexpr std::array<DTypeTraits, 17> kDTypes = {{
    {DType::kF32, "f32", 1, 4, true},
    {DType::kF16, "f16", 1, 2, true},
    {DType::kBF16, "bf16", 1, 2, true},
    {DType::kF64, "f64", 1, 8, true},
    {DType::kI8, "i8", 1, 1, false},
    {DType::kI16, "i16", 1, 2, false},
    {DType::kI32, "i32", 1, 4, false},
    {DType::kI64, "i64", 1, 8, false},
    {DType::kU8, "u8", 1, 1, false},
    {DType::kQ4_0, "q4_0", 32, 18, false},
    {DType::kQ4_1, "q4_1", 32, 20, false},
    {DType::kQ8_0, "q8_0", 32, 34, false},
    {DType::kQ5_0, "q5_0", 32, 22, false},
    {DType::kQ5_1, "q5_1", 32, 24, false},
    {DType::kQ4_K, "q4_k", 256, 144, false},
    {DType::kQ5_K, "q5_k", 256, 176, false},
    {DType::kQ6_K, "q6_k", 256, 210, false},
}};

constexpr const DTypeTraits& traits(DType type) { return kDTypes[static_cast<size_t>(type)]; }
constexpr const char* dtype_name(DType type) { return traits(type).name; }
constexpr bool is_quantised(DType type) { return traits(type).block > 1; }
std::optional<DType> dtype_from_name(std::string_view name);

// Bytes of `elements` consecutive elements. Throws Error(kInvalidArgument) when they are not whole blocks or the size does not fit.
uint64_t dtype_bytes(DType type, uint64_t elements);

}  // namespace wick
