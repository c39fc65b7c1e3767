// Quantised panels with VPDPBUSD times many rows. Activations come in tiles; groups of panels are unpacked to bytes and f32 scales first,
// exactly: the format's own integers and scales. Then a register-blocked product runs over both. Unlike in quant_panels_avx512vnni.cc the
// activations are the unsigned side, which makes the offsets a vector of the panel, the same for every row.
#if defined(__x86_64__)

#include <algorithm>

#include "wick/kernels/cpu/quant_tiles_avx512vnni-inl.h"

namespace wick::cpu {
namespace {

// The first R rows of a row of tiles times P unpacked panels, to rows of y from `row` on.
template <class F, int R, int P>
WICK_VNNI void gemm_tile(const PanelJob& job, const ActivationTile* x, const uint8_t* w, int64_t panel, int64_t row) {
  using At = Unpacked<F, P>;
  const int64_t blocks = job.x->k / kQuantBlock;
  __m512 acc[R][P];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 2
    for (int p = 0; p < P; ++p) acc[r][p] = _mm512_setzero_ps();
  }
  for (int64_t b = 0; b < blocks; ++b, ++x, w += At::kBytes) {
#pragma GCC unroll 2
    for (int part = 0; part < F::kParts; ++part) {
      constexpr int kWords = 8 / F::kParts;
      __m512i sum[R][P];
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) {
#pragma GCC unroll 2
        for (int p = 0; p < P; ++p) sum[r][p] = _mm512_load_si512(w + At::kOffset + (part * P + p) * 64);
      }
#pragma GCC unroll 8
      for (int g = part * kWords; g < (part + 1) * kWords; ++g) {
        __m512i words[P];
#pragma GCC unroll 2
        for (int p = 0; p < P; ++p) words[p] = _mm512_load_si512(w + (g * P + p) * 64);
#pragma GCC unroll 8
        for (int r = 0; r < R; ++r) {
          const __m512i a = broadcast_word(x->q[g][r]);
#pragma GCC unroll 2
          for (int p = 0; p < P; ++p) sum[r][p] = _mm512_dpbusd_epi32(sum[r][p], a, words[p]);
        }
      }
#pragma GCC unroll 2
      for (int p = 0; p < P; ++p) {
        const __m512 d = _mm512_load_ps(w + At::kScale + (part * P + p) * 64);
#pragma GCC unroll 8
        for (int r = 0; r < R; ++r) {
          acc[r][p] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum[r][p]), _mm512_mul_ps(d, _mm512_set1_ps(x->scale[r])), acc[r][p]);
        }
      }
    }
    if constexpr (F::kMin) {
#pragma GCC unroll 2
      for (int p = 0; p < P; ++p) {
        const __m512 m = _mm512_load_ps(w + At::kMinimum + p * 64);
#pragma GCC unroll 8
        for (int r = 0; r < R; ++r) acc[r][p] = _mm512_fmadd_ps(m, _mm512_set1_ps(x->scaled_sum[r]), acc[r][p]);
      }
    }
  }
  store_tile(job, panel, row, R, acc);
}

template <class F, int P>
void gemm_rows(const PanelJob& job, const ActivationTile* x, const uint8_t* w, int64_t panel, int64_t row, int64_t rows) {
  switch (rows) {
    case 1: return gemm_tile<F, 1, P>(job, x, w, panel, row);
    case 2: return gemm_tile<F, 2, P>(job, x, w, panel, row);
    case 3: return gemm_tile<F, 3, P>(job, x, w, panel, row);
    case 4: return gemm_tile<F, 4, P>(job, x, w, panel, row);
    case 5: return gemm_tile<F, 5, P>(job, x, w, panel, row);
    case 6: return gemm_tile<F, 6, P>(job, x, w, panel, row);
    case 7: return gemm_tile<F, 7, P>(job, x, w, panel, row);
    default: return gemm_tile<F, kTileRows, P>(job, x, w, panel, row);
  }
}

// All rows times a group of panels: unpacked it stays in the second cache, and each tile of activations is read from further away once.
template <class F>
void gemm_group(const PanelJob& job, int64_t begin, int64_t end) {
  const int64_t blocks = job.x->k / kQuantBlock;
  const int64_t bytes = blocks * Unpacked<F, 1>::kBytes;  // of one panel, alone or one of two
  const auto* w = reinterpret_cast<const uint8_t*>(job.scratch);
  unpack_group<F, 2>(job, begin, end);
  each_tile<kTileRows>(job, begin, end, [&](int64_t tile, int64_t row, int64_t rows) {
    const ActivationTile* const x = job.x->tiles + tile * blocks;
    int64_t panel = begin;
    for (; panel + 2 <= end; panel += 2) gemm_rows<F, 2>(job, x, w + (panel - begin) * bytes, panel, row, rows);
    if (panel < end) gemm_rows<F, 1>(job, x, w + (panel - begin) * bytes, panel, row, rows);
  });
}

