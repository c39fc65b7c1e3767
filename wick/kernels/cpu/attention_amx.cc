#include "wick/kernels/cpu/attention_amx.h"

#if defined(__x86_64__)

#include <immintrin.h>

#include <algorithm>
#include <limits>

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

// c[r, t] = Σ q[r, i] · k[i, t] for 16 rows or fewer, t < 64, at least as far as `seen`.
void scores(const TileJob& job, int64_t r, int64_t seen, float* c) {
  const int64_t q_stride = job.pairs * 4, stride = kPagePositions * 4;
  WICK_TILE_ZERO(0);
  WICK_TILE_ZERO(1);
  WICK_TILE_ZERO(2);
  WICK_TILE_ZERO(3);
  for (int64_t i = 0; i < job.pairs; i += kChunk) {
    const uint32_t* const k = job.keys + i * kPagePositions;
    WICK_TILE_LOAD(4, job.q + r * job.pairs + i, q_stride);
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
  WICK_TILE_STORE(0, c, stride);
  WICK_TILE_STORE(1, c + 16, stride);
  WICK_TILE_STORE(2, c + 32, stride);
  WICK_TILE_STORE(3, c + 48, stride);
}

// 2^y, y <= 127, by the polynomial of exp2 in exp-inl.h.
WICK_AMX_VECTORS __m512 power(__m512 y) {
  const __m512 f = _mm512_reduce_ps(y, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);  // y less the integer next to it
  __m512 p = _mm512_fmadd_ps(f, _mm512_set1_ps(0x1.41fbbcp-13f), _mm512_set1_ps(0x1.5f3e54p-10f));
  for (const float coefficient : {0x1.3b2d4cp-7f, 0x1.c6aee8p-5f, 0x1.ebfbdcp-3f, 0x1.62e430p-1f, 1.0f}) {
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(coefficient));
  }
  return _mm512_scalef_ps(p, _mm512_sub_ps(y, f));
}

// 32 weights in two parts of bf16 that make them to 2^-17.
WICK_AMX_VECTORS void put_parts(__m512 a, __m512 b, uint16_t* first, uint16_t* second) {
  const __m512 mask = _mm512_castsi512_ps(_mm512_set1_epi32(static_cast<int>(0xffff0000u)));
  const __m512 high_a = _mm512_and_ps(a, mask), high_b = _mm512_and_ps(b, mask);
  _mm512_store_si512(first, reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(high_b, high_a)));
  _mm512_store_si512(second, reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(_mm512_sub_ps(b, high_b), _mm512_sub_ps(a, high_a))));
}

// Puts what row r has so far under a new peak.
WICK_AMX_VECTORS void raise_peak(const TileJob& job, int64_t r, float peak) {
  if (job.m[r] != -std::numeric_limits<float>::infinity()) {
    const __m512 factor = power(_mm512_set1_ps(job.m[r] - peak));
    float* const l = job.l + r * kSumLanes;
    _mm512_storeu_ps(l, _mm512_mul_ps(_mm512_loadu_ps(l), factor));
    for (float *o = job.o + r * job.columns, *end = o + job.columns; o < end; o += 16) {
      _mm512_storeu_ps(o, _mm512_mul_ps(_mm512_loadu_ps(o), factor));
    }
  }
  job.m[r] = peak;
}

// A row's scores as weights, zero where it does not see.
WICK_AMX_VECTORS void weigh(const TileJob& job, int64_t r, const float* c, uint16_t* first, uint16_t* second) {
  constexpr float kRise = 8;  // weights of up to 2^8 are as exact as those below 1
  const float none = -std::numeric_limits<float>::infinity();
  const int64_t lo = job.lo[r], hi = job.hi[r];
  __m512 y[4];
  for (int64_t i = 0; i < 4; ++i) {
    const auto below = [&](int64_t edge) { return (1u << std::clamp<int64_t>(edge - 16 * i, 0, 16)) - 1u; };
    y[i] = _mm512_mul_ps(_mm512_loadu_ps(c + 16 * i), _mm512_set1_ps(job.factor));
    if (lo > 0 || hi < kPagePositions)
      y[i] = _mm512_mask_mov_ps(_mm512_set1_ps(none), static_cast<__mmask16>(below(hi) & ~below(lo)), y[i]);
  }
  const __m512 top = _mm512_max_ps(_mm512_max_ps(y[0], y[1]), _mm512_max_ps(y[2], y[3]));
  if (_mm512_cmp_ps_mask(top, _mm512_set1_ps(job.m[r] + kRise), _CMP_GT_OQ)) raise_peak(job, r, _mm512_reduce_max_ps(top));
  const __m512 shift = _mm512_set1_ps(job.m[r] == none ? 0 : job.m[r]);
  for (auto& each : y) each = power(_mm512_sub_ps(each, shift));
  float* const l = job.l + r * kSumLanes;
  _mm512_storeu_ps(l, _mm512_add_ps(_mm512_loadu_ps(l), _mm512_add_ps(_mm512_add_ps(y[0], y[1]), _mm512_add_ps(y[2], y[3]))));
  put_parts(y[0], y[1], first, second);
  put_parts(y[2], y[3], first + 32, second + 32);
}

