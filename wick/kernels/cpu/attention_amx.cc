#include "wick/kernels/cpu/attention_amx.h"

#if defined(__x86_64__)

#include <immintrin.h>

#include <algorithm>

#include "wick/kernels/cpu/amx-inl.h"
#include "wick/kernels/kv_page.h"

#define WICK_AMX_VECTORS __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")))

namespace wick::cpu {
namespace {

constexpr int64_t kRows = 16, kChunk = 16;  // rows of a tile, and pairs in one of them

// Sums in tiles 0 to 3, what is multiplied from the left in 4 and 7, from the right in 5 and 6.
class Shapes {
 public:
  void set(int64_t rows) {
    if (rows == rows_) return;
    rows_ = rows;
    TileShapes shapes;
    for (const int tile : {0, 1, 2, 3, 4, 7}) shapes.set(tile, rows);
    for (const int tile : {5, 6}) shapes.set(tile, kChunk);
    shapes.load();
  }

 private:
  int64_t rows_ = 0;
};

void scores(const uint32_t* a, const uint32_t* keys, int64_t pairs, const int64_t* hi, int64_t rows, float* c) {
  const int64_t a_stride = pairs * 4, stride = kPagePositions * 4;
  Shapes shapes;
  for (int64_t r = 0; r < rows; r += kRows) {
    const int64_t count = std::min(kRows, rows - r), seen = *std::max_element(hi + r, hi + r + count);
    if (seen == 0) continue;
    shapes.set(count);
    WICK_TILE_ZERO(0);
    WICK_TILE_ZERO(1);
    WICK_TILE_ZERO(2);
    WICK_TILE_ZERO(3);
    for (int64_t i = 0; i < pairs; i += kChunk) {
      const uint32_t* const k = keys + i * kPagePositions;
      WICK_TILE_LOAD(4, a + r * pairs + i, a_stride);
      WICK_TILE_LOAD(5, k, stride);
      WICK_TILE_MULTIPLY(0, 4, 5);
      WICK_TILE_LOAD(6, k + 16, stride);
      WICK_TILE_MULTIPLY(1, 4, 6);
      if (seen <= 32) continue;
      WICK_TILE_LOAD(5, k + 32, stride);
      WICK_TILE_MULTIPLY(2, 4, 5);
      WICK_TILE_LOAD(6, k + 48, stride);
      WICK_TILE_MULTIPLY(3, 4, 6);
    }
    float* const to = c + r * kPagePositions;
    WICK_TILE_STORE(0, to, stride);
    WICK_TILE_STORE(1, to + 16, stride);
    WICK_TILE_STORE(2, to + 32, stride);
    WICK_TILE_STORE(3, to + 48, stride);
  }
  release_tiles();
}

WICK_AMX_VECTORS bool values(const uint16_t* v, int64_t row_stride, int64_t count, int64_t columns, int64_t ldo, uint32_t* out) {
  const __m256i exponent = _mm256_set1_epi16(0x7f80);
  __mmask16 not_finite = 0;
  for (int64_t i = 0; i < kPagePositions / 2; ++i) {
    for (int64_t n = 0; n < columns; n += 16) {
      const __mmask16 left = static_cast<__mmask16>((1u << std::min<int64_t>(16, columns - n)) - 1u);
      const auto load = [&](int64_t t) WICK_AMX_VECTORS {
        const __m256i row = t < count ? _mm256_maskz_loadu_epi16(left, v + t * row_stride + n) : _mm256_setzero_si256();
        not_finite |= _mm256_cmpeq_epi16_mask(_mm256_and_si256(row, exponent), exponent);
        return _mm512_cvtepu16_epi32(row);
      };
      const __m512i first = load(2 * i), second = load(2 * i + 1);
      _mm512_storeu_si512(out + i * ldo + n, _mm512_or_si512(first, _mm512_slli_epi32(second, 16)));
    }
  }
  return not_finite == 0;
}

// A row's p in [lo, hi), zero elsewhere, rounded, and what that left over.
WICK_AMX_VECTORS void split(const float* p, int64_t lo, int64_t hi, uint16_t* rounded, uint16_t* rest) {
  for (int64_t t = 0; t < kPagePositions; t += 16) {
    const auto below = [&](int64_t edge) { return (1u << std::clamp<int64_t>(edge - t, 0, 16)) - 1u; };
    const __m512 x = _mm512_maskz_loadu_ps(static_cast<__mmask16>(below(hi) & ~below(lo)), p + t);
    const __m256i high = reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(x));
    const __m512 left = _mm512_sub_ps(x, _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(high), 16)));
    _mm256_store_si256(reinterpret_cast<__m256i*>(rounded + t), high);
    _mm256_store_si256(reinterpret_cast<__m256i*>(rest + t), reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(left)));
  }
}

void add(const float* p, const int64_t* lo, const int64_t* hi, int64_t rows, const uint32_t* values, int64_t columns, float* o) {
  alignas(64) uint16_t rounded[kRows][kPagePositions], rest[kRows][kPagePositions];
  const int64_t p_stride = kPagePositions * 2, stride = columns * 4;
  Shapes shapes;
  for (int64_t r = 0; r < rows; r += kRows) {
    const int64_t count = std::min(kRows, rows - r), seen = *std::max_element(hi + r, hi + r + count);
    if (seen == 0) continue;
    for (int64_t i = 0; i < count; ++i) split(p + (r + i) * kPagePositions, lo[r + i], hi[r + i], rounded[i], rest[i]);
    shapes.set(count);
    for (int64_t n = 0; n < columns; n += 32) {  // two tiles of sums; the second perhaps not there
      float* const to = o + r * columns + n;
      const bool both = n + 16 < columns;
      WICK_TILE_LOAD(0, to, stride);
      if (both) WICK_TILE_LOAD(1, to + 16, stride);
      for (int64_t k = 0; 2 * k < seen; k += kChunk) {
        const uint32_t* const v = values + k * columns + n;
        WICK_TILE_LOAD(4, rounded[0] + 2 * k, p_stride);
        WICK_TILE_LOAD(5, v, stride);
        WICK_TILE_MULTIPLY(0, 4, 5);
        if (both) {
          WICK_TILE_LOAD(6, v + 16, stride);
          WICK_TILE_MULTIPLY(1, 4, 6);
        }
        WICK_TILE_LOAD(7, rest[0] + 2 * k, p_stride);
        WICK_TILE_MULTIPLY(0, 7, 5);
        if (both) WICK_TILE_MULTIPLY(1, 7, 6);
      }
      WICK_TILE_STORE(0, to, stride);
      if (both) WICK_TILE_STORE(1, to + 16, stride);
    }
  }
  release_tiles();
}

constexpr TileKernels kTileKernels = {scores, values, add};

}  // namespace

const TileKernels* tile_kernels(Isa isa, int64_t head_dim) {
  return isa == Isa::kAvx512Amx && head_dim % (2 * kChunk) == 0 ? &kTileKernels : nullptr;
}

}  // namespace wick::cpu

#else

namespace wick::cpu {
const TileKernels* tile_kernels(Isa, int64_t) { return nullptr; }
}  // namespace wick::cpu

#endif