// The largest magnitude of each of 8 rows of 32, as bits: as integers magnitudes compare with NaN above infinity above every number.
WICK_VNNI_INLINE __m256i largest_bits(const float* const* rows) {
  const __m512i magnitude = _mm512_set1_epi32(0x7fffffff);
  __m512i m[kTileRows];
#pragma GCC unroll 8
  for (int r = 0; r < kTileRows; ++r) {
    const __m512i low = _mm512_and_si512(_mm512_loadu_si512(rows[r]), magnitude),
                  high = _mm512_and_si512(_mm512_loadu_si512(rows[r] + 16), magnitude);
    m[r] = _mm512_max_epi32(low, high);
  }
#pragma GCC unroll 4
  for (int r = 0; r < kTileRows; r += 2)
    m[r] = _mm512_max_epi32(_mm512_unpacklo_epi32(m[r], m[r + 1]), _mm512_unpackhi_epi32(m[r], m[r + 1]));
#pragma GCC unroll 2
  for (int r = 0; r < kTileRows; r += 4)
    m[r] = _mm512_max_epi32(_mm512_unpacklo_epi64(m[r], m[r + 2]), _mm512_unpackhi_epi64(m[r], m[r + 2]));
  // Each lane of 128 bits of m[0] has rows 0 to 3, of m[4] rows 4 to 7.
  const __m512i halves = _mm512_max_epi32(_mm512_shuffle_i32x4(m[0], m[4], 0x44), _mm512_shuffle_i32x4(m[0], m[4], 0xee));
  const __m512i all = _mm512_max_epi32(halves, _mm512_shuffle_i32x4(halves, halves, 0xb1));
  return _mm512_castsi512_si256(_mm512_shuffle_i32x4(all, all, 0x08));
}

// Rows of 8 words to columns.
WICK_VNNI_INLINE void transpose_words(__m256i* w) {
  __m256i a[8], b[8];
#pragma GCC unroll 4
  for (int i = 0; i < 8; i += 2) {
    a[i] = _mm256_unpacklo_epi32(w[i], w[i + 1]);
    a[i + 1] = _mm256_unpackhi_epi32(w[i], w[i + 1]);
  }
#pragma GCC unroll 2
  for (int i = 0; i < 8; i += 4) {
    b[i] = _mm256_unpacklo_epi64(a[i], a[i + 2]);
    b[i + 1] = _mm256_unpackhi_epi64(a[i], a[i + 2]);
    b[i + 2] = _mm256_unpacklo_epi64(a[i + 1], a[i + 3]);
    b[i + 3] = _mm256_unpackhi_epi64(a[i + 1], a[i + 3]);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    w[i] = _mm256_permute2x128_si256(b[i], b[i + 4], 0x20);
    w[i + 4] = _mm256_permute2x128_si256(b[i], b[i + 4], 0x31);
  }
}

// The bytes of a row's block with 128 added, word by word for eight rows.
WICK_VNNI_INLINE void put_bytes(ActivationTile& tile, int64_t, const __m256i*, const __m256i* words) {
#pragma GCC unroll 8
  for (int g = 0; g < 8; ++g) _mm256_store_si256(reinterpret_cast<__m256i*>(tile.q[g]), words[g]);
}
// As they are, row by row.
WICK_VNNI_INLINE void put_bytes(WideTile& tile, int64_t first, const __m256i* rows, const __m256i*) {
  const __m256i bias = _mm256_set1_epi8(static_cast<char>(128));
#pragma GCC unroll 8
  for (int r = 0; r < kTileRows; ++r) {
    _mm256_store_si256(reinterpret_cast<__m256i*>(tile.q[first + r]), _mm256_xor_si256(rows[r], bias));
  }
}

