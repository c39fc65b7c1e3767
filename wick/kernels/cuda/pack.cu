#include <algorithm>
#include <span>

#include "wick/base/checked.h"
#include "wick/kernels/cuda/pack.cuh"
#include "wick/kernels/cuda/packed_blocks.cuh"
#include "wick/kernels/linear.h"

namespace wick::cuda {
namespace {

constexpr unsigned kThreads = 128;

template <DType kType>
constexpr int kStoredBytes = kDTypes[static_cast<size_t>(kType)].bytes;

template <DType kType>
__device__ BlockScales stored_scales(const uint8_t* row, int64_t b) {
  constexpr FormatTraits kFormat = format_traits(kType);
  const int part = static_cast<int>(b % kBlocksPerSuper);
  const uint8_t* block = row + (kFormat.super ? b / kBlocksPerSuper : b) * kStoredBytes<kType>;
  if constexpr (kType == DType::kQ6_K) {
    const float d = half_at(block + 208);
    const auto scale = [&](int i) { return d * static_cast<float>(static_cast<int8_t>(block[192 + 2 * part + i])); };
    return {{scale(0), scale(1)}, 0};
  } else {
    const float d = half_at(block);
    if constexpr (!kFormat.minimum) return {{d, d}, 0};
    const float m = half_at(block + 2);
    if constexpr (!kFormat.super) return {{d, d}, m};
    const uchar2 six = six_bits(block + 4, part);
    const float scale = d * static_cast<float>(six.x);
    return {{scale, scale}, -(m * static_cast<float>(six.y))};
  }
}

// A thread for every block of 32: block `first` of the segment is the first of `stored`.
template <DType kType>
__global__ void __launch_bounds__(kThreads) pack_blocks(const uint8_t* stored, int64_t row_bytes, int64_t blocks_per_row, int64_t count,
                                                        int64_t first, const __grid_constant__ PackedBlocks out) {
  begin_kernel();
  constexpr FormatTraits kFormat = format_traits(kType);
  const int64_t index = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (index >= count) return;
  const int64_t b = index % blocks_per_row, at = first + index;
  const uint8_t* row = stored + index / blocks_per_row * row_bytes;
  const BlockIntegers q = stored_integers<kType>(row, b);
  uint32_t high[2] = {};
  for (int g = 0; g < 4; ++g) {
    if constexpr (kFormat.high_bits == 4) {
      reinterpret_cast<uint32_t*>(out.quants)[8 * at + g] = q.low[g];
      reinterpret_cast<uint32_t*>(out.quants)[8 * at + 4 + g] = q.high[g];
    } else {
      reinterpret_cast<uint32_t*>(out.quants)[4 * at + g] = (q.low[g] & kNibbles) | (q.high[g] & kNibbles) << 4;
    }
    if constexpr (kFormat.high_bits == 1) high[0] |= (q.low[g] >> 4 & kOnes) << g | (q.high[g] >> 4 & kOnes) << (4 + g);
    if constexpr (kFormat.high_bits == 2) {
      high[0] |= (q.low[g] >> 4 & 3 * kOnes) << 2 * g;
      high[1] |= (q.high[g] >> 4 & 3 * kOnes) << 2 * g;
    }
  }
  if constexpr (kFormat.high_bits == 1) reinterpret_cast<uint32_t*>(out.high)[at] = high[0];
  if constexpr (kFormat.high_bits == 2) reinterpret_cast<uint2*>(out.high)[at] = {high[0], high[1]};
  const int part = static_cast<int>(b % kBlocksPerSuper);
  const uint8_t* block = row + (kFormat.super ? b / kBlocksPerSuper : b) * kStoredBytes<kType>;
  const uint8_t* scale = kType == DType::kQ6_K ? block + 208 : block;
  if (!kFormat.super || part == 0) {
    constexpr int kBytes = kFormat.minimum ? 4 : 2;
    uint8_t* to = reinterpret_cast<uint8_t*>(out.scales) + (kFormat.super ? at / kBlocksPerSuper : at) * kBytes;
    for (int i = 0; i < kBytes; ++i) to[i] = scale[i];
  }
  if constexpr (kType == DType::kQ6_K) reinterpret_cast<uchar2*>(out.parts)[at] = {block[192 + 2 * part], block[193 + 2 * part]};
  if constexpr (kFormat.super && kFormat.minimum) reinterpret_cast<uchar2*>(out.parts)[at] = six_bits(block + 4, part);
}

// A thread for every block of 32.
template <DType kType>
__global__ void __launch_bounds__(kThreads)
    expand_blocks(const uint8_t* stored, int64_t row_bytes, int64_t blocks_per_row, int64_t count, float* out, int64_t ld) {
  begin_kernel();
  const int64_t index = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (index >= count) return;
  const int64_t b = index % blocks_per_row, r = index / blocks_per_row;
  const uint8_t* row = stored + r * row_bytes;
  const BlockIntegers q = stored_integers<kType>(row, b);
  const BlockScales scales = stored_scales<kType>(row, b);
  for (int e = 0; e < kBlock; ++e) out[r * ld + b * kBlock + e] = value_of<kType>(element(q, e, kType == DType::kQ8_0), scales, e / 16);
}

// Plain rows of k elements to rows of ld, filled up with zeros.
template <class From, class To>
__global__ void __launch_bounds__(kThreads) pad_rows(const From* from, int64_t rows, int64_t k, To* to, int64_t ld) {
  begin_kernel();
  const int64_t index = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (index >= rows * ld) return;
  const int64_t row = index / ld, i = index - row * ld;
  to[index] = from_float<To>(i < k ? to_float(from[row * k + i]) : 0);
}

void pack_rows(Context& ctx, const std::byte* stored, int64_t first, int64_t rows, const WeightSource& source,
               const WeightSegment& segment) {
  if (segment.type == DType::kF32) {
    const int64_t ld = padded_inputs(source.k);
    return expand_rows(ctx, stored, source.type, rows, source.k, reinterpret_cast<float*>(segment.storage->data()) + first * ld, ld);
  }
  if (!is_quantised(segment.type)) {
    const int64_t ld = padded_inputs(source.k);
    return with_type(source.type, [&](auto element) {
      using T = decltype(element);
      launch(ctx, "pack_weight", pad_rows<T, T>, blocks_for(rows * ld, kThreads), kThreads, 0, reinterpret_cast<const T*>(stored), rows,
             source.k, reinterpret_cast<T*>(segment.storage->data()) + first * ld, ld);
    });
  }
  with_quantised(segment.type, [&](auto type) {
    constexpr DType kType = decltype(type)::kDType;
    const int64_t per_row = source.k / kBlock;
    const int64_t row_bytes = static_cast<int64_t>(dtype_bytes(kType, static_cast<uint64_t>(source.k)));
    launch(ctx, "pack_weight", pack_blocks<kType>, blocks_for(rows * per_row, kThreads), kThreads, 0,
           reinterpret_cast<const uint8_t*>(stored), row_bytes, per_row, rows * per_row, first * per_row,
           packed_blocks(kType, segment.rows, segment.k, segment.storage->data()));
  });
}

// Whether stored rows are packed as they are.
bool stored_as_packed(const WeightSource& source, const WeightSegment& segment) {
  return !is_quantised(segment.type) && segment.type == source.type && padded_inputs(source.k) == source.k;
}

}  // namespace

uint64_t packed_bytes(DType type, int64_t rows, int64_t k) {
  if (is_quantised(type)) return static_cast<uint64_t>(packed_blocks(type, rows, k, nullptr).bytes);
  return static_cast<uint64_t>(
      mul_or_fail(mul_or_fail(rows, padded_inputs(k), "linear: weight size"), int64_t{traits(type).bytes}, "linear: weight size"));
}

void expand_rows(Context& ctx, const std::byte* stored, DType type, int64_t rows, int64_t k, float* out, int64_t ld) {
  if (!is_quantised(type)) {
    return with_type(type, [&](auto element) {
      using T = decltype(element);
      launch(ctx, "linear", pad_rows<T, float>, blocks_for(rows * ld, kThreads), kThreads, 0, reinterpret_cast<const T*>(stored), rows, k,
             out, ld);
    });
  }
  with_quantised(type, [&](auto tag) {
    constexpr DType kType = decltype(tag)::kDType;
    const int64_t per_row = k / kBlock;
    launch(ctx, "linear", expand_blocks<kType>, blocks_for(rows * per_row, kThreads), kThreads, 0, reinterpret_cast<const uint8_t*>(stored),
           static_cast<int64_t>(dtype_bytes(kType, static_cast<uint64_t>(k))), per_row, rows * per_row, out, ld);
  });
}

// Threads read the file into one buffer while the device still takes and packs what is in the others.
void pack(Context& ctx, const WeightSource& source, WeightSegment& segment) {
  const int64_t row_bytes = static_cast<int64_t>(dtype_bytes(source.type, static_cast<uint64_t>(source.k)));
  segment.precise = true;
  if (!segment.storage) segment.storage = Storage::allocate(ctx.device(), packed_bytes(segment.type, segment.rows, segment.k));

  const bool as_stored = stored_as_packed(source, segment);
  const int64_t rows_per_chunk = std::clamp<int64_t>(static_cast<int64_t>(kStagingBytes / StagingRing::kSlots) / row_bytes, 1, source.rows);
  const int64_t grain = std::max<int64_t>(1, (int64_t{1} << 18) / row_bytes);
  StagingRing& ring = stream_of(ctx).staging();
  for (int64_t first = 0; first < source.rows; first += rows_per_chunk) {
    const int64_t count = std::min(rows_per_chunk, source.rows - first);
    std::byte* const rows = ring.begin(ctx.device(), static_cast<uint64_t>(rows_per_chunk * row_bytes));
    ctx.pool().parallel_for(count, grain, [&](int64_t begin, int64_t end, int) {
      source.read_rows(first + begin, std::span(rows + begin * row_bytes, static_cast<size_t>((end - begin) * row_bytes)));
    });
    std::byte* const there = as_stored ? segment.storage->data() + first * row_bytes : ring.on_device(ctx.device());
    ctx.copy(there, rows, static_cast<uint64_t>(count * row_bytes));
    if (!as_stored) pack_rows(ctx, there, first, count, source, segment);
    ring.end(stream_of(ctx));
  }
}

}  // namespace wick::cuda
