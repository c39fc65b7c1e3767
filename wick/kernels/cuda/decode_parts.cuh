// What the one kernel of a decode step is given, and the walk of a warp through all weights of a step.
#pragma once

#include "wick/kernels/cuda/weight_tiles.cuh"
#include "wick/kernels/kv_page.h"

namespace wick::cuda {

inline constexpr int kStepWarps = 16;
inline constexpr int kStepThreads = kStepWarps * kWarp;

// The products of a layer in their order, and the one that follows the last layer.
enum StepProduct : int { kQkv, kOutput, kGateUp, kDown, kHead, kStepProducts };
inline constexpr int kMostParts = 3;   // segments of a product
inline constexpr int kGroupHeads = 4;  // of a group that a block attends with at a time, to a long context

// The same in every layer.
struct ProductShape {
  int k;
  int groups;  // of 8 outputs; of gate and up as many pairs
  int parts;
  int ends[kMostParts];  // of each segment's groups
  int rows[kMostParts];
  TilePlanes planes[kMostParts];
  int first_weight;  // of LayerWeights
  int split;         // log2 of the shares of a tile
  bool swiglu;       // a tile is 8 gates and their 8 ups
};

struct LayerWeights {
  const float* norms[2];        // before attention, before the feed-forward
  const std::byte* weights[7];  // q, k, v, output, gate, up, down
};

struct StepParams {
  ProductShape products[kStepProducts];
  const LayerWeights* layers;
  int layer_count;
  const float* final_norm;
  const std::byte* head;
  float eps;
  int heads, kv_heads;
  float score_scale;   // log2 e included
  int chunks, shares;  // of a group's heads, of a long context's positions

  // Buffers that are handed over, see hand_over.cuh: after attention's half of a layer and after the feed-forward's, projections, what
  // attention gives, and the feed-forward's inside; and the shares of a long context.
  uint32_t *middle, *end, *qkv, *attended, *hidden, *partial;
  uint32_t* times;  // how often they were written: all but the last, the last
  uint64_t* fault;

  const float* x;
  const float *cos, *sin;
  int half;
  const int32_t *position, *page_table;
  KvLayerView cache;
  int64_t layer_bytes;
  float* logits;
};

// What a block has of a product: tiles, each in 1 << split shares of its units of input. Warp w takes share w % (1 << split) of every
// (kStepWarps >> split)-th tile from w >> split on.
struct OwnTiles {
  int begin, end;    // groups
  int count, split;  // tiles, log2 of their shares
  int units;         // of the input

  OwnTiles() = default;
  __device__ explicit OwnTiles(const ProductShape& shape) {
    const auto groups = static_cast<unsigned>(shape.groups);  // times blocks far below 2^32
    begin = static_cast<int>(blockIdx.x * groups / gridDim.x);
    end = static_cast<int>((blockIdx.x + 1) * groups / gridDim.x);
    count = shape.swiglu ? end - begin : (end - begin + 1) / 2;
    split = shape.split;
    units = shape.k / kUnitInputs;
  }
  __device__ int together() const { return kStepWarps >> split; }  // tiles that the warps take at a time
};

// The stages that a warp takes, in order.
template <class Tiles>
class StepWalk {
 public:
  static constexpr int kPerUnit = Tiles::kStages;

  // own: of all products
  __device__ StepWalk(const StepParams& params, const LayerWeights* layers, const OwnTiles* own)
      : params_(params), layers_(layers), own_(own) {
    begin_product();
  }

  // Asks for the next one, if there is one.
  __device__ void ask(typename Tiles::Slot& slot) {
    asm volatile("" ::: "memory");  // what was in the slot has been read
    if (product_ < kStepProducts) {
      source_.ask(slot, stage_, lane(), policy_);
      ++stage_;
      if (kPerUnit == 1 || stage_ % kPerUnit == 0) stage_ += step_;
      if (stage_ >= stages_) begin_next();
    }
    end_stage();
  }

 private:
  __device__ static int warp() { return static_cast<int>(threadIdx.x) / kWarp; }
  __device__ static int lane() { return static_cast<int>(threadIdx.x) % kWarp; }

  __device__ void begin_next() {
    tile_ += together_;
    if (tile_ < tiles_) {
      begin_tile();
    } else {
      begin_product();
    }
  }

  __device__ void begin_product() {
    do {
      if (++product_ == kHead && ++layer_ < params_.layer_count) product_ = kQkv;
      if (product_ == kStepProducts) return;
      const OwnTiles& own = own_[product_];
      const int shares = 1 << own.split;
      first_stage_ = (warp() & (shares - 1)) * kPerUnit;
      together_ = own.together();
      tile_ = warp() >> own.split;
      tiles_ = own.count;
      stages_ = own.units * kPerUnit;
      step_ = (shares - 1) * kPerUnit;
      end_ = own.end;
      begin_ = own.begin;
    } while (tile_ >= tiles_ || first_stage_ >= stages_);
    begin_tile();
  }

  __device__ void begin_tile() {
    stage_ = first_stage_;
    const ProductShape& shape = params_.products[product_];
    const std::byte* const* weights = product_ == kHead ? &params_.head : layers_[layer_].weights + shape.first_weight;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      int part = 0, group = begin_ + (shape.swiglu ? tile_ : 2 * tile_ + half);
      if (shape.swiglu) {
        part = half;
      } else if (half == 1) {
        source_.whole = group < end_;
        group = min(group, end_ - 1);
      }
      if (!shape.swiglu && shape.parts > 1) {
        while (group >= shape.ends[part]) ++part;
        if (part > 0) group -= shape.ends[part - 1];
      }
      const int last = shape.rows[part] - 1;
      source_.set(half, weights[part], shape.planes[part], group * kHalfTile, last, shape.k, lane());
      const int row = lane() / Tiles::kScaleLanes;
      if (row / kHalfTile == half)
        source_.set_row(weights[part], shape.planes[part], min(group * kHalfTile + row % kHalfTile, last), shape.k, lane());
    }
    if (shape.swiglu) source_.whole = true;
  }

  const StepParams& params_;
  const LayerWeights* layers_;
  const uint64_t policy_ = read_once();
  const OwnTiles* own_;
  int product_ = -1, layer_ = 0;
  int begin_, end_;  // groups of the product
  int tile_, tiles_, together_;
  int stage_, first_stage_, stages_, step_;
  typename Tiles::Source source_;
};

}  // namespace wick::cuda
