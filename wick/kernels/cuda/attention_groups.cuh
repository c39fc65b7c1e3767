// Attention of many rows on Hopper, for head sizes 64 and 128: groups of four warps with 64 rows each, and a warp that copies.
//
// Tiles of 128 keys and of their values come through one ring, in the order in which they are multiplied: K0, K1, V0, K2, V1, … A group has
// the products of the next keys and of the last weights on their way at the same time, and makes weights of the former while the latter
// run; groups are not in step, so that one multiplies while others take exponents. A block works on one tile of rows after the other, and
// copies keys ahead of the rows that they are for.
#pragma once

#include "wick/kernels/cuda/attention_parts.cuh"
#include "wick/kernels/cuda/tensor_copy.cuh"
#include "wick/kernels/cuda/warpgroup.cuh"

namespace wick::cuda {

// How a block divides its multiprocessor: all of its registers are given out.
template <int kDim>
struct GroupPlan {
  static constexpr bool kNarrow = kDim <= 64;
  static constexpr int kGroups = kNarrow ? 3 : 2, kRows = kGroups * kGroupRows, kThreads = (kGroups + 1) * kGroupThreads;
  static constexpr int kKeys = 2 * kPart, kSlots = kNarrow ? 8 : 6;
  static constexpr int kRegisters = kNarrow ? 160 : 240, kCopierRegisters = kNarrow ? 32 : 24;
};

template <class T, int kDim>
struct alignas(1024) GroupMemory {
  using Plan = GroupPlan<kDim>;

  T q[Plan::kRows * kDim];
  T slots[Plan::kSlots][Plan::kKeys * kDim];
  Arrival full[Plan::kSlots], free[Plan::kSlots];
};

// The tiles of keys, counted from key 0 on, that some rows see.
struct KeyTiles {
  int begin, end;

  __device__ KeyTiles(const SeenKeys& seen, int tile_keys)
      : begin(same_for_warp(seen.begin / tile_keys)), end(same_for_warp((seen.end + tile_keys - 1) / tile_keys)) {
    begin = min(begin, end);
  }
};

// What the warp that copies does.
template <class Source, class Memory>
__device__ void copy_key_tiles(Source& source, const CUtensorMap& keys, const CUtensorMap& values, Memory& memory, int items, int window) {
  using T = typename Source::Type;
  using Plan = GroupPlan<Source::kDim>;
  constexpr int kPartBytes = kPart * Source::kDim * static_cast<int>(sizeof(T));
  constexpr int kKeyPart = kPart * (Source::kKeysAcross ? Source::kDim : kPanelWidth), kValuePart = kPart * kPanelWidth;  // elements
  const bool asks = threadIdx.x % kWarp == 0;
  RingPlace place;
  // The parts of a tile that there are; copy(to, first key, its arrival).
  const auto fill = [&](int number, int end, auto&& copy) {
    const int first = number * Plan::kKeys, parts = min(Plan::kKeys / kPart, (end - first + kPart - 1) / kPart);
    if (place.turn > 0) memory.free[place.slot].wait(place.turn - 1);
    Arrival& full = memory.full[place.slot];
    if (asks) {
      full.arrive_with(static_cast<unsigned>(parts * kPartBytes));
      for (int part = 0; part < parts; ++part) copy(memory.slots[place.slot], part, first + part * kPart, full);
    }
    place.step(Plan::kSlots);
  };
#pragma unroll 1
  for (int item = static_cast<int>(blockIdx.x); item < items; item += static_cast<int>(gridDim.x)) {
    const RowTile tile = source.begin(item, Plan::kRows);
    const KeyTiles all(SeenKeys(tile, 0, Plan::kRows, window), Plan::kKeys);
#pragma unroll 1
    for (int number = all.begin; number <= all.end; ++number) {
      if (number < all.end) {
        fill(number, tile.keys, [&](T* to, int part, int first, Arrival& full) {
          for (int column = 0; column < (Source::kKeysAcross ? 1 : Source::kDim); column += kPanelWidth) {
            copy_box(to + column * Plan::kKeys + part * kKeyPart, keys, source.key_box(first, column), full);
          }
        });
      }
      if (number > all.begin) {
        fill(number - 1, tile.keys, [&](T* to, int part, int first, Arrival& full) {
          for (int column = 0; column < Source::kDim; column += kPanelWidth) {
            copy_box(to + column * Plan::kKeys + part * kValuePart, values, source.value_box(first, column), full);
          }
        });
      }
    }
  }
}

// Makes zeros of a tile's values from row `count` on. All threads of a group call it.
template <int kKeys, int kDim, class T>
__device__ void clear_values(T* values, int count, int group) {
  const int row = static_cast<int>(threadIdx.x) % kGroupThreads;
  for (int i = 0; i < kDim / 8 && row >= count; ++i) {
    *reinterpret_cast<uint4*>(values + i / (kPanelWidth / 8) * kKeys * kPanelWidth + row * kPanelWidth + i % (kPanelWidth / 8) * 8) =
        uint4{};
  }
  show_to_products();
  meet_group(group);
}

// Rows of q of one group, in its part of shared memory.
template <class Source, class T>
__device__ void copy_queries(const Source& source, const RowTile& tile, int group, T* to) {
  constexpr int kChunks = Source::kDim / 8;
  constexpr int kTogether = 4;  // loads on their way
  const int own = static_cast<int>(threadIdx.x) % kGroupThreads, first = own / kChunks, chunk = own % kChunks;
#pragma unroll 1
  for (int base = first; base < kGroupRows; base += kTogether * (kGroupThreads / kChunks)) {
    float x[kTogether][8];
#pragma unroll
    for (int i = 0; i < kTogether; ++i) {  // rows that are not there are the last one: nobody looks at what comes of them
      source.q(tile, min(group * kGroupRows + base + i * (kGroupThreads / kChunks), tile.rows - 1), chunk * 8, x[i]);
    }
#pragma unroll
    for (int i = 0; i < kTogether; ++i) store<8>(x[i], to + panel_place<kGroupRows>(base + i * (kGroupThreads / kChunks), chunk));
  }
}

// Which tiles of keys a group's rows see: [first, last) of a block's [begin, end), and all of them whole those in [whole_begin, whole_end).
struct GroupKeys {
  int begin, end, first, last, whole_begin, whole_end;

