// The unit of attention work and the kernels on it, one set per instruction set: a few query positions of one sequence with all the
// query heads that share one kv head, against a range of pages. Planning and threads are in attention.cc.
#pragma once

#include <cstdint>

#include "wick/kernels/attention.h"
#include "wick/kernels/cpu/attention_amx.h"
#include "wick/kernels/cpu/attention_pairs.h"

namespace wick::cpu {

// Running softmax of M rows: maximum m, sum l by vector lane, and o [M, Dv].
struct SoftmaxState {
  float* o;
  float* m;
  float* l;  // [M, kSumLanes]

  static constexpr int64_t floats_per_row(int64_t value_stride) { return value_stride + 1 + kSumLanes; }
};

struct AttentionTile {
  const AttentionArgs* args;
  const KvLayerView* cache;
  const int32_t* table;  // pages of the sequence
  const DenseAttentionArgs* dense;  // or none: q, k, v and y are these rows, and of the cache there is only the layout
  int64_t sequence;      // dense: of the batch
  const PairKernels* pairs;  // or none: dense bf16 keys go through these products
  const TileKernels* tiles;  // or none: and, where values are finite, all of it through these
  const std::byte* then;  // a head of a page that this thread reads afterwards, or none
  int64_t kv_head;
  int64_t row;        // first row of the step
  int32_t positions;  // rows of the step
  int32_t group;      // G query heads of the kv head; M = positions * G rows here, heads within positions
  // Scratch.
  int32_t* begin;  // [M] first key that a row sees
  int32_t* end;    // [M] one past the last
  float* q;        // [M, Dh] scaled; with pairs as they are, in bf16
  float* scores;   // [M, 64]
  float* keys;     // [Dh, 64] an unpacked page; with pairs [Dh / 2, 64] of them
  float* values;   // [64, Dv]
};

struct AttentionKernels {
  // Fills q, begin and end.
  void (*load)(const AttentionTile& tile, const int32_t* row_positions);
  // state := the softmax over the keys of pages [first_page, end_page).
  void (*attend)(const AttentionTile& tile, int64_t first_page, int64_t end_page, const SoftmaxState& state);
  // total := total merged with part, which covers later keys; rows [0, rows).
  void (*merge)(const SoftmaxState& total, const SoftmaxState& part, int64_t rows, int64_t stride);
  // Writes o / l of all rows to args->out.
  void (*store)(const AttentionTile& tile, const SoftmaxState& state);
};

const AttentionKernels& attention_kernels(Isa isa);

}  // namespace wick::cpu
