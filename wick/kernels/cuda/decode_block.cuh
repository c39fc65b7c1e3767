// A block's part of a decode step. Blocks hand their results over through the second cache, while the weights of what comes next are on
// their way all the time.
#pragma once

#include "wick/kernels/cuda/decode_parts.cuh"
#include "wick/kernels/cuda/hand_over.cuh"
#include "wick/kernels/cuda/unit_attention.cuh"

namespace wick::cuda {

inline constexpr int kChunkTiles = 8;       // tiles between two barriers
inline constexpr int kMostOwnRows = 256;    // of the residual stream, in a block
inline constexpr int kTogetherUnits = 4;    // of a warp's input that are on their way
inline constexpr int kMostShares = kWarp;   // of a long context
inline constexpr int kMostHalf = 64;         // of the dimensions that are rotated
inline constexpr int kShortContext = kStepWarps * kUnit;  // positions that one block attends to at once

// What a block needs to attend with kHeads heads.
template <int kDim, int kHeads>
struct AttentionSpace {
  PerHead<kHeads> q[kDim], weights[kStepWarps][kUnit];
  float outs[kStepWarps][kHeads * kDim], peaks[kStepWarps][kHeads], sums[kStepWarps][kHeads];
  float key[kDim], value[kDim], scores[kHeads];  // the step's own position
};

struct StepShared {
  float parts[2][kChunkTiles][kStepWarps][kTileRows];  // two in turn, so that one barrier is enough
  alignas(16) float squares[2][kStepWarps];            // likewise
  float residual[kMostOwnRows];
  float cos[kMostHalf], sin[kMostHalf];                // of the position
};

template <class Tiles, class T, int kDim>
class DecodeBlock {
 public:
  using Slot = typename Tiles::Slot;

  __device__ DecodeBlock(const StepParams& params, StepShared& shared, Slot* slots, uint4* x, const LayerWeights* layers)
      : params_(params), shared_(shared), slots_(slots + warp() * Tiles::kSlots), x_(x), layers_(layers), walk_(params, layers) {
#pragma unroll 1
    for (int s = 0; s < Tiles::kSlots; ++s) walk_.ask(slots_[s]);
  }

  __device__ void run() {
    begin();
#pragma unroll 1
    for (layer_ = 0; layer_ < params_.layer_count; ++layer_) {
      bit_ = (times_ + static_cast<uint32_t>(layer_)) & 1;
      project();
      attend();
      take_attended();
      feed_forward();
    }
    write_logits();
    finish();
  }

 private:
  __device__ static int warp() { return static_cast<int>(threadIdx.x) / kWarp; }
  __device__ static int lane() { return static_cast<int>(threadIdx.x) % kWarp; }
  __device__ const uint32_t* own_copy(const uint32_t* buffer, int words) const {
    return buffer + static_cast<int>(blockIdx.x) % kCopies * words;
  }
  __device__ int inputs(StepProduct product) const { return params_.products[product].k; }
  __device__ int width() const { return inputs(kQkv); }

  __device__ void begin() {
    times_ = params_.times[0];
    position_ = *params_.position;
    for (int i = static_cast<int>(threadIdx.x); i < params_.half; i += kStepThreads) {
      shared_.cos[i] = params_.cos[int64_t{position_} * params_.half + i];
      shared_.sin[i] = params_.sin[int64_t{position_} * params_.half + i];
    }
    const OwnTiles own(params_.products[kOutput]);
    for (int i = static_cast<int>(threadIdx.x); i < (own.end - own.begin) * kHalfTile; i += kStepThreads) {
      const int row = own.begin * kHalfTile + i;
      shared_.residual[i] = row < width() ? params_.x[row] : 0;
    }
    __syncthreads();
  }

  // The next step finds the times counted; nobody is still to read them, since everybody's results were needed.
  __device__ void finish() {
    if (patience_.lost()) *params_.fault = static_cast<uint64_t>(Fault::kLostStep) << kFaultShift;
    if (blockIdx.x != 0 || threadIdx.x != 0) return;
    params_.times[0] = times_ + static_cast<uint32_t>(params_.layer_count);
    if (position_ > kShortContext) params_.times[1] += static_cast<uint32_t>(params_.layer_count);
  }

