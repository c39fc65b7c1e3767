// Quantised panels with TDPBSSD times many rows: the arithmetic of quant_tiles_avx512vnni.cc on AMX. A tile of 16 rows of activations times
// a panel's block gives 16 x 16 sums in integers, which go through memory to be scaled: while that is done the next ones are made.
#if defined(__x86_64__)

#include <algorithm>

#include "wick/kernels/cpu/amx-inl.h"
#include "wick/kernels/cpu/quant_tiles_avx512vnni-inl.h"

namespace wick::cpu {
namespace {

constexpr int64_t kSums = kWideRows * kPanelRows;

// The first R rows of a row of tiles of activations times an unpacked panel. Products are counted through blocks and their parts, two at a
// time.
template <class F, int R>
class WideProduct {
  using At = Unpacked<F, 1>;

 public:
  WICK_VNNI_INLINE WideProduct(const WideTile* x, const uint8_t* w, int64_t blocks) : x_(x), w_(w), count_(blocks * F::kParts) {}

  WICK_VNNI_INLINE void run(__m512 (&acc)[R][1]) const {
    alignas(64) int32_t sums[2][2][kSums];  // by turns
    int side = 0;
    multiply(0, sums[0]);
    for (int64_t i = 2; i < count_; i += 2, side ^= 1) {
      multiply(i, sums[side ^ 1]);
      add(i - 2, sums[side], acc);
    }
    add((count_ - 1) / 2 * 2, sums[side], acc);
  }

 private:
  const int8_t* x(int64_t i) const { return &x_[i / F::kParts].q[0][0] + i % F::kParts * (kQuantBlock / F::kParts); }
  const uint8_t* w(int64_t i) const { return w_ + i / F::kParts * At::kBytes + i % F::kParts * (512 / F::kParts); }

  WICK_VNNI_INLINE void multiply(int64_t i, int32_t (&sums)[2][kSums]) const {
    constexpr int64_t kRow = kQuantBlock, kWords = 64;
    WICK_TILE_LOAD(0, x(i), kRow);
    WICK_TILE_LOAD(1, w(i), kWords);
    WICK_TILE_ZERO(4);
    WICK_TILE_MULTIPLY_BYTES(4, 0, 1);
    WICK_TILE_STORE(4, sums[0], kWords);
    if (i + 1 == count_) return;
    WICK_TILE_LOAD(2, x(i + 1), kRow);
    WICK_TILE_LOAD(3, w(i + 1), kWords);
    WICK_TILE_ZERO(5);
    WICK_TILE_MULTIPLY_BYTES(5, 2, 3);
    WICK_TILE_STORE(5, sums[1], kWords);
  }

  WICK_VNNI_INLINE void add(int64_t first, const int32_t (&sums)[2][kSums], __m512 (&acc)[R][1]) const {
    add_one(first, sums[0], acc);
    if (first + 1 < count_) add_one(first + 1, sums[1], acc);
  }

  WICK_VNNI_INLINE void add_one(int64_t i, const int32_t (&sums)[kSums], __m512 (&acc)[R][1]) const {
    const WideTile& tile = x_[i / F::kParts];
    const uint8_t* const block = w_ + i / F::kParts * At::kBytes;
    const __m512 d = _mm512_load_ps(block + At::kScale + i % F::kParts * 64);
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      const __m512 sum = _mm512_cvtepi32_ps(_mm512_load_si512(sums + r * kPanelRows));
      acc[r][0] = _mm512_fmadd_ps(sum, _mm512_mul_ps(d, _mm512_set1_ps(tile.scale[r])), acc[r][0]);
    }
    if constexpr (F::kMin) {
      const __m512 m = _mm512_load_ps(block + At::kMinimum);
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r) acc[r][0] = _mm512_fmadd_ps(m, _mm512_set1_ps(tile.scaled_sum[r]), acc[r][0]);
    }
  }

  const WideTile* x_;
  const uint8_t* w_;
  int64_t count_;
};

// To `rows` rows of y from `row` on, at most R.
template <class F, int R>
WICK_VNNI void multiply_wide(const PanelJob& job, const WideTile* x, const uint8_t* w, int64_t panel, int64_t row, int64_t rows) {
  __m512 acc[R][1];
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) acc[r][0] = _mm512_setzero_ps();
  WideProduct<F, R>(x, w, job.x->k / kQuantBlock).run(acc);
  store_tile(job, panel, row, rows, acc);
}

// The shapes of tiles for so many rows: 0 and 2 have activations, 1 and 3 weights, 4 and 5 sums.
template <class F>
void set_shapes(int64_t rows) {
  constexpr int64_t kBytes = kQuantBlock / F::kParts;
  TileShapes shapes;
  for (const int tile : {0, 2}) shapes.set(tile, rows, kBytes);
  for (const int tile : {1, 3}) shapes.set(tile, kBytes / 4);
  for (const int tile : {4, 5}) shapes.set(tile, rows);
  shapes.load();
}

template <class F>
void multiply_group(const PanelJob& job, int64_t begin, int64_t end) {
  const int64_t blocks = job.x->k / kQuantBlock, bytes = blocks * Unpacked<F, 1>::kBytes;
  const auto* w = reinterpret_cast<const uint8_t*>(job.scratch);
  int64_t shaped = 0;  // rows
  unpack_group<F, 1>(job, begin, end);
  each_tile<kWideRows>(job, begin, end, [&](int64_t tile, int64_t row, int64_t rows) {
    const auto all = [&](auto height) {
      if (shaped != height) set_shapes<F>(shaped = height);
      for (int64_t panel = begin; panel < end; ++panel) {
        multiply_wide<F, height.value>(job, job.x->wide_tiles + tile * blocks, w + (panel - begin) * bytes, panel, row, rows);
      }
    };
    if (rows > 8) return all(std::integral_constant<int, kWideRows>());
    if (rows > 4) return all(std::integral_constant<int, 8>());
    all(std::integral_constant<int, 4>());
  });
}

}  // namespace

void quant_tiles_amx(const PanelJob& job) {
  const int64_t group = panels_in_scratch(job.x->k);
  for_format(job.segment->type, [&](auto format) {
    for (int64_t panel = job.panel_begin; panel < job.panel_end; panel += group) {
      multiply_group<decltype(format)>(job, panel, std::min(job.panel_end, panel + group));
    }
  });
  release_tiles();
}

}  // namespace wick::cpu

#endif
