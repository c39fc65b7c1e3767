// Weights of one input row on their way through shared memory, in tiles of 16 outputs, which the tensor cores multiply as they lie there.
//
// A tile is two halves of 8 outputs from anywhere. Of a stage lane 4 g + t multiplies its share of output g: bytes that lie together in
// memory, since a product's operands may lie in any order along k as long as it is the same one. The input stands in the other operand's
// eight columns.
#pragma once

#include "wick/kernels/cuda/bf16_slot.cuh"
#include "wick/kernels/cuda/linear_parts.cuh"

namespace wick::cuda {

inline constexpr int kHalfTile = 8;  // outputs
inline constexpr int kTileRows = 2 * kHalfTile;
inline constexpr int kUnitInputs = 128;  // of an input that a warp rounds, and multiplies, at a time

// Where a weight's planes begin, counted from its first byte; PackedBlocks of one that is given by its address only.
struct TilePlanes {
  int64_t high, scales, parts;
};

// Rows of bf16. A stage is a half tile's share of a unit. The tensor cores' rows 8 to 15 hold what follows rows 0 to 7 along k, and columns
// 0 and 1 of the other operand the input for each.
struct Bf16Tiles {
  using Slot = Bf16Slot;
  static constexpr DType kType = DType::kBF16;
  static constexpr int kStages = 2;  // of a unit
  static constexpr int kSlots = 4;   // five are slower: what is on its way delays what blocks hand over
  static constexpr int kScaleLanes = 1;
  static constexpr int kUnitWords = Slot::kChunks;  // of 16 bytes that a rounded unit takes
  static_assert(kUnitInputs == Slot::kChunks * 8 && kHalfTile == Slot::kRows);

  // A lane's four elements of a unit.
  __device__ static void put_rounded(uint4* unit, int lane, const float (&x)[4]) {
    auto* words = reinterpret_cast<__nv_bfloat162*>(unit + lane / 2) + lane % 2 * 2;
    words[0] = __floats2bfloat162_rn(x[0], x[1]);
    words[1] = __floats2bfloat162_rn(x[2], x[3]);
  }

  struct Source {
    const uint4* words[2];  // what the lane copies first of each half
    int last[2], apart;     // see Bf16Slot::ask()
    bool whole;             // there is a second half

    // Of a half that begins with first_row; the weight ends with last_row.
    __device__ void set(int half, const std::byte* data, const TilePlanes&, int first_row, int last_row, int k, int lane) {
      apart = k / 8;
      last[half] = last_row - (first_row + Slot::row_of(lane));
      words[half] = Slot::first_chunk(data, first_row, apart, lane);
    }
    __device__ void set_row(const std::byte*, const TilePlanes&, int, int, int) {}
    __device__ void ask(Slot& slot, int stage, int lane, uint64_t policy) const {
      const bool second = stage & 1;
      slot.ask((second ? words[1] : words[0]) + stage / kStages * Slot::kChunks, apart, second ? last[1] : last[0], !second || whole, lane,
               policy);
    }
  };

  struct Sums {
    float c[kStages][4] = {};

    __device__ void add(const Slot& slot, const uint4* unit, int stage, int lane) {
      float(&sums)[4] = c[stage & 1];
      const int g = lane / 4, t = lane % 4;
#pragma unroll
      for (int p = 0; p < Slot::kChunks; p += 8) {
        const uint4 w = *slot.at(g, p + t), v = *slot.at(g, p + 4 + t);
        uint4 b = {};
        if (lane < 8) b = unit[p + lane];
        multiply<__nv_bfloat16>(sums, {w.x, v.x, w.y, v.y}, b.x, b.y);
        multiply<__nv_bfloat16>(sums, {w.z, v.z, w.w, v.w}, b.z, b.w);
      }
    }
    // Writes the tile's [16] sums.
    __device__ void put(float* to, int lane) const {
      if (lane % 4 != 0) return;
#pragma unroll
      for (int half = 0; half < kStages; ++half) to[half * kHalfTile + lane / 4] = c[half][0] + c[half][3];
    }
  };
};

// A block format, multiplied in integers. Lane 4 g + t has all of block t of a stage's four of each half, so a product would add up four
// blocks, whose scales differ. It does not because columns 2 b and 2 b + 1 hold the input for block b and zeros for the others: the upper
// and the lower byte of integers of 16 bits. So lane 4 g + t ends up with the sums of its own blocks, whose scales it has.
//
// A rounded unit is two planes of a word of 16 bytes for each column, plane j with words 2 j, 4 + 2 j, 2 j + 1 and 5 + 2 j of the block's
// eight; then for each block the scale of its integers and the sums of its halves. For the halves' places see read_block().
template <DType kBlockType>
struct BlockTiles {
  static constexpr DType kType = kBlockType;
  static constexpr FormatTraits kFormat = format_traits(kType);
  static constexpr int kStages = 1;  // of a unit
  static constexpr int kBlocks = kUnitInputs / kBlock;
  static constexpr int kWords = kFormat.high_bits == 4 ? 2 : 1;  // of 16 bytes to a block
  static constexpr int kSlots = kFormat.high_bits == 4 ? 4 : 6;
  static constexpr int kUnitWords = 5 * kBlocks;
  static constexpr bool kHigh = kFormat.high_bits == 1 || kFormat.high_bits == 2;
  static constexpr bool kWideScales = kFormat.minimum && !kFormat.super;
  static constexpr int kScaleLanes = kWideScales ? 1 : 2;  // that copy a row's scales