  // The warp's units of a product's input, rounded. The squares are summed where there is a norm.
  template <bool kHandedOver>
  __device__ void take_input(const void* from, uint32_t bit, const float* norm, int k) {
    const int units = k / kUnitInputs;
    float squares = 0;
#pragma unroll 1
    for (int first = warp(); first < units; first += kStepWarps * kTogetherUnits) {
      float4 gains[kTogetherUnits];
      uint4 words[kTogetherUnits];
      bool wanted[kTogetherUnits];
      const uint32_t* places[kTogetherUnits];
#pragma unroll
      for (int j = 0; j < kTogetherUnits; ++j) {
        const int unit = first + j * kStepWarps, at = unit * kUnitInputs + lane() * 4;
        wanted[j] = unit < units;
        places[j] = static_cast<const uint32_t*>(from) + at;
        if (norm && wanted[j]) gains[j] = *reinterpret_cast<const float4*>(norm + at);
        if (!kHandedOver && wanted[j]) words[j] = *reinterpret_cast<const uint4*>(places[j]);
      }
      if constexpr (kHandedOver) get(places, wanted, bit, patience_, words);
#pragma unroll
      for (int j = 0; j < kTogetherUnits; ++j) {
        if (!wanted[j]) continue;
        constexpr uint32_t kKept = kHandedOver ? ~1u : ~0u;
        float v[4] = {__uint_as_float(words[j].x & kKept), __uint_as_float(words[j].y & kKept), __uint_as_float(words[j].z & kKept),
                      __uint_as_float(words[j].w & kKept)};
        if (norm) {
          for (const float value : v) squares = fmaf(value, value, squares);
          v[0] *= gains[j].x;
          v[1] *= gains[j].y;
          v[2] *= gains[j].z;
          v[3] *= gains[j].w;
        }
        Tiles::put_rounded(x_ + (first + j * kStepWarps) * Tiles::kUnitWords, lane(), v);
      }
    }
    if (norm) {
      squares = warp_sum(squares);
      if (lane() == 0) shared_.squares[buffer_][warp()] = squares;
      squares_ = shared_.squares[buffer_];
    }
    __syncwarp();
  }

  // What the norm multiplies with: it comes last, so that nobody waits for all squares before the product.
  __device__ float norm_factor(int k) const {
    float sum = 0;
#pragma unroll
    for (int w = 0; w < kStepWarps; w += 4) {
      const float4 four = *reinterpret_cast<const float4*>(squares_ + w);
      sum += four.x + four.y + (four.z + four.w);
    }
    return rsqrtf(sum / static_cast<float>(k) + params_.eps);
  }

  // Multiplies the block's tiles with the input; calls put(tile, row of the tile, sum) in warps as a whole, also with rows behind the last.
  template <class Put>
  __device__ void multiply(StepProduct product, Put&& put) {
    const OwnTiles own(params_.products[product]);
    const int units = inputs(product) / kUnitInputs, active = min(kStepWarps, units);
#pragma unroll 1
    for (int first = 0; first < own.count; first += kChunkTiles) {
      const int count = min(kChunkTiles, own.count - first);
      float(*parts)[kStepWarps][kTileRows] = shared_.parts[buffer_];
      if (warp() < active) {
#pragma unroll 1
        for (int tile = 0; tile < count; ++tile) multiply_tile(units, parts[tile][warp()]);
      }
      __syncthreads();
#pragma unroll 1
      for (int i = static_cast<int>(threadIdx.x); i < round_up(count * kTileRows, kWarp); i += kStepThreads) {
        const int tile = i / kTileRows, row = i % kTileRows;
        float sum = 0;
        for (int w = 0; w < active; ++w) sum += parts[tile][w][row];
        put(first + tile, row, sum);
      }
      buffer_ ^= 1;
    }
  }

