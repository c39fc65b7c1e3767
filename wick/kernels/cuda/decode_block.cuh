// A block's part of a decode step. Blocks hand their results over through the second cache, while the weights of what comes next are on
// their way all the time.
#pragma once

#include "wick/kernels/cuda/brief_attention.cuh"
#include "wick/kernels/cuda/decode_parts.cuh"
#include "wick/kernels/cuda/hand_over.cuh"
#include "wick/kernels/cuda/unit_attention.cuh"

namespace wick::cuda {

inline constexpr int kChunkRounds = 8;     // of tiles that the warps take at a time, between two barriers
inline constexpr int kMostOwnRows = 256;   // of the residual stream, in a block
inline constexpr int kTogetherUnits = 4;   // of a warp's input that are on their way
inline constexpr int kMostShares = kWarp;  // of a long context
inline constexpr int kMostHalf = 64;       // of the dimensions that are rotated
inline constexpr int kShortContext = 512;  // positions that one block attends to

// What a block needs to attend with one head to a short context.
template <int kDim>
struct BriefSpace {
  float q[kDim], key[kDim], value[kDim];  // key and value of the step's own position
  float outs[kStepWarps][kDim], peaks[kStepWarps], sums[kStepWarps];
  float score;  // of the step's own position
};

// What it needs with several heads to a share of a long one.
template <class T, int kDim>
struct GroupSpace {
  UnitQueries<T, kDim> q;
  float outs[kStepWarps][kGroupHeads * kDim], peaks[kStepWarps][kGroupHeads], sums[kStepWarps][kGroupHeads];
  float key[kDim], value[kDim], scores[kGroupHeads];  // the step's own position
};

struct StepShared {
  float parts[2][kChunkRounds][kStepWarps][kTileRows];  // two in turn, so that one barrier is enough
  alignas(16) float squares[2][kStepWarps];             // likewise
  float residual[kMostOwnRows];
  float cos[kMostHalf], sin[kMostHalf];  // of the position
  OwnTiles own[kStepProducts];
};

// kLong: for contexts of any length, else for those of up to kShortContext positions before the step's own.
template <class Tiles, class T, int kDim, bool kLong>
class DecodeBlock {
 public:
  using Slot = typename Tiles::Slot;

  __device__ DecodeBlock(const StepParams& params, StepShared& shared, Slot* slots, uint4* x, const LayerWeights* layers)
      : params_(params),
        shared_(shared),
        slots_(slots + warp() * Tiles::kSlots),
        x_(x),
        layers_(layers),
        walk_(params, layers, shared.own) {
#pragma unroll 1
    for (int s = 0; s < Tiles::kSlots; ++s) walk_.ask(slots_[s]);
  }

  __device__ void run() {
    begin();
    int product = kQkv;
#pragma unroll 1
    while (true) {  // one copy of the code for all products: it has to be fetched, too
      bit_ = (times_ + static_cast<uint32_t>(layer_)) & 1;
      if (product == kQkv) ask_for_cache();
      if (shared_.own[product].count > 0) {
        take_input(product);
        multiply(product);
      }
      if (product == kHead) break;
      if (product == kQkv) attend();
      if (++product == kHead && layer_ + 1 < params_.layer_count) {
        ++layer_;
        product = kQkv;
      }
    }
    finish();
  }

 private:
  __device__ static int warp() { return static_cast<int>(threadIdx.x) / kWarp; }
  __device__ static int lane() { return static_cast<int>(threadIdx.x) % kWarp; }
  __device__ const uint32_t* own_copy(const uint32_t* buffer, int words) const {
    return buffer + static_cast<int>(blockIdx.x) % kCopies * words;
  }
  __device__ int inputs(int product) const { return params_.products[product].k; }
  __device__ int width() const { return inputs(kQkv); }

