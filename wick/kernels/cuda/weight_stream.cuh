// Weights on their way through shared memory, and inputs as the tensor cores want them, for products of few rows.
//
// A warp takes stages of 8 outputs by Format::kInputs inputs. Of a stage lane 4 g + t multiplies its share of output g. Both operands of a
// product may lie in any order along k as long as it is the same one: a lane's elements are those that lie together in memory.
//
// A lane has a few dozen instructions for its 16 to 64 bytes of a stage: hence pointers that are kept, 32-bit indices and offsets that are
// known when the program is compiled. Bytes on their way count most: 160 KiB of a multiprocessor instead of 64 made a step of 1B in bf16
// one sixth faster, though no room is left then for the next kernel's first stages.
#pragma once

#include "wick/kernels/cuda/bf16_slot.cuh"
#include "wick/kernels/cuda/linear_parts.cuh"

namespace wick::cuda {

inline constexpr int kTileOutputs = 8;
inline constexpr int kInputUnit = 128;  // rows of rounded inputs are filled up with zeros to a multiple of it

// Words of 16 bytes from row to row of rounded inputs: 64 bytes off a multiple of 128, so that two rows lie in different banks.
__host__ __device__ constexpr int apart(int64_t words) { return static_cast<int>(words % 8 == 4 ? words : words + 4); }

// Rows of bf16, multiplied as they are.
struct Bf16Stream {
  using Slot = Bf16Slot;
  static constexpr int kInputs = 8 * Slot::kChunks;
  static constexpr int kRowsPerSum = kFewRows;  // rows of x in one set of sums
  static constexpr int kSlots = 5;              // stages that are on their way
  static_assert(kTileOutputs == Slot::kRows);

  __host__ __device__ static int row_words(int64_t k) { return apart(round_up<int64_t>(k, kInputUnit) / 8); }

  // Elements i .. i + 3 of a row. Of four words the middle ones change places: see Sums.
  __device__ static void put_rounded(uint4* row, int i, const float (&x)[4]) {
    auto* words = reinterpret_cast<__nv_bfloat162*>(row + i / 8) + i / 4 % 2;
    words[0] = __floats2bfloat162_rn(x[0], x[1]);
    words[2] = __floats2bfloat162_rn(x[2], x[3]);
  }

  // What a lane copies of a tile, stage by stage.
  struct Source {
    const uint4* words;  // its first
    int left;            // chunks of a row from there on
    int last, apart;     // see Bf16Slot::ask()

    __device__ Source() = default;
    // Of a tile that begins with first_row; the segment ends with last_row.
    __device__ Source(const Segment& segment, int first_row, int last_row, int k, int lane)
        : last(last_row - (first_row + Slot::row_of(lane))), apart(static_cast<int>(padded_inputs(k) / 8)) {
      words = Slot::first_chunk(segment.data, first_row, apart, lane);
      left = apart - Slot::chunk_of(lane);
    }

    __device__ void ask(Slot& slot, int stage, int lane, uint64_t policy) const {
      slot.ask(words + stage * Slot::kChunks, apart, last, stage * Slot::kChunks < left, lane, policy);
    }
  };

  // Lane 4 g + t has row g, outputs 2 t and 2 t + 1. The tensor cores' sixteen rows are twice the eight of x, with the first and the second
  // half of a lane's elements: one product takes the upper rows' sums, the next one the lower rows', and no register has to be filled with
  // zeros.
  template <int kSets>
  struct Sums {
    static_assert(kSets == 1);
    const uint4* inputs;
    float c[2][4];