  __device__ void multiply_tile(int units, float* to) {
    typename Tiles::Sums sums;
#pragma unroll 1
    for (int unit = warp(); unit < units; unit += kStepWarps) {
#pragma unroll
      for (int part = 0; part < StepWalk<Tiles>::kPerUnit; ++part) {
        wait_stages<Tiles::kSlots - 1>();
        __syncwarp();
        sums.add(slots_[slot_], x_ + unit * Tiles::kUnitWords, unit * StepWalk<Tiles>::kPerUnit + part, lane());
        walk_.ask(slots_[slot_]);
        slot_ = slot_ + 1 == Tiles::kSlots ? 0 : slot_ + 1;
      }
    }
    sums.put(to, lane());
  }

  // The output that a row of a tile is, or -1; not of gate and up.
  __device__ static int output_of(const OwnTiles& own, int tile, int row) {
    const int group = own.begin + 2 * tile + row / kHalfTile;
    return group < own.end ? group * kHalfTile + row % kHalfTile : -1;
  }

  // q, k and v, rotated; the last two into the cache as well.
  __device__ void project() {
    const OwnTiles own(params_.products[kQkv]);
    ask_for_cache();
    if (own.count == 0) return;
    const float* norm = layers_[layer_].norms[0];
    if (layer_ == 0) {
      take_input<false>(params_.x, 0, norm, width());
    } else {
      take_input<true>(own_copy(params_.end, width()), bit_ ^ 1, norm, width());
    }
    multiply(kQkv, [&](int tile, int row, float sum) {
      const float y = sum * norm_factor(width()), other = __shfl_xor_sync(kAllLanes, y, 1);
      const int n = output_of(own, tile, row);
      if (n < 0) return;
      const int head = n / kDim, d = n % kDim;
      float value = y;
      if (head < params_.heads + params_.kv_heads && d / 2 < params_.half) {
        const float c = shared_.cos[d / 2], s = shared_.sin[d / 2];
        value = d % 2 ? other * s + y * c : y * c - other * s;
      }
      if (head >= params_.heads) value = append(head - params_.heads, d, value);
      put_word(params_.qkv + n, value, bit_);
    });
  }

  // The value as the cache has it.
  __device__ float append(int head, int d, float value) const {
    const bool is_value = head >= params_.kv_heads;
    T* const part = reinterpret_cast<T*>(head_of(position_ / kPage, is_value ? head - params_.kv_heads : head) +
                                         (is_value ? params_.cache.layout.values : 0));
    const int slot = position_ % kPage;
    const T rounded = from_float<T>(value);
    part[is_value ? slot * params_.cache.layout.value_stride + d : d * kPage + slot] = rounded;
    return to_float(rounded);
  }

  // A kv head's part of the sequence's page.
  __device__ std::byte* head_of(int page, int kv_head) const {
    const KvLayout& layout = params_.cache.layout;
    return params_.cache.pages + layer_ * params_.layer_bytes + params_.page_table[page] * layout.page_bytes +
           kv_head * layout.head_bytes;
  }

  // Short contexts: a block for each head. Long ones: a block for each kv head, up to four of its heads, and share of the positions.
  __device__ void attend() {
    const int block = static_cast<int>(blockIdx.x), units = (position_ + kUnit - 1) / kUnit;
    const int group = params_.heads / params_.kv_heads;
    if (position_ <= kShortContext) {
      if (block >= params_.heads) return;
      attend_units<1>(block / group, block, 1, 0, units, true, [&](int, int d, float out, float, float sum) {
        put_copies(params_.attended + block * kDim + d, params_.heads * kDim, out / sum, bit_);
      });
      return;
    }
    const uint32_t bit = (params_.times[1] + static_cast<uint32_t>(layer_)) & 1;
    if (block < params_.kv_heads * params_.chunks * params_.shares) {
      const int share = block % params_.shares, chunk = block / params_.shares % params_.chunks, kv_head = block / params_.shares / params_.chunks;
      const int per_share = (units + params_.shares - 1) / params_.shares, first_head = kv_head * group + chunk * 4;
      const int first = min(units, share * per_share), last = min(units, first + per_share);
      attend_units<4>(kv_head, first_head, min(4, group - chunk * 4), first, last, share == params_.shares - 1,
                      [&](int h, int d, float out, float peak, float sum) {
                        uint32_t* part = params_.partial + ((first_head + h) * params_.shares + share) * (kDim + 2);
                        put_word(part + d, out, bit);
                        if (d == 0) {
                          put_word(part + kDim, peak, bit);
                          put_word(part + kDim + 1, sum, bit);
                        }
                      });
    }
    if (block < params_.heads) merge_shares(block, bit);
  }

