#include "wick/kernels/cpu/attention_pairs.h"

#include "wick/kernels/kv_page.h"

#if defined(__x86_64__)

#include <immintrin.h>

#define WICK_PAIRS __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")))
#define WICK_PAIRS_INLINE WICK_PAIRS __attribute__((always_inline)) inline

namespace wick::cpu {
namespace {

// Four keys at a time, as 4 x 4 squares of pairs.
WICK_PAIRS void keys(const uint16_t* rows, int64_t row_stride, int64_t count, int64_t dim, uint32_t* out) {
  int64_t t = 0;
  for (; t + 4 <= count; t += 4) {
    const uint16_t* x = rows + t * row_stride;
    for (int64_t i = 0; i < dim / 2; i += 4) {
      const auto load = [&](int64_t row) WICK_PAIRS { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(x + row * row_stride + 2 * i)); };
      const __m128i a = load(0), b = load(1), c = load(2), d = load(3);
      const __m128i ab_low = _mm_unpacklo_epi32(a, b), cd_low = _mm_unpacklo_epi32(c, d);
      const __m128i ab_high = _mm_unpackhi_epi32(a, b), cd_high = _mm_unpackhi_epi32(c, d);
      uint32_t* to = out + i * kPagePositions + t;
      const auto put = [&](int64_t row, __m128i value) WICK_PAIRS { _mm_storeu_si128(reinterpret_cast<__m128i*>(to + row * kPagePositions), value); };
      put(0, _mm_unpacklo_epi64(ab_low, cd_low));
      put(1, _mm_unpackhi_epi64(ab_low, cd_low));
      put(2, _mm_unpacklo_epi64(ab_high, cd_high));
      put(3, _mm_unpackhi_epi64(ab_high, cd_high));
    }
  }
  for (; t < kPagePositions; ++t) {
    for (int64_t i = 0; i < dim / 2; ++i) {
      uint32_t pair = 0;
      if (t < count) __builtin_memcpy(&pair, rows + t * row_stride + 2 * i, sizeof pair);
      out[i * kPagePositions + t] = pair;
    }
  }
}

WICK_PAIRS_INLINE __m512bh as_pairs(__m512i bits) {
  __m512bh pairs;
  __builtin_memcpy(&pairs, &bits, sizeof pairs);
  return pairs;
}

template <int R, int V>
WICK_PAIRS_INLINE void tile(const uint32_t* a, int64_t lda, const uint32_t* b, int64_t ldb, int64_t pairs, float scale, float* c, int64_t ldc) {
  __m512 sum[R][V];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) sum[r][v] = _mm512_setzero_ps();
  }
  for (int64_t k = 0; k < pairs; ++k) {
    __m512bh row[V];
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) row[v] = as_pairs(_mm512_loadu_si512(b + k * ldb + 16 * v));
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const __m512bh factor = as_pairs(_mm512_set1_epi32(static_cast<int32_t>(a[r * lda + k])));
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) sum[r][v] = _mm512_dpbf16_ps(sum[r][v], factor, row[v]);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) _mm512_storeu_ps(c + r * ldc + 16 * v, _mm512_mul_ps(sum[r][v], _mm512_set1_ps(scale)));
  }
}

template <int R>
WICK_PAIRS void rows_product(const uint32_t* a, int64_t lda, const uint32_t* b, int64_t ldb, int64_t pairs, int64_t columns, float scale, float* c,
                             int64_t ldc) {
  int64_t n = 0;
  for (; n + 64 <= columns; n += 64) tile<R, 4>(a, lda, b + n, ldb, pairs, scale, c + n, ldc);
  for (; n + 32 <= columns; n += 32) tile<R, 2>(a, lda, b + n, ldb, pairs, scale, c + n, ldc);
  for (; n < columns; n += 16) tile<R, 1>(a, lda, b + n, ldb, pairs, scale, c + n, ldc);
}

void product(const uint32_t* a, int64_t lda, const uint32_t* b, int64_t ldb, int64_t pairs, int64_t rows, int64_t columns, float scale, float* c,
             int64_t ldc) {
  switch (rows) {
    case 1: return rows_product<1>(a, lda, b, ldb, pairs, columns, scale, c, ldc);
    case 2: return rows_product<2>(a, lda, b, ldb, pairs, columns, scale, c, ldc);
    case 3: return rows_product<3>(a, lda, b, ldb, pairs, columns, scale, c, ldc);
    case 4: return rows_product<4>(a, lda, b, ldb, pairs, columns, scale, c, ldc);
    case 5: return rows_product<5>(a, lda, b, ldb, pairs, columns, scale, c, ldc);
    default: return rows_product<6>(a, lda, b, ldb, pairs, columns, scale, c, ldc);
  }
}

constexpr PairKernels kPairKernels = {keys, product};

}  // namespace

const PairKernels* pair_kernels(Isa isa) { return has_bf16_pairs(isa) ? &kPairKernels : nullptr; }

}  // namespace wick::cpu

#else

namespace wick::cpu {
const PairKernels* pair_kernels(Isa) { return nullptr; }
}  // namespace wick::cpu

#endif
