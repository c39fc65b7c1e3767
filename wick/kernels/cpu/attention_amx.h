// Attention of plain bf16 tensors with AMX: q · k takes its factors without rounding, p · v takes p in two parts of bf16.
#pragma once

#include <cstdint>

#include "wick/base/machine.h"

namespace wick::cpu {

inline constexpr int64_t kSumLanes = 16;  // of the widest vector

// Rows and a page of 64 keys. A row sees the keys [lo, hi) of it, lo = hi = 0 where none.
struct TileJob {
  const uint32_t* q;       // [rows, pairs] of bf16
  int64_t pairs;           // a multiple of 16
  const uint32_t* keys;    // [pairs, 64], as PairKernels::keys writes them
  const uint32_t* values;  // [32, columns], as TileKernels::values does
  int64_t columns;         // of v, a multiple of 16
  const int64_t *lo, *hi;
  int64_t rows;
  float factor;  // scores are q · k times it, exponents of 2
  // A row's running softmax: the peak that its weights are under, at most 8 below its highest score; their sum by lanes; p · v.
  float *m, *l, *o;  // [rows], [rows, kSumLanes], [rows, columns]
};

struct TileKernels {
  // out[i, n] = (v[2i, n], v[2i + 1, n]), i < 32, n < columns, out's rows ldo apart; zero for keys >= count. Whether all of them are
  // finite.
  bool (*values)(const uint16_t* v, int64_t row_stride, int64_t count, int64_t columns, int64_t ldo, uint32_t* out);
  // Goes on with each row's softmax. q · k in the order of TDPBF16PS (bf16_panels_amx.cc); a row's results do not depend on others.
  void (*attend)(const TileJob& job);
};

// Null where the instruction set has none for heads of this size.
const TileKernels* tile_kernels(Isa isa, int64_t head_dim);

}  // namespace wick::cpu