  // Attention of `heads` heads from first_head on over units [first, last) of the positions before the step's own, and over that one with
  // `own`. Calls put(head, d, sum, peak, sum of weights).
  template <int kHeads, class Put>
  __device__ void attend_units(int kv_head, int first_head, int heads, int first, int last, bool own, Put&& put) {
    auto& space = *reinterpret_cast<AttentionSpace<kDim, kHeads>*>(x_);  // nobody's input is there now
    load_heads(space, kv_head, first_head, heads);
    __syncthreads();
    const ScoreRule rule = {params_.score_scale, 0, nullptr, nullptr};
    if (own && warp() < heads) {
      float score = 0;
      for (int d = lane(); d < kDim; d += kWarp) score = fmaf(space.q[d].at[warp()], space.key[d], score);
      score = warp_sum(score);
      if (lane() == 0) space.scores[warp()] = score * params_.score_scale;
    }
    const int used = min(kStepWarps, last - first);
    if (warp() < used) {
      UnitState<T, kDim, kHeads> state;
#pragma unroll 1
      for (int unit = first + warp(); unit < last; unit += kStepWarps) {
        const KvLayout& layout = params_.cache.layout;
        const std::byte* head = head_of(unit / kUnitsPerPage, kv_head);
        const int slot = unit % kUnitsPerPage * kUnit, start = unit * kUnit;
        state.add(reinterpret_cast<const T*>(head) + slot,
                  reinterpret_cast<const T*>(head + layout.values) + slot * layout.value_stride, layout.value_stride, space.q,
                  space.weights[warp()], rule, first_head, 0, min(kUnit, position_ - start), 0);
      }
      state.put(space.outs[warp()], space.peaks[warp()], space.sums[warp()]);
    }
    __syncthreads();
    for (int i = static_cast<int>(threadIdx.x); i < heads * kDim; i += kStepThreads) {
      const int h = i / kDim;
      float peak = own ? space.scores[h] : -INFINITY;
      for (int w = 0; w < used; ++w) peak = fmaxf(peak, space.peaks[w][h]);
      float sum = own ? exp2f(space.scores[h] - peak) : 0, out = own ? sum * space.value[i % kDim] : 0;
      for (int w = 0; w < used; ++w) {
        const float factor = rescale(space.peaks[w][h], peak);
        sum = fmaf(space.sums[w][h], factor, sum);
        out = fmaf(space.outs[w][i], factor, out);
      }
      put(h, i % kDim, out, peak, sum);
    }
  }

  // The step's queries, a warp for each head, and its own key and value.
  template <int kHeads>
  __device__ void load_heads(AttentionSpace<kDim, kHeads>& space, int kv_head, int first_head, int heads) {
    if (warp() >= kHeads + 2) return;
    const int head = warp() < kHeads ? first_head + min(warp(), heads - 1) : params_.heads + kv_head + (warp() - kHeads) * params_.kv_heads;
    const uint32_t* const from[1] = {params_.qkv + head * kDim + lane() * 4};
    const bool wanted[1] = {lane() < kDim / 4};
    uint4 words[1];
    get(from, wanted, bit_, patience_, words);
    if (!wanted[0]) return;
    const float v[4] = {number(words[0].x), number(words[0].y), number(words[0].z), number(words[0].w)};
    for (int i = 0; i < 4; ++i) {
      const int d = lane() * 4 + i;
      if (warp() < kHeads) {
        space.q[d].at[warp()] = v[i];
      } else {
        (warp() == kHeads ? space.key : space.value)[d] = v[i];
      }
    }
  }

