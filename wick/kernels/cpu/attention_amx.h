// Attention of plain bf16 tensors with AMX: q · k takes its factors without rounding, p · v takes p in two parts of bf16.
#pragma once

#include <cstdint>

#include "wick/base/machine.h"

namespace wick::cpu {

// All for a page of 64 keys. Of rows [0, rows) each sees the keys [lo, hi) of it, lo = hi = 0 where none; 16 rows go together.
struct TileKernels {
  // c[r, t] = Σ a[r, i] · k[i, t] over `pairs` i, a multiple of 16, in the order of TDPBF16PS (bf16_panels_amx.cc); t < 64, at least as far
  // as any of the rows that go together sees. Keys as PairKernels::keys writes them.
  void (*scores)(const uint32_t* a, const uint32_t* keys, int64_t pairs, const int64_t* hi, int64_t rows, float* c);
  // out[i, n] = (v[2i, n], v[2i + 1, n]), i < 32, n < columns, out's rows ldo apart; zero for keys >= count. Whether all of them are
  // finite.
  bool (*values)(const uint16_t* v, int64_t row_stride, int64_t count, int64_t columns, int64_t ldo, uint32_t* out);
  // o[r, n] += Σ p[r, t] · v[t, n] over t in [lo, hi), n < columns, a multiple of 16; p to 2^-17 of each.
  void (*add)(const float* p, const int64_t* lo, const int64_t* hi, int64_t rows, const uint32_t* values, int64_t columns, float* o);
};

// Null where the instruction set has none for heads of this size.
const TileKernels* tile_kernels(Isa isa, int64_t head_dim);

}  // namespace wick::cpu