// 32 values of each of 8 rows, as quantise_rows() rounds them, to the tile's rows from `first` on. What is left over goes to `rest`, if
// there is one. What is not finite has bytes of zero, too: the conversion makes it the lowest integer.
template <class Tile>
WICK_VNNI_INLINE void quantise_tile(const float* const* rows, Tile& tile, int64_t first, float (*rest)[kQuantBlock]) {
  const __m256i bits = largest_bits(rows);
  const __m256 largest = _mm256_castsi256_ps(bits);
  const __mmask8 not_finite = _mm256_cmpge_epi32_mask(bits, _mm256_set1_epi32(0x7f800000));
  const __m256 divisor = _mm256_set1_ps(127.0f);
  const __mmask8 invertible = _mm256_cmp_ps_mask(largest, _mm256_set1_ps(1e-36f), _CMP_NLT_UQ);
  const __m256 scale = _mm256_mask_blend_ps(not_finite, _mm256_div_ps(largest, divisor), _mm256_set1_ps(__builtin_nanf("")));
  alignas(32) float inverse[kTileRows];
  _mm256_store_ps(inverse, _mm256_maskz_div_ps(invertible, divisor, largest));
  _mm256_store_ps(tile.scale + first, scale);

  const __m256i ones = _mm256_set1_epi8(1), bias = _mm256_set1_epi8(static_cast<char>(128));
  __m256i words[kTileRows];
#pragma GCC unroll 8
  for (int r = 0; r < kTileRows; ++r) {
    const __m512 by = _mm512_set1_ps(inverse[r]);
    const __m512 x_low = _mm512_loadu_ps(rows[r]), x_high = _mm512_loadu_ps(rows[r] + 16);
    const __m512i low = _mm512_cvtps_epi32(_mm512_mul_ps(x_low, by)), high = _mm512_cvtps_epi32(_mm512_mul_ps(x_high, by));
    words[r] = _mm256_xor_si256(_mm256_set_m128i(_mm512_cvtepi32_epi8(high), _mm512_cvtepi32_epi8(low)), bias);
    if (rest) {
      const __m512 s = _mm512_set1_ps(tile.scale[first + r]);
      _mm512_storeu_ps(rest[r], _mm512_fnmadd_ps(_mm512_cvtepi32_ps(low), s, x_low));
      _mm512_storeu_ps(rest[r] + 16, _mm512_fnmadd_ps(_mm512_cvtepi32_ps(high), s, x_high));
    }
  }
  __m256i by_word[kTileRows];
#pragma GCC unroll 8
  for (int r = 0; r < kTileRows; ++r) by_word[r] = words[r];
  transpose_words(by_word);
  put_bytes(tile, first, words, by_word);
  __m256i sums = _mm256_set1_epi32(-128 * kQuantBlock);
#pragma GCC unroll 8
  for (int g = 0; g < 8; ++g) sums = _mm256_dpbusd_epi32(sums, by_word[g], ones);
  _mm256_store_ps(tile.scaled_sum + first, _mm256_mul_ps(scale, _mm256_cvtepi32_ps(sums)));
}

// Up to kRows rows of k elements as a row of tiles; rows that are not there are the last one once more.
template <int64_t kRows, class Tile>
WICK_VNNI void quantise_row_of_tiles(const float* x, int64_t ldx, int64_t rows, int64_t k, Tile* tiles, Tile* remainders) {
  for (int64_t first = 0; first < kRows; first += kTileRows) {
    const float* from[kTileRows];
    for (int64_t r = 0; r < kTileRows; ++r) from[r] = x + std::min(first + r, rows - 1) * ldx;
    for (int64_t b = 0; b < k / kQuantBlock; ++b) {
      float rest[kTileRows][kQuantBlock];
      quantise_tile(from, tiles[b], first, remainders ? rest : nullptr);
      if (remainders) {
        const float* left[kTileRows];
        for (int r = 0; r < kTileRows; ++r) left[r] = rest[r];
        quantise_tile(left, remainders[b], first, nullptr);
      }
      for (const float*& row : from) row += kQuantBlock;
    }
  }
}

}  // namespace

void quantise_tile_row_avx512vnni(const float* x, int64_t ldx, int64_t rows, int64_t k, ActivationTile* tiles, ActivationTile* remainders) {
  quantise_row_of_tiles<kTileRows>(x, ldx, rows, k, tiles, remainders);
}
void quantise_wide_row_avx512vnni(const float* x, int64_t ldx, int64_t rows, int64_t k, WideTile* tiles, WideTile* remainders) {
  quantise_row_of_tiles<kWideRows>(x, ldx, rows, k, tiles, remainders);
}

void quant_tiles_avx512vnni(const PanelJob& job) {
  const int64_t group = panels_in_scratch(job.x->k);
  for_format(job.segment->type, [&](auto format) {
    for (int64_t panel = job.panel_begin; panel < job.panel_end; panel += group) {
      gemm_group<decltype(format)>(job, panel, std::min(job.panel_end, panel + group));
    }
  });
}

}  // namespace wick::cpu

#endif
