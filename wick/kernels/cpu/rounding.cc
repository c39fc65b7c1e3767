// Rounding activations for a matmul.
#include <cstdint>

#include "wick/kernels/cpu/panels.h"
#include "wick/tensor/half.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "wick/kernels/cpu/rounding.cc"
#include "wick/kernels/cpu/foreach_isa.h"
// After it: compiled per instruction set.
#include "wick/kernels/cpu/convert-inl.h"

HWY_BEFORE_NAMESPACE();
namespace wick::cpu {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using D = hn::CappedTag<float, 16>;
constexpr int64_t kLanes = static_cast<int64_t>(hn::MaxLanes(D()));

// Of the bytes of elements 0..15 and 16..31.
struct HalfSums {
  int32_t low = 0, high = 0;
};

// 32 values to bytes. The scale is the largest magnitude / 127; a NaN or infinity makes it NaN.
HWY_INLINE HalfSums quantise_block(const float* x, int8_t* q, float* scale) {
  const D d;
  const hn::RebindToSigned<D> di;
  const hn::Rebind<int8_t, D> d8;
  // Magnitudes compare as integers, with NaN above infinity above every number.
  auto largest_bits = hn::Zero(di);
  for (int64_t i = 0; i < kQuantBlock; i += kLanes) largest_bits = hn::Max(largest_bits, hn::BitCast(di, hn::Abs(hn::LoadU(d, x + i))));
  const int32_t bits = hn::GetLane(hn::MaxOfLanes(di, largest_bits));
  if (bits >= 0x7f800000) {
    for (int64_t i = 0; i < kQuantBlock; ++i) q[i] = 0;
    *scale = __builtin_nanf("");
    return {};
  }
  const float largest = __builtin_bit_cast(float, bits);
  // A magnitude under 127 / FLT_MAX has no finite inverse: such a block is zero to the precision of everything around it.
  const float inverse = largest < 1e-36f ? 0.0f : 127.0f / largest;
  auto low = hn::Zero(di);
  auto high = hn::Zero(di);
  for (int64_t i = 0; i < kQuantBlock; i += kLanes) {
    const auto rounded = hn::NearestInt(hn::Mul(hn::LoadU(d, x + i), hn::Set(d, inverse)));
    (i < kQuantBlock / 2 ? low : high) = hn::Add(i < kQuantBlock / 2 ? low : high, rounded);
    hn::StoreU(hn::DemoteTo(d8, rounded), d8, q + i);
  }
  *scale = largest / 127.0f;
  return {hn::GetLane(hn::SumOfLanes(di, low)), hn::GetLane(hn::SumOfLanes(di, high))};
}

// Block `at` of `out`, counted through all rows.
HWY_INLINE void put_block(const float* x, int64_t at, const ActivationBuffers& out) {
  const HalfSums halves = quantise_block(x, out.q + at * kQuantBlock, out.scale + at);
  const int32_t sum = halves.low + halves.high;
  out.scaled_sum[at] = out.scale[at] * static_cast<float>(sum);
  out.minus_8_sum[at] = -8 * sum;
  out.minus_16_sum[at] = -16 * sum;
  out.minus_128_sum[at] = -128 * sum;
  out.minus_32_sum[2 * at] = -32 * halves.low;
  out.minus_32_sum[2 * at + 1] = -32 * halves.high;
}

// rest = x - q * scale, rounded once.
HWY_INLINE void subtract_block(const float* x, const int8_t* q, float scale, float* rest) {
  const D d;
  const hn::RebindToSigned<D> di;
  const hn::Rebind<int8_t, D> d8;
  for (int64_t i = 0; i < kQuantBlock; i += kLanes) {
    const auto rounded = hn::ConvertTo(d, hn::PromoteTo(di, hn::LoadU(d8, q + i)));
    hn::StoreU(hn::NegMulAdd(rounded, hn::Set(d, scale), hn::LoadU(d, x + i)), d, rest + i);
  }
}

void quantise(const float* x, int64_t ldx, int64_t k, int64_t begin, int64_t end, const ActivationBuffers& out, int64_t remainder) {
  const int64_t blocks = k / kQuantBlock;
  for (int64_t row = begin; row < end; ++row) {
    for (int64_t b = 0; b < blocks; ++b) {
      const int64_t at = row * blocks + b;
      const float* block = x + (row - begin) * ldx + b * kQuantBlock;
      put_block(block, at, out);
      if (remainder == 0) continue;
      float rest[kQuantBlock];
      subtract_block(block, out.q + at * kQuantBlock, out.scale[at], rest);
      put_block(rest, at + remainder * blocks, out);
    }
  }
}

// Chunks of 32 go to places `step` elements apart.
void round_bf16(const float* x, int64_t k, uint16_t* out, int64_t step) {
  const D d;
  const hn::Rebind<uint16_t, D> d16;
  for (; k >= kBf16Chunk; k -= kBf16Chunk, x += kBf16Chunk, out += step) {
    for (int64_t i = 0; i < kBf16Chunk; i += kLanes)
      hn::StoreU(narrow(d, hn::LoadU(d, x + i), static_cast<const BF16*>(nullptr)), d16, out + i);
  }
  if (k == 0) return;
  for (int64_t i = 0; i < kBf16Chunk; ++i) out[i] = i < k ? f32_to_bf16(x[i]) : uint16_t{0};
}

void round_bf16_in_f32(const float* x, int64_t k, float* out) {
  const D d;
  int64_t i = 0;
  for (; i + kLanes <= k; i += kLanes) {
    const auto bits = rounded_bf16(d, hn::LoadU(d, x + i));
    hn::StoreU(hn::BitCast(d, hn::And(bits, hn::Set(hn::RebindToUnsigned<D>(), 0xffff0000u))), d, out + i);
  }
  for (; i < k; ++i) out[i] = bf16_to_f32(f32_to_bf16(x[i]));
  if (k % 2 == 1) out[k] = 0;
}

void widen_bf16(const uint16_t* x, int64_t k, float* out) {
  const D d;
  const auto* from = reinterpret_cast<const BF16*>(x);
  int64_t i = 0;
  for (; i + kLanes <= k; i += kLanes) hn::StoreU(load(d, from + i), d, out + i);
  for (; i < k; ++i) out[i] = bf16_to_f32(x[i]);
  if (k % 2 == 1) out[k] = 0;
}

}  // namespace HWY_NAMESPACE
}  // namespace wick::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace wick::cpu {

void quantise_rows(Isa isa, const float* x, int64_t ldx, int64_t k, int64_t begin, int64_t end, const ActivationBuffers& out, int64_t remainder) {
  WICK_DISPATCH(isa, quantise)(x, ldx, k, begin, end, out, remainder);
}

void round_rows_bf16(Isa isa, const float* x, int64_t ldx, int64_t k, int64_t begin, int64_t end, const ActivationBuffers& out) {
  for (int64_t row = begin; row < end; ++row) {
    const float* from = x + (row - begin) * ldx;
    if (out.bf16.data) {
      WICK_DISPATCH(isa, round_bf16)(from, k, out.bf16.row(row), out.bf16.step(row));
    } else {
      WICK_DISPATCH(isa, round_bf16_in_f32)(from, k, out.f32_of_bf16.data + row * out.f32_of_bf16.ld);
    }
  }
}

void widen_row_bf16(Isa isa, const uint16_t* x, int64_t k, float* out) { WICK_DISPATCH(isa, widen_bf16)(x, k, out); }

}  // namespace wick::cpu
#endif