// Weights of 16 rows in two parts.
struct alignas(64) Weights {
  uint16_t first[kRows][kPagePositions], second[kRows][kPagePositions];
};

// o[r, n] += Σ p[r, t] · v[t, n] for 16 rows or fewer, t < seen, and kTiles tiles of columns.
template <int kTiles>
void add(const TileJob& job, const Weights& p, int64_t seen, const uint32_t* values, float* o) {
  const int64_t p_stride = kPagePositions * 2, stride = job.columns * 4;
  WICK_TILE_LOAD(0, o, stride);
  if constexpr (kTiles > 1) WICK_TILE_LOAD(1, o + 16, stride);
  if constexpr (kTiles > 2) WICK_TILE_LOAD(2, o + 32, stride);
  if constexpr (kTiles > 3) WICK_TILE_LOAD(3, o + 48, stride);
  for (int64_t k = 0; 2 * k < seen; k += kChunk) {
    const uint32_t* const v = values + k * job.columns;
    WICK_TILE_LOAD(4, p.first[0] + 2 * k, p_stride);
    WICK_TILE_LOAD(7, p.second[0] + 2 * k, p_stride);
    WICK_TILE_LOAD(5, v, stride);
    WICK_TILE_MULTIPLY(0, 4, 5);
    WICK_TILE_MULTIPLY(0, 7, 5);
    if constexpr (kTiles > 1) {
      WICK_TILE_LOAD(6, v + 16, stride);
      WICK_TILE_MULTIPLY(1, 4, 6);
      WICK_TILE_MULTIPLY(1, 7, 6);
    }
    if constexpr (kTiles > 2) {
      WICK_TILE_LOAD(5, v + 32, stride);
      WICK_TILE_MULTIPLY(2, 4, 5);
      WICK_TILE_MULTIPLY(2, 7, 5);
    }
    if constexpr (kTiles > 3) {
      WICK_TILE_LOAD(6, v + 48, stride);
      WICK_TILE_MULTIPLY(3, 4, 6);
      WICK_TILE_MULTIPLY(3, 7, 6);
    }
  }
  WICK_TILE_STORE(0, o, stride);
  if constexpr (kTiles > 1) WICK_TILE_STORE(1, o + 16, stride);
  if constexpr (kTiles > 2) WICK_TILE_STORE(2, o + 32, stride);
  if constexpr (kTiles > 3) WICK_TILE_STORE(3, o + 48, stride);
}

void attend(const TileJob& job) {
  alignas(64) float c[kRows * kPagePositions];
  Weights p;
  Shapes shapes;
  for (int64_t r = 0; r < job.rows; r += kRows) {
    const int64_t count = std::min(kRows, job.rows - r), seen = *std::max_element(job.hi + r, job.hi + r + count);
    if (seen == 0) continue;
    shapes.set(count);
    scores(job, r, seen, c);
    for (int64_t i = 0; i < count; ++i) weigh(job, r + i, c + i * kPagePositions, p.first[i], p.second[i]);
    for (int64_t n = 0; n < job.columns; n += 64) {
      float* const o = job.o + r * job.columns + n;
      switch (std::min<int64_t>(4, (job.columns - n) / 16)) {
        case 1: add<1>(job, p, seen, job.values + n, o); break;
        case 2: add<2>(job, p, seen, job.values + n, o); break;
        case 3: add<3>(job, p, seen, job.values + n, o); break;
        default: add<4>(job, p, seen, job.values + n, o);
      }
    }
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

constexpr TileKernels kTileKernels = {values, attend};

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