    __device__ Sums(const uint4* x, int row_words, int rows, int lane) : inputs(x + min(lane / 4, rows - 1) * row_words + lane % 4) {}
    __device__ void clear() {
      for (int i = 0; i < 4; ++i) c[0][i] = c[1][i] = 0;
    }
    __device__ void add(const Slot& slot, const Source&, int stage, int lane) {
#pragma unroll
      for (int p = 0; p < Slot::kChunks; p += 4) {
        const uint4 w = *slot.at(lane / 4, p + lane % 4), v = inputs[stage * Slot::kChunks + p];
        multiply<__nv_bfloat16>(c[0], {v.x, v.y, v.z, v.w}, w.x, w.y);
        multiply<__nv_bfloat16>(c[1], {v.x, v.y, v.z, v.w}, w.z, w.w);
      }
    }
    // Writes [rows, 8].
    __device__ void put(float* to, int rows, int lane) const {
      if (lane / 4 >= rows) return;
      float2* at = reinterpret_cast<float2*>(to + lane / 4 * kTileOutputs + lane % 4 * 2);
      *at = {c[0][0] + c[1][2], c[0][1] + c[1][3]};
    }
  };
};

// x in blocks of 32 as two runs of 8 bits: x = s1 * q1 + s2 * q2. Eight lanes, with four elements each, round a block.

// The largest magnitude of a block, NaN when it holds no finite number only.
__device__ inline float block_peak(const float (&x)[4]) {
  uint32_t peak = 0;  // bits of numbers without a sign are ordered as they are
#pragma unroll
  for (int i = 0; i < 4; ++i) peak = max(peak, __float_as_uint(x[i]) & 0x7fffffffu);
#pragma unroll
  for (int step = 4; step > 0; step /= 2) peak = max(peak, __shfl_xor_sync(kAllLanes, peak, step));
  return peak < 0x7f800000u ? __uint_as_float(peak) : NAN;
}

// The nearest integers in bytes; of x what they leave. What the factor is off by is in there, too.
__device__ inline uint32_t quantise(float (&x)[4], float& scale) {
  constexpr float kRound = 12582912.0f;  // adding it rounds: 1.5 * 2^23
  const float peak = block_peak(x);
  scale = peak * (1.0f / 127.0f);
  const float factor = peak >= 1e-36f ? __fdividef(1.0f, scale) : 0.0f;
  uint32_t q[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const float rounded = fmaf(x[i], factor, kRound);
    q[i] = __float_as_uint(rounded);
    x[i] = fmaf(kRound - rounded, scale, x[i]);
  }
  return __byte_perm(__byte_perm(q[0], q[1], 0x0040), __byte_perm(q[2], q[3], 0x0040), 0x5410);
}

// A block format, multiplied in integers. Lane 4 g + t has all of block t of a stage's four, so a product would add up four blocks, whose
// scales differ. It does not because the 16 rows of the other operand are these: row r and 8 + r hold the two runs of row r / 4 of x for
// block r % 4, and zeros for the others.
//
// A row of x has for every four blocks five planes of 16 bytes per block: four of words, plane i with word i of q1 and q2 of the block's
// first half and of its second half, which is what one product takes; then {s1, s2, the sums of both halves}.
template <DType kType>
struct BlockStream {
  static constexpr FormatTraits kFormat = format_traits(kType);
  static constexpr int kInputs = 128;
  static constexpr int kRowsPerSum = 2;
  static constexpr int kSlots = kFormat.high_bits == 4 ? 6 : 9;
  static constexpr int kBlocks = kInputs / kBlock;
  static constexpr int kStageWords = 5 * kBlocks;  // of x

  struct alignas(32) Slot {
    uint4 quants[kQuantWords<kType>][kWarp];
    uint2 high[kFormat.high_bits == 1 || kFormat.high_bits == 2 ? kWarp : 1];
    uint32_t scale[kWarp];
    uint32_t part[kFormat.super ? kWarp : 1];
  };

  __host__ __device__ static int row_words(int64_t k) { return apart(round_up<int64_t>(k, kInputUnit) / kInputs * kStageWords); }