  // A head's result from its shares: a thread for each dimension.
  __device__ void merge_shares(int head, uint32_t bit) {
    constexpr int kLoads = 8;
    const int d = static_cast<int>(threadIdx.x);
    if (d >= kDim) return;
    const uint32_t* parts = params_.partial + head * params_.shares * (kDim + 2);
    const bool has_share = lane() < params_.shares;
    const uint32_t* own = parts + lane() * (kDim + 2) + kDim;
    const float own_peak = has_share ? get(own, bit, patience_) : -INFINITY, own_sum = has_share ? get(own + 1, bit, patience_) : 0;
    __syncwarp();
    const float peak = warp_max(own_peak), factor = rescale(own_peak, peak), sum = warp_sum(own_sum * factor);
    float out = 0;
#pragma unroll 1
    for (int first = 0; first < params_.shares; first += kLoads) {
      uint32_t words[kLoads];
#pragma unroll
      for (int i = 0; i < kLoads; ++i) words[i] = peek(parts + min(first + i, params_.shares - 1) * (kDim + 2) + d);
#pragma unroll
      for (int i = 0; i < kLoads; ++i) {
        const bool inside = first + i < params_.shares;
        const float weight = __shfl_sync(kAllLanes, factor, min(first + i, kWarp - 1));
        if (!inside) continue;
        const float value = (words[i] ^ bit) & 1 ? get(parts + (first + i) * (kDim + 2) + d, bit, patience_) : number(words[i]);
        out = fmaf(value, weight, out);
      }
    }
    put_copies(params_.attended + head * kDim + d, params_.heads * kDim, out / sum, bit_);
  }

  // Brings what a block's warps will attend to nearer, while the projection is computed.
  __device__ void ask_for_cache() const {
    const int block = static_cast<int>(blockIdx.x);
    if (position_ > kShortContext || block >= params_.heads || warp() * kUnit >= position_) return;
    prefetch_unit<T, kDim>(head_of(warp() / kUnitsPerPage, block * params_.kv_heads / params_.heads), params_.cache.layout,
                           warp() % kUnitsPerPage * kUnit);
  }

  // x += what a product gives, handed over.
  __device__ void accumulate(StepProduct product, uint32_t* to) {
    const OwnTiles own(params_.products[product]);
    multiply(product, [&](int tile, int row, float sum) {
      const int n = output_of(own, tile, row);
      if (n < 0 || n >= width()) return;
      float& residual = shared_.residual[n - own.begin * kHalfTile];
      residual += sum;
      put_copies(to + n, width(), residual, bit_);
    });
  }

  __device__ void take_attended() {
    if (OwnTiles(params_.products[kOutput]).count == 0) return;
    take_input<true>(own_copy(params_.attended, inputs(kOutput)), bit_, nullptr, inputs(kOutput));
    accumulate(kOutput, params_.middle);
  }

  __device__ void feed_forward() {
    const OwnTiles own(params_.products[kGateUp]);
    if (own.count > 0) {
      take_input<true>(own_copy(params_.middle, width()), bit_, layers_[layer_].norms[1], width());
      multiply(kGateUp, [&](int tile, int row, float sum) {
        const float y = sum * norm_factor(width()), up = __shfl_xor_sync(kAllLanes, y, kHalfTile);
        if (row >= kHalfTile || own.begin + tile >= own.end) return;
        put_copies(params_.hidden + (own.begin + tile) * kHalfTile + row, inputs(kDown), silu(y) * up, bit_);
      });
    }
    if (OwnTiles(params_.products[kDown]).count == 0) return;
    take_input<true>(own_copy(params_.hidden, inputs(kDown)), bit_, nullptr, inputs(kDown));
    accumulate(kDown, params_.end);
  }

  __device__ void write_logits() {
    const OwnTiles own(params_.products[kHead]);
    if (own.count == 0) return;
    take_input<true>(own_copy(params_.end, width()), bit_, params_.final_norm, width());
    multiply(kHead, [&](int tile, int row, float sum) {
      const int n = output_of(own, tile, row);
      if (n >= 0 && n < params_.products[kHead].rows[0]) params_.logits[n] = sum * norm_factor(width());
    });
  }

  const StepParams& params_;
  StepShared& shared_;
  Slot* slots_;  // the warp's
  uint4* x_;
  const LayerWeights* layers_;
  StepWalk<Tiles> walk_;
  Patience patience_;
  const float* squares_ = nullptr;  // of the input
  uint32_t times_ = 0, bit_ = 0;
  int position_ = 0, layer_ = 0;
  int slot_ = 0, buffer_ = 0;
};

}  // namespace wick::cuda