  __device__ void begin() {
    times_ = params_.times[0];
    position_ = *params_.position;
    for (int i = static_cast<int>(threadIdx.x); i < params_.half; i += kStepThreads) {
      shared_.cos[i] = params_.cos[int64_t{position_} * params_.half + i];
      shared_.sin[i] = params_.sin[int64_t{position_} * params_.half + i];
    }
    const OwnTiles& own = shared_.own[kOutput];
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
    if (kLong) params_.times[1] += static_cast<uint32_t>(params_.layer_count);
  }

  // The warp's units of a product's input, rounded. The squares are summed where there is a norm.
  __device__ void take_input(int product) {
    const int k = inputs(product);
    const uint32_t* from;
    const float* norm = nullptr;
    uint32_t bit = bit_, kept = ~1u;  // what of a word is the number
    switch (product) {
      case kQkv:
        from = own_copy(params_.end, k);
        bit ^= 1;  // the layer before wrote it
        norm = layers_[layer_].norms[0];
        if (layer_ == 0) {
          from = reinterpret_cast<const uint32_t*>(params_.x);
          kept = ~0u;
        }
        break;
      case kOutput: from = own_copy(params_.attended, k); break;
      case kGateUp:
        from = own_copy(params_.middle, k);
        norm = layers_[layer_].norms[1];
        break;
      case kDown: from = own_copy(params_.hidden, k); break;
      default: from = own_copy(params_.end, k); norm = params_.final_norm;
    }
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
        places[j] = from + at;
        if (norm && wanted[j]) gains[j] = *reinterpret_cast<const float4*>(norm + at);
      }
      get(places, wanted, bit, ~kept, patience_, words);
#pragma unroll
      for (int j = 0; j < kTogetherUnits; ++j) {
        if (!wanted[j]) continue;
        float v[4] = {__uint_as_float(words[j].x & kept), __uint_as_float(words[j].y & kept), __uint_as_float(words[j].z & kept),
                      __uint_as_float(words[j].w & kept)};
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
    if ((1 << shared_.own[product].split) < kStepWarps) {
      __syncthreads();  // a share has units of several warps
    } else {
      __syncwarp();
    }
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

  // Multiplies the block's tiles with the input, and hands the results over.
  __device__ void multiply(int product) {
    const OwnTiles own = shared_.own[product];
    const int together = own.together(), share = warp() & ((1 << own.split) - 1);
#pragma unroll 1
    for (int first = 0; first < own.count; first += kChunkRounds * together) {
      const int count = min(kChunkRounds * together, own.count - first);
      float(*parts)[kStepWarps][kTileRows] = shared_.parts[buffer_];
#pragma unroll 1
      for (int tile = warp() >> own.split, round = 0; tile < count; tile += together, ++round) {
        multiply_tile(share, 1 << own.split, own.units, parts[round][warp()]);
      }
      __syncthreads();
#pragma unroll 1
      for (int i = static_cast<int>(threadIdx.x); i < round_up(count * kTileRows, kWarp); i += kStepThreads) {
        const int tile = i / kTileRows, row = i % kTileRows;
        const float sum = sum_of(&parts[0][tile << own.split][row], 1 << own.split);  // rounds follow each other
        hand_over(product, own, first + tile, row, sum);
      }
      buffer_ ^= 1;
    }
  }

  // Of a row's shares, which are loaded together.
  __device__ static float sum_of(const float* parts, int shares) {
    constexpr int kLoads = 8;
    float sum = 0;
#pragma unroll 1
    for (int first = 0; first < shares; first += kLoads) {
      float x[kLoads];
#pragma unroll
      for (int i = 0; i < kLoads; ++i) x[i] = first + i < shares ? parts[(first + i) * kTileRows] : 0;
      sum += x[0] + x[1] + (x[2] + x[3]) + (x[4] + x[5] + (x[6] + x[7]));
    }
    return sum;
  }

  __device__ void multiply_tile(int share, int shares, int units, float* to) {
    constexpr int kUnitStages = StepWalk<Tiles>::kPerUnit;
    typename Tiles::Sums sums;
#pragma unroll 1
    for (int unit = share; unit < units; unit += shares) {
#pragma unroll
      for (int i = 0; i < kUnitStages; ++i) {
        wait_stages<Tiles::kSlots - 1>();
        __syncwarp();
        sums.add(slots_[slot_], x_ + unit * Tiles::kUnitWords, unit * kUnitStages + i, lane());
        __syncwarp();  // lanes have read each other's
        walk_.ask(slots_[slot_]);
        slot_ = slot_ + 1 == Tiles::kSlots ? 0 : slot_ + 1;
      }
    }
    sums.put(to, lane());
  }

  // What a product makes of a row of a tile goes where it is read next. Called by warps as a whole, also with rows behind the last.
  __device__ void hand_over(int product, const OwnTiles& own, int tile, int row, float sum) {
    if (product == kOutput || product == kDown) {
      accumulate(own, tile, row, sum, product == kOutput ? params_.middle : params_.end);
      return;
    }
    sum *= norm_factor(width());
    if (product == kQkv) {
      project(own, tile, row, sum);
    } else if (product == kGateUp) {
      const float up = __shfl_xor_sync(kAllLanes, sum, kHalfTile);
      if (row >= kHalfTile || own.begin + tile >= own.end) return;
      put_copies(params_.hidden + (own.begin + tile) * kHalfTile + row, inputs(kDown), silu(sum) * up, bit_);
    } else {
      const int n = output_of(own, tile, row);
      if (n >= 0 && n < params_.products[kHead].rows[0]) params_.logits[n] = sum;
    }
  }

  // The output that a row of a tile is, or -1; not of gate and up.
  __device__ static int output_of(const OwnTiles& own, int tile, int row) {
    const int group = own.begin + 2 * tile + row / kHalfTile;
    return group < own.end ? group * kHalfTile + row % kHalfTile : -1;
  }

  // Of q, k and v, rotated; the last two into the cache as well.
  __device__ void project(const OwnTiles& own, int tile, int row, float y) {
    const float other = __shfl_xor_sync(kAllLanes, y, 1);
    const int n = output_of(own, tile, row);
    if (n < 0) return;
    const int head = n / kDim, d = n % kDim;
    float value = y;
    if (head < params_.heads + params_.kv_heads && d / 2 < params_.half) {
      const float c = shared_.cos[d / 2], s = shared_.sin[d / 2];
      value = d % 2 ? other * s + y * c : y * c - other * s;
    }
    if (head >= params_.heads) value = to_float(from_float<T>(value));  // as the cache has it
    put_word(params_.qkv + n, value, bit_);
    if (head >= params_.heads) append(head - params_.heads, d, value);
  }

  // x += what a product gives.
  __device__ void accumulate(const OwnTiles& own, int tile, int row, float sum, uint32_t* to) {
    const int n = output_of(own, tile, row);
    if (n < 0 || n >= width()) return;
    float& residual = shared_.residual[n - own.begin * kHalfTile];
    residual += sum;
    put_copies(to + n, width(), residual, bit_);
  }

  __device__ void append(int head, int d, float value) const {
    const bool is_value = head >= params_.kv_heads;
    T* const part = reinterpret_cast<T*>(head_of(position_ / kPage, is_value ? head - params_.kv_heads : head) +
                                         (is_value ? params_.cache.layout.values : 0));
    const int slot = position_ % kPage;
    part[is_value ? slot * params_.cache.layout.value_stride + d : d * kPage + slot] = from_float<T>(value);
  }

  // A kv head's part of the sequence's page.
  __device__ std::byte* head_of(int page, int kv_head) const {
    const KvLayout& layout = params_.cache.layout;
    return params_.cache.pages + layer_ * params_.layer_bytes + params_.page_table[page] * layout.page_bytes + kv_head * layout.head_bytes;
  }

  __device__ void attend() {
    if constexpr (kLong) {
      attend_in_shares();
    } else {
      attend_to_all();
    }
  }

  // A block for each head.
  __device__ void attend_to_all() {
    const int head = static_cast<int>(blockIdx.x);
    if (head >= params_.heads) return;
    const int kv_head = head / (params_.heads / params_.kv_heads);
    auto& space = *reinterpret_cast<BriefSpace<kDim>*>(x_);  // nobody's input is there now
    const int chunks = (position_ + kChunk - 1) / kChunk, used = min(kStepWarps, chunks);
    typename BriefState<T, kDim>::Chunk chunk;
    if (warp() < used) load(chunk, warp(), kv_head);  // while the query is on its way
    if (warp() == 0) take_head(head, space.q);
    if (warp() == 1) take_head(params_.heads + kv_head, space.key);
    if (warp() == 2) take_head(params_.heads + params_.kv_heads + kv_head, space.value);
    __syncthreads();
    if (warp() == kStepWarps - 1) {
      float score = 0;
      for (int d = lane(); d < kDim; d += kWarp) score = fmaf(space.q[d], space.key[d], score);
      score = warp_sum(score);
      if (lane() == 0) space.score = score * params_.score_scale;
    }
    if (warp() < used) {
      BriefState<T, kDim> state;
#pragma unroll 1
      for (int c = warp(); c < chunks; c += kStepWarps) {
        if (c != warp()) load(chunk, c, kv_head);
        state.add(chunk, space.q, params_.score_scale, position_ - c * kChunk);
      }
      state.put(space.outs[warp()], space.peaks[warp()], space.sums[warp()]);
    }
    __syncthreads();
    if (const int d = static_cast<int>(threadIdx.x); d < kDim) {
      const bool has_part = lane() < used;
      const float own_peak = has_part ? space.peaks[lane()] : -INFINITY, own_sum = has_part ? space.sums[lane()] : 0;
      const float peak = fmaxf(space.score, warp_max(own_peak));
      const float factor = rescale(own_peak, peak), weight = exp2f(space.score - peak), sum = warp_sum(own_sum * factor) + weight;
      float out = weight * space.value[d];
#pragma unroll 4
      for (int w = 0; w < used; ++w) out = fmaf(space.outs[w][d], __shfl_sync(kAllLanes, factor, w), out);
      put_copies(params_.attended + head * kDim + d, params_.heads * kDim, out / sum, bit_);
    }
    __syncthreads();  // the next input comes where this was
  }

  __device__ void load(typename BriefState<T, kDim>::Chunk& chunk, int index, int kv_head) const {
    const KvLayout& layout = params_.cache.layout;
    const std::byte* head = head_of(index / kChunksPerPage, kv_head);
    const int slot = index % kChunksPerPage * kChunk;
    chunk.load(reinterpret_cast<const T*>(head) + slot, reinterpret_cast<const T*>(head + layout.values) + slot * layout.value_stride,
               layout.value_stride, position_ - index * kChunk);
  }

  // What a block attends to of a long context: up to kGroupHeads heads of a group, units [first, last) of the positions.
  struct Share {
    int number, kv_head, first_head, heads, first, last;
  };
  __device__ bool has_share() const { return static_cast<int>(blockIdx.x) < params_.kv_heads * params_.chunks * params_.shares; }
  __device__ Share share() const {
    const int block = static_cast<int>(blockIdx.x), group = params_.heads / params_.kv_heads, units = (position_ + kUnit - 1) / kUnit;
    const int chunk = block / params_.shares % params_.chunks, per_share = (units + params_.shares - 1) / params_.shares;
    Share own;
    own.number = block % params_.shares;
    own.kv_head = block / params_.shares / params_.chunks;
    own.first_head = own.kv_head * group + chunk * kGroupHeads;
    own.heads = min(kGroupHeads, group - chunk * kGroupHeads);
    own.first = min(units, own.number * per_share);
    own.last = min(units, own.first + per_share);
    return own;
  }

  __device__ void attend_in_shares() {
    const uint32_t bit = (params_.times[1] + static_cast<uint32_t>(layer_)) & 1;
    if (has_share()) {
      const Share own = share();
      attend_units(own, [&](int h, int d, float out, float peak, float sum) {
        uint32_t* part = params_.partial + ((own.first_head + h) * params_.shares + own.number) * (kDim + 2);
        put_word(part + d, out, bit);
        if (d == 0) {
          put_word(part + kDim, peak, bit);
          put_word(part + kDim + 1, sum, bit);
        }
      });
    }
    if (const int head = static_cast<int>(blockIdx.x); head < params_.heads) merge_shares(head, bit);
  }

  // Attention of a share's heads over its units of the positions before the step's own; the last share has that one, too. Calls put(head,
  // d, sum, peak, sum of weights).
  template <class Put>
  __device__ void attend_units(const Share& share, Put&& put) {
    auto& space = *reinterpret_cast<GroupSpace<T, kDim>*>(x_);  // nobody's input is there now
    const int used = min(kStepWarps, share.last - share.first), heads = share.heads;
    const bool own = share.number == params_.shares - 1;
    load_heads(space, share);
    __syncthreads();
    const ScoreRule rule = {params_.score_scale, 0, nullptr, nullptr};
    if (const int h = kStepWarps - 1 - warp(); own && h < heads) {
      float score = 0;
      for (int d = lane(); d < kDim; d += kWarp) score = fmaf(space.q.get(h, d), space.key[d], score);
      score = warp_sum(score);
      if (lane() == 0) space.scores[h] = score * params_.score_scale;
    }
    if (warp() < used) {
      UnitState<T, kDim> state;
#pragma unroll 1
      for (int unit = share.first + warp(); unit < share.last; unit += kStepWarps) {
        const KvLayout& layout = params_.cache.layout;
        const std::byte* head = head_of(unit / kUnitsPerPage, share.kv_head);
        const int slot = unit % kUnitsPerPage * kUnit;
        state.add(reinterpret_cast<const T*>(head) + slot, reinterpret_cast<const T*>(head + layout.values) + slot * layout.value_stride,
                  layout.value_stride, space.q, rule, share.first_head, heads, 0, min(kUnit, position_ - unit * kUnit), 0);
      }
      state.put(heads, space.outs[warp()], space.peaks[warp()], space.sums[warp()]);
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
    __syncthreads();  // the next input comes where this was
  }

  // The step's queries, a warp for each head, and its own key and value.
  __device__ void load_heads(GroupSpace<T, kDim>& space, const Share& share) {
    if (warp() < kGroupHeads) {
      take_head(share.first_head + min(warp(), share.heads - 1), [&](int d, float x) { space.q.put(warp(), d, x); });
    } else if (warp() < kGroupHeads + 2) {
      const bool is_key = warp() == kGroupHeads;
      take_head(params_.heads + share.kv_head + (is_key ? 0 : params_.kv_heads), is_key ? space.key : space.value);
    }
  }

  // A head of the projections: calls put(d, x).
  template <class Put>
  __device__ void take_head(int head, Put&& put) {
    const uint32_t* const from[1] = {params_.qkv + head * kDim + lane() * 4};
    const bool wanted[1] = {lane() < kDim / 4};
    uint4 words[1];
    get(from, wanted, bit_, 1, patience_, words);
    if (!wanted[0]) return;
    const float v[4] = {number(words[0].x), number(words[0].y), number(words[0].z), number(words[0].w)};
    for (int i = 0; i < 4; ++i) put(lane() * 4 + i, v[i]);
  }
  __device__ void take_head(int head, float* to) {
    take_head(head, [=](int d, float x) { to[d] = x; });
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
    const int head = static_cast<int>(blockIdx.x), unit = warp();
    if (kLong || head >= params_.heads || unit * kUnit >= position_) return;
    prefetch_unit<T, kDim>(head_of(unit / kUnitsPerPage, head * params_.kv_heads / params_.heads), params_.cache.layout,
                           unit % kUnitsPerPage * kUnit);
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