  __device__ GroupKeys(const RowTile& tile, int group, int tile_rows, int tile_keys, int window) {
    const KeyTiles all(SeenKeys(tile, 0, tile_rows, window), tile_keys);
    const SeenKeys seen(tile, group * kGroupRows, kGroupRows, window);
    const KeyTiles own(seen, tile_keys);
    begin = all.begin;
    end = all.end;
    first = own.begin;
    last = own.end;
    whole_begin = same_for_warp((seen.all_begin + tile_keys - 1) / tile_keys);
    whole_end = same_for_warp(seen.all_end / tile_keys);
  }
};

// The ring as a group sees it.
template <class Memory>
class KeyRing {
 public:
  static constexpr int kNone = -1;

  __device__ explicit KeyRing(Memory& memory) : memory_(memory) {}

  // The next tile, once it is there.
  __device__ int take() {
    const int slot = place_.slot;
    memory_.full[slot].wait(place_.turn);
    place_.step(Memory::Plan::kSlots);
    return slot;
  }
  // Its place is free, as far as the warp is concerned.
  __device__ void give(int slot) {
    if (threadIdx.x % kWarp == 0) memory_.free[slot].arrive();
  }
  __device__ void skip() { give(take()); }
  // Keys of the tiles from `number` to before `end`, and values of those before them.
  __device__ void skip_tiles(int number, int end, const GroupKeys& range) {
#pragma unroll 1
    for (; number < end; ++number) {
      if (number < range.end) skip();
      if (number > range.begin) skip();
    }
  }

 private:
  Memory& memory_;
  RingPlace place_;
};

// The products of a group, begun together with others that are on their way, in the registers that they use.
template <class Source>
struct GroupProducts {
  using T = typename Source::Type;
  static constexpr int kDim = Source::kDim, kKeys = GroupPlan<kDim>::kKeys;
  static constexpr int kKeyRows = Source::kKeysAcross ? kDim : kKeys;  // of a panel of keys
  static constexpr int kRowBytes = kPanelWidth * static_cast<int>(sizeof(T));
  using Scores = float[kKeys / 8][4];
  using Weights = unsigned[kKeys / 16][4];
  using Sums = float[kDim / 8][4];