  struct alignas(32) Slot {
    uint4 quants[2][kWords][kWarp];
    uint2 high[kHigh ? 2 * kWarp : 1];
    alignas(16) uint32_t scales[kTileRows][kFormat.super ? 1 : kWideScales ? 4 : 2];
    uint2 parts[kFormat.super ? kTileRows : 1];
  };

  __device__ static void put_rounded(uint4* unit, int lane, const float (&x)[4]) {
    constexpr float kMost = 32512, kRound = 12582912.0f;  // adding it rounds: 1.5 * 2^23
    uint32_t peak = 0;                                    // bits of numbers without a sign are ordered as they are
#pragma unroll
    for (int i = 0; i < 4; ++i) peak = max(peak, __float_as_uint(x[i]) & 0x7fffffffu);
#pragma unroll
    for (int step = 4; step > 0; step /= 2) peak = max(peak, __shfl_xor_sync(kAllLanes, peak, step));
    const float largest = __uint_as_float(peak);
    const float factor = largest >= 1e-30f ? __fdividef(kMost, largest) : 0.0f;
    const float scale = peak < 0x7f800000u ? largest * (1 / kMost) : NAN;
    uint32_t q[4];
    int sum = 0;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float rounded = fmaf(x[i], factor, kRound);
      sum += static_cast<int>(rounded - kRound);
      q[i] = __float_as_uint(rounded);
    }
    const uint32_t low = __byte_perm(__byte_perm(q[0], q[1], 0x0040), __byte_perm(q[2], q[3], 0x0040), 0x5410);
#pragma unroll
    for (int i = 0; i < 4; ++i) q[i] += 128;  // the lower byte has a sign
    const uint32_t high = __byte_perm(__byte_perm(q[0], q[1], 0x0051), __byte_perm(q[2], q[3], 0x0051), 0x5410);
    const int block = lane / 8, word = lane % 8, half = place_of_half<kWords>(word / 4, block);
    auto* column = reinterpret_cast<uint32_t*>(unit + word % 4 / 2 * 2 * kBlocks + 2 * block) + word % 2 * 2 + half;
    column[0] = high;
    column[4] = low;
    sum += __shfl_xor_sync(kAllLanes, sum, 1);
    sum += __shfl_xor_sync(kAllLanes, sum, 2);
    const int upper = __shfl_xor_sync(kAllLanes, sum, 4);
    if (word == 0) {
      *reinterpret_cast<float4*>(unit + 4 * kBlocks + block) = {scale, scale * static_cast<float>(sum), scale * static_cast<float>(upper),
                                                                0};
    }
  }

  struct Source {
    const uint4* quants[2];
    const std::byte *high[2], *scales, *parts;  // the last two are of the row that the lane copies them for
    uint32_t row_super;                         // the first superblock of that row
    bool whole;