  __device__ static void put_rounded(uint4* row, int i, float (&x)[4]) {
    uint4* const planes = row + i / kInputs * kStageWords + i % kInputs / kBlock;
    const int word = i % kBlock / 4;
    float s1, s2;
    const uint32_t q1 = quantise(x, s1), q2 = quantise(x, s2);
    const int half = place_of_half<kQuantWords<kType>>(word / 4, i % kInputs / kBlock);
    reinterpret_cast<uint2*>(planes + word % 4 * kBlocks)[half] = {q1, q2};
    int sum1 = __dp4a(static_cast<int>(q1), static_cast<int>(kOnes), 0), sum2 = __dp4a(static_cast<int>(q2), static_cast<int>(kOnes), 0);
#pragma unroll
    for (int step = 2; step > 0; step /= 2) {  // over the four lanes of a half
      sum1 += __shfl_xor_sync(kAllLanes, sum1, step);
      sum2 += __shfl_xor_sync(kAllLanes, sum2, step);
    }
    const float sum = s1 * static_cast<float>(sum1) + s2 * static_cast<float>(sum2);
    const float upper = __shfl_xor_sync(kAllLanes, sum, 4);
    if (word == 0) *reinterpret_cast<float4*>(planes + 4 * kBlocks) = {s1, s2, sum, upper};
  }

  // A lane's share of an output, stage by stage. Two-byte values come in the words that they lie in.
  struct Source {
    const uint4* quants;
    const std::byte *high, *scale, *part;
    uint32_t first;  // block of the planes
    int blocks;      // of a row

    __device__ Source() = default;
    __device__ Source(const Segment& segment, int first_row, int last_row, int k, int lane)
        : quants(reinterpret_cast<const uint4*>(segment.blocks.quants)),
          high(segment.blocks.high),
          scale(segment.blocks.scales),
          part(segment.blocks.parts),
          first(static_cast<uint32_t>(min(first_row + lane / 4, last_row)) * static_cast<uint32_t>(k / kBlock) +
                static_cast<uint32_t>(lane % 4)),
          blocks(k / kBlock) {}

    __device__ void ask(Slot& slot, int stage, int lane, uint64_t policy) const {
      const bool inside = stage * kBlocks + lane % 4 < blocks;
      const uint32_t at = first + static_cast<uint32_t>(stage * kBlocks);
      if constexpr (kQuantWords<kType> == 1) {
        copy16(&slot.quants[0][lane], quants + at, inside, policy);
      } else {
        const int t = lane % 4;
        const uint4* from = quants + 2 * (uint64_t{at} - static_cast<uint32_t>(t)) + t;
#pragma unroll
        for (int i = 0; i < 2; ++i) copy16(&slot.quants[i][lane], from + 4 * i, stage * kBlocks + 2 * i + t / 2 < blocks, policy);
      }
      if constexpr (kFormat.high_bits == 1) copy_word(&slot.high[lane].x, reinterpret_cast<const uint32_t*>(high) + at, inside);
      if constexpr (kFormat.high_bits == 2) copy_word(&slot.high[lane], reinterpret_cast<const uint2*>(high) + at, inside);
      const uint32_t own = kFormat.super ? at / kBlocksPerSuper : at;
      copy_word(&slot.scale[lane], reinterpret_cast<const uint32_t*>(scale) + (kFormat.minimum ? own : own / 2), inside);
      if constexpr (kFormat.super) copy_word(&slot.part[lane], reinterpret_cast<const uint32_t*>(part) + at / 2, inside);
    }

    __device__ BlockScales scales(const Slot& slot, int stage, int lane) const {
      const uint32_t at = first + static_cast<uint32_t>(stage * kBlocks);
      uint32_t d = slot.scale[lane];
      if constexpr (!kFormat.minimum) d >>= (kFormat.super ? at / kBlocksPerSuper : at) % 2 * 16;
      uchar2 two = {};
      if constexpr (kFormat.super) {
        const uint32_t word = slot.part[lane] >> at % 2 * 16;
        two = {static_cast<unsigned char>(word), static_cast<unsigned char>(word >> 8)};
      }
      return unpack_scales<kType>(d, two);
    }
  };

  // Of the rows 2 p and 2 p + 1 of x lane 4 g + t has row 2 p + g / 4 and block g % 4, outputs 2 t and 2 t + 1.
  template <int kSets>
  struct Sums {
    const uint4* inputs[kSets];
    float sums[kSets][2];