  uint64_t queries;

  __device__ explicit GroupProducts(const T* q) : queries(tile_descriptor(q, kGroupRows * kRowBytes)) {}

  __device__ void begin_keys(Scores& scores, const T* tile) const {
    const uint64_t keys = tile_descriptor(tile, kKeyRows * kRowBytes);
#pragma unroll
    for (int s = 0; s < kDim / 16; ++s) {
      const int along = s % 4 * 16 * static_cast<int>(sizeof(T));  // a panel's rows
      const int sixteen = Source::kKeysAcross ? s * 16 * kRowBytes : s / 4 * kKeyRows * kRowBytes + along;
      multiply_group<T, Source::kKeysAcross>(scores, further(queries, s / 4 * kGroupRows * kRowBytes + along), further(keys, sixteen),
                                             s > 0);
    }
    end_products();
  }
  __device__ void begin_values(Sums& sums, const Weights& weights, const T* tile) const {
    const uint64_t values = tile_descriptor(tile, kKeys * kRowBytes);
#pragma unroll
    for (int s = 0; s < kKeys / 16; ++s) multiply_group<T, true>(sums, weights[s], further(values, s * 16 * kRowBytes), true);
    end_products();
  }
};

// What a group's rows make of the keys that they see, tile by tile.
template <class Source, class Memory>
__device__ void attend(const GroupProducts<Source>& products, const RowTile& tile, const GroupKeys& range, const SeenByRow (&by_row)[2],
                       int group, float scale, Memory& memory, KeyRing<Memory>& ring, float (&sums)[Source::kDim / 8][4], RowSums& rows) {
  using Products = GroupProducts<Source>;
  using T = typename Source::Type;
  constexpr int kKeys = Products::kKeys;
  typename Products::Scores scores;
  typename Products::Weights weights;
  int number = range.first, values = ring.kNone;
  const auto hide = [&] {
    if (number < range.whole_begin || number >= range.whole_end) mask_scores(scores, by_row, number * kKeys);
  };
  // Once the products with the last ones are done. Waited for in the next round: in the same one, ptxas 13.0 takes exponents after it.
  const auto weights_ready = [&] {
    wait_products<0>();
    if (values != ring.kNone) ring.give(values);
    pack_weights<T>(scores, weights);
  };
  int keys = ring.take();
  if (number > range.begin) ring.skip();
  begin_products();
  products.begin_keys(scores, memory.slots[keys]);
  wait_products<0>();
  ring.give(keys);
  hide();
  float factor[2];
  weigh(scores, rows, factor, scale);
#pragma unroll 1
  for (++number; number < range.last; ++number) {
    weights_ready();
    keys = ring.take();
    values = ring.take();
    begin_products();
    products.begin_keys(scores, memory.slots[keys]);
    products.begin_values(sums, weights, memory.slots[values]);
    wait_products<1>();
    ring.give(keys);
    hide();
    const float2 top = local_peaks(scores, scale);
    if (__any_sync(kAllLanes, rises(top.x, rows.peak[0]) || rises(top.y, rows.peak[1]))) {
      raise_peaks(top, rows, factor);
      wait_products<0>();
      rescale_sums(sums, factor);
    }
    weigh_under(scores, rows, scale);
  }
  weights_ready();
  if (number < range.end) ring.skip();
  values = ring.take();
  const int there = tile.keys - (number - 1) * kKeys;
  if (there < kKeys) clear_values<kKeys, Source::kDim>(memory.slots[values], there, group);
  begin_products();
  products.begin_values(sums, weights, memory.slots[values]);
  wait_products<0>();
  ring.give(values);
}

// What a group with rows does.
template <class Source, class Memory>
__device__ void attend_tiles(Source& source, Memory& memory, int group, int items, const ScoreRule& rule, int window) {
  constexpr int kDim = Source::kDim;
  using Plan = GroupPlan<kDim>;
  const int own = static_cast<int>(threadIdx.x) % kGroupThreads;
  const int first_row = group * kGroupRows + own / kWarp * kWarpRows + own % kWarp / 4, rows_of_thread[2] = {first_row, first_row + 8};
  auto* const q = memory.q + group * kGroupRows * kDim;
  const GroupProducts<Source> products(q);
  KeyRing<Memory> ring(memory);
#pragma unroll 1
  for (int item = static_cast<int>(blockIdx.x); item < items; item += static_cast<int>(gridDim.x)) {
    RowTile tile = source.begin(item, Plan::kRows);
    meet_group(group);  // everyone has multiplied the last rows
    copy_queries(source, tile, group, q);
    show_to_products();
    meet_group(group);
    const GroupKeys range(tile, group, Plan::kRows, Plan::kKeys, window);
    const SeenByRow by_row[2] = {{tile, rows_of_thread[0], window}, {tile, rows_of_thread[1], window}};
    float sums[kDim / 8][4] = {};
    RowSums rows;
    // Of what others see before and after, too, keys come one step ahead of values.
    const bool none = range.first >= range.last;
    ring.skip_tiles(range.begin, none ? range.end : range.first, range);
    if (!none) attend(products, tile, range, by_row, group, rule.scale, memory, ring, sums, rows);
    if (range.begin < range.end) ring.skip_tiles(none ? range.end : range.last + 1, range.end + 1, range);
    asm volatile("" : "+r"(item));  // what the next lines want of it is found anew, not kept in registers
    tile = source.begin(item, Plan::kRows);
#pragma unroll
    for (int half = 0; half < 2; ++half) put_row(source, tile, rows_of_thread[half], half, sums, rows, rule);
  }
}

template <class Source>
__global__ void __launch_bounds__(GroupPlan<Source::kDim>::kThreads, 1)
    attention_groups(Source source, const __grid_constant__ CUtensorMap keys, const __grid_constant__ CUtensorMap values,
                     const __grid_constant__ ScoreRule rule, int items, int window) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  using Plan = GroupPlan<Source::kDim>;
  using Memory = GroupMemory<typename Source::Type, Source::kDim>;
  extern __shared__ __align__(1024) unsigned char shared[];
  Memory& memory = *reinterpret_cast<Memory*>(shared);
  if (threadIdx.x == 0) {
    for (int i = 0; i < Plan::kSlots; ++i) {
      memory.full[i].init(1);
      memory.free[i].init(Plan::kGroups * kGroupWarps);
    }
    show_arrivals();
  }
  begin_kernel();
  __syncthreads();
  const int group = same_for_warp(static_cast<int>(threadIdx.x) / kGroupThreads);  // a warp's, as the compiler sees
  if (group == Plan::kGroups) {
    give_registers<Plan::kCopierRegisters>();
    if (threadIdx.x % kGroupThreads < kWarp) copy_key_tiles(source, keys, values, memory, items, window);
  } else {
    take_registers<Plan::kRegisters>();
    attend_tiles(source, memory, group, items, rule, window);
  }
#endif
}

// False where there is no such kernel.
template <class Source, class Order>
bool launch_attention_groups(Context& ctx, const char* op, Source source, Order&& order, const ScoreRule& rule, int window) {
  if constexpr (Source::kDim == 64 || Source::kDim == 128) {
    using Plan = GroupPlan<Source::kDim>;
    if (!has_warpgroups(ctx) || rule.softcap > 0 || rule.alibi || rule.scale <= 0) return false;
    CUtensorMap keys, values;
    if (!source.describe(keys, values)) return false;
    constexpr size_t kBytes = sizeof(GroupMemory<typename Source::Type, Source::kDim>);
    const auto kernel = attention_groups<Source>;
    stream_of(ctx).use();
    check(cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel), cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes), op);
    source.order = order(Plan::kRows);
    const int items = source.order.items();
    launch(ctx, op, kernel, static_cast<unsigned>(std::min(items, stream_of(ctx).multiprocessors())), Plan::kThreads, kBytes, source, keys,
           values, rule, items, window);
    return true;
  }
  return false;
}

}  // namespace wick::cuda