    __device__ void set(int half, const std::byte* data, const TilePlanes& planes, int first_row, int last_row, int k, int lane) {
      const int row = min(first_row + lane / 4, last_row);
      const uint32_t first = static_cast<uint32_t>(row) * static_cast<uint32_t>(k / kBlock);
      quants[half] = reinterpret_cast<const uint4*>(data) + uint64_t{first} * kWords + lane % 4;
      if constexpr (kHigh) high[half] = data + planes.high + uint64_t{first + static_cast<uint32_t>(lane % 4)} * (4 * kFormat.high_bits);
    }
    // Of all rows of the tile the one whose scales the lane copies, with others as many.
    __device__ void set_row(const std::byte* data, const TilePlanes& planes, int row, int k, int lane) {
      const int word = lane % kScaleLanes * 4;
      const uint32_t first = static_cast<uint32_t>(row) * static_cast<uint32_t>(k / kBlock);
      if constexpr (kFormat.super) {
        row_super = first / kBlocksPerSuper;
        scales = data + planes.scales;
        parts = data + planes.parts + uint64_t{first} * 2 + word;
      } else {
        scales = data + planes.scales + uint64_t{first} * (kFormat.minimum ? 4 : 2) + word;
      }
    }
    __device__ void ask(Slot& slot, int stage, int lane, uint64_t policy) const {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const bool inside = half == 0 || whole;
        const uint4* from = quants[half] + stage * (kBlocks * kWords);
#pragma unroll
        for (int i = 0; i < kWords; ++i) copy16(&slot.quants[half][i][lane], from + 4 * i, inside, policy);
        if constexpr (kFormat.high_bits == 1) copy_word(&slot.high[half * kWarp + lane].x, high[half] + stage * kBlocks * 4, inside);
        if constexpr (kFormat.high_bits == 2) copy_word(&slot.high[half * kWarp + lane], high[half] + stage * kBlocks * 8, inside);
      }
      const int row = lane / kScaleLanes, word = lane % kScaleLanes;
      const bool inside = row < kHalfTile || whole;
      if constexpr (kFormat.super) {
        const uint32_t super = row_super + static_cast<uint32_t>(stage) / 2;
        copy_word_if(word == 0, &slot.scales[row][0], reinterpret_cast<const uint32_t*>(scales) + (kFormat.minimum ? super : super / 2),
                     inside);
        copy_word(reinterpret_cast<uint32_t*>(&slot.parts[row]) + word, parts + stage * (kBlocks * 2), inside);
      } else if constexpr (kWideScales) {
        if (lane < kTileRows)
          copy16(reinterpret_cast<uint4*>(slot.scales[row]), reinterpret_cast<const uint4*>(scales) + stage, inside, policy);
      } else {
        copy_word(&slot.scales[row][word], scales + stage * (kBlocks * 2), inside);
      }
    }
  };

  // Of a lane's two outputs.
  struct Sums {
    float sums[2] = {};

    __device__ static BlockScales scales_of(const Slot& slot, int row, int t, int stage) {
      if constexpr (kFormat.super) {
        uint32_t d = slot.scales[row][0];
        if (!kFormat.minimum) d >>= stage / 2 % 2 * 16;  // rows have an even number of superblocks
        return unpack_scales<kType>(d, reinterpret_cast<const uchar2*>(&slot.parts[row])[t]);
      } else if constexpr (kWideScales) {
        return unpack_scales<kType>(slot.scales[row][t], {});
      } else {
        return unpack_scales<kType>(reinterpret_cast<const uint16_t*>(slot.scales[row])[t], {});
      }
    }

    __device__ static BlockIntegers integers_of(const Slot& slot, int half, int lane) {
      uint4 quants[kQuantWords<kType>];
      read_block(slot.quants[half], lane, quants);
      uint2 bits = {};
      if constexpr (kHigh) bits = slot.high[half * kWarp + lane];
      return unpack_block<kType>(quants, bits);
    }

    __device__ void add(const Slot& slot, const uint4* x, int stage, int lane) {
      constexpr float kOffset = -static_cast<float>(kFormat.offset);
      const int g = lane / 4, t = lane % 4;
      const BlockIntegers w = integers_of(slot, 0, lane), v = integers_of(slot, 1, lane);
      uint4 b[2] = {};
      if (g / 2 == t) {
        b[0] = x[g];
        b[1] = x[2 * kBlocks + g];
      }
      const uint32_t words[8] = {b[0].x, b[0].y, b[0].z, b[0].w, b[1].x, b[1].y, b[1].z, b[1].w};
      int c[4] = {}, upper[4] = {};  // Q6_K has scales of their own for the halves of a block
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        if constexpr (kType == DType::kQ6_K) {
          multiply(c, {w.low[i], v.low[i], 0, 0}, words[2 * i], 0);
          multiply(upper, {0, 0, w.high[i], v.high[i]}, 0, words[2 * i + 1]);
        } else {
          multiply(c, {w.low[i], v.low[i], w.high[i], v.high[i]}, words[2 * i], words[2 * i + 1]);
        }
      }
      const float4 info = *reinterpret_cast<const float4*>(x + 4 * kBlocks + t);
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const BlockScales scales = scales_of(slot, half * kHalfTile + g, t, stage);
        const float sum = info.x * static_cast<float>(c[2 * half] * 256 + c[2 * half + 1]);
        if constexpr (kType == DType::kQ6_K) {
          const float second = info.x * static_cast<float>(upper[2 * half] * 256 + upper[2 * half + 1]);
          sums[half] = fmaf(scales.scale[0], fmaf(kOffset, info.y, sum), sums[half]);
          sums[half] = fmaf(scales.scale[1], fmaf(kOffset, info.z, second), sums[half]);
        } else if constexpr (kFormat.minimum) {
          sums[half] = fmaf(scales.minimum, info.y + info.z, fmaf(scales.scale[0], sum, sums[half]));
        } else if constexpr (kFormat.offset != 0) {
          sums[half] = fmaf(scales.scale[0], fmaf(kOffset, info.y + info.z, sum), sums[half]);
        } else {
          sums[half] = fmaf(scales.scale[0], sum, sums[half]);
        }
      }
    }

    // Writes the tile's [16] sums.
    __device__ void put(float* to, int lane) const {
      const bool odd = lane & 1;  // which of the two outputs the lane goes on with
      float kept = odd ? sums[1] : sums[0];
      kept += __shfl_xor_sync(kAllLanes, odd ? sums[0] : sums[1], 1);
      kept += __shfl_xor_sync(kAllLanes, kept, 2);
      if (lane % 4 < 2) to[lane % 2 * kHalfTile + lane / 4] = kept;
    }
  };
};

}  // namespace wick::cuda