    __device__ Sums(const uint4* x, int row_words, int rows, int lane) {
#pragma unroll
      for (int set = 0; set < kSets; ++set) inputs[set] = x + min(2 * set + lane / 16, rows - 1) * row_words + lane / 4 % 4;
    }
    __device__ void clear() {
      for (int set = 0; set < kSets; ++set) sums[set][0] = sums[set][1] = 0;
    }

    __device__ void add(const Slot& slot, const Source& source, int stage, int lane) {
      const int g = lane / 4, t = lane % 4;
      uint4 quants[kQuantWords<kType>];
      read_block(slot.quants, lane, quants);
      uint2 bits = {};
      if constexpr (sizeof(slot.high) > sizeof(uint2)) bits = slot.high[lane];
      const BlockIntegers w = unpack_block<kType>(quants, bits);
      const BlockScales own = source.scales(slot, stage, lane);
      BlockScales scales[2];  // of this lane's results
#pragma unroll
      for (int o = 0; o < 2; ++o) {
        const int from = 8 * t + 4 * o + g % 4;
        scales[o].scale[0] = __shfl_sync(kAllLanes, own.scale[0], from);
        if constexpr (kType == DType::kQ6_K) scales[o].scale[1] = __shfl_sync(kAllLanes, own.scale[1], from);
        if constexpr (kFormat.minimum) scales[o].minimum = __shfl_sync(kAllLanes, own.minimum, from);
      }
#pragma unroll
      for (int set = 0; set < kSets; ++set) {
        const uint4* planes = inputs[set] + stage * kStageWords;
        uint4 a[4] = {};
        if (g % 4 == t) {
#pragma unroll
          for (int i = 0; i < 4; ++i) a[i] = planes[i * kBlocks];
        }
        // The integers of both halves of a block add up; in Q6_K they have scales of their own.
        int low[4] = {}, high[4] = {};
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          if constexpr (kType == DType::kQ6_K) {
            multiply(low, {a[i].x, a[i].y, 0, 0}, w.low[i], 0);
            multiply(high, {0, 0, a[i].z, a[i].w}, 0, w.high[i]);
          } else {
            multiply(i % 2 ? high : low, {a[i].x, a[i].y, a[i].z, a[i].w}, w.low[i], w.high[i]);
          }
        }
        const float4 s = *reinterpret_cast<const float4*>(planes + 4 * kBlocks);
#pragma unroll
        for (int o = 0; o < 2; ++o) sums[set][o] += product(low[o], high[o], low[2 + o], high[2 + o], scales[o], s);
      }
    }

    // The product of a block of weights with one of x; `low` and `high` as above, of the first and the second run.
    __device__ static float product(int low1, int high1, int low2, int high2, const BlockScales& w, const float4& s) {
      if constexpr (kType == DType::kQ6_K) {
        const float low = fmaf(s.x, static_cast<float>(low1), s.y * static_cast<float>(low2)) - kFormat.offset * s.z;
        const float high = fmaf(s.x, static_cast<float>(high1), s.y * static_cast<float>(high2)) - kFormat.offset * s.w;
        return w.scale[0] * low + w.scale[1] * high;
      }
      const float sum = fmaf(s.x, static_cast<float>(low1 + high1), s.y * static_cast<float>(low2 + high2));
      if constexpr (kFormat.minimum) return fmaf(w.scale[0], sum, w.minimum * (s.z + s.w));
      return w.scale[0] * (sum - kFormat.offset * (s.z + s.w));
    }

    // Writes [rows, 8].
    __device__ void put(float* to, int rows, int lane) {
      const int g = lane / 4;
#pragma unroll
      for (int set = 0; set < kSets; ++set) {
#pragma unroll
        for (int o = 0; o < 2; ++o) {
          sums[set][o] += __shfl_xor_sync(kAllLanes, sums[set][o], 4);
          sums[set][o] += __shfl_xor_sync(kAllLanes, sums[set][o], 8);
        }
        const int row = 2 * set + g / 4;
        if (g % 4 == 0 && row < rows) *reinterpret_cast<float2*>(to + row * kTileOutputs + lane % 4 * 2) = {sums[set][0], sums[set][1]};
      }
    }
  };
};

}  // namespace wick::cuda
