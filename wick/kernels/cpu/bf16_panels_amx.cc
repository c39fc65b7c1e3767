// bf16 panels with TDPBF16PS. A panel is what the instruction wants of weights as it lies: 16 pairs of k in rows of 16 outputs, 1 KiB a
// tile. Per output and 32 k, for any number of rows, it does
//   even = fma(x[2i], w[2i], even), odd = fma(x[2i + 1], w[2i + 1], odd), i = 0 .. 15, from zero;  acc = acc + (even + odd)
// with subnormal numbers as zero (Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2).
#if defined(__x86_64__)

#include <immintrin.h>

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "wick/base/checked.h"
#include "wick/kernels/cpu/amx-inl.h"
#include "wick/kernels/cpu/panel_output_avx512-inl.h"
#include "wick/kernels/cpu/panels.h"

#define WICK_AVX512 __attribute__((target("avx512f")))

namespace wick::cpu {
namespace {

constexpr int64_t kSums = kPanelRows * kPanelRows;  // of a tile of outputs

// One panel's weights by chunks of 32 k. A last one that is not whole is completed with zeros here.
struct Weights {
  void set(const PanelJob& job, int64_t panel) {
    data = job.panels + panel * job.segment->panel_bytes;
    const int64_t whole = job.x->k / kBf16Chunk * kTileBytes, rest = job.segment->panel_bytes - whole;
    if (rest == 0) return;
    std::memset(last, 0, sizeof last);
    std::memcpy(last, data + whole, static_cast<size_t>(rest));
  }

  const std::byte* data;
  alignas(64) std::byte last[kTileBytes];
};

// Up to 16 rows times P panels: each weight is read once, from memory, so sums stay in tiles 0 .. P - 1.
template <int P>
WICK_AVX512 void few_rows(const PanelJob& job, int64_t panel, Weights* weights) {
  static_assert(P >= 1 && P <= 4);
  const Bf16Rows& x = job.x->bf16;
  const int64_t whole = job.x->k / kBf16Chunk, chunks = x.ld / kBf16Chunk, stride = 64;
  for (int p = 0; p < P; ++p) weights[p].set(job, panel + p);
  WICK_TILE_ZERO(0);
  if constexpr (P > 1) WICK_TILE_ZERO(1);
  if constexpr (P > 2) WICK_TILE_ZERO(2);
  if constexpr (P > 3) WICK_TILE_ZERO(3);
  const uint16_t* from = x.row(0);
  for (int64_t c = 0; c < chunks; ++c, from += x.step(0)) {
    const auto w = [&](int p) { return c < whole ? weights[p].data + c * kTileBytes : weights[p].last; };
    for (int p = 0; p < P; ++p) {
#pragma GCC unroll 16
      for (int64_t i = 0; i < kTileBytes; i += 64) _mm_prefetch(weights[p].data + (c + 1) * kTileBytes + i, _MM_HINT_T0);
    }
    WICK_TILE_LOAD(4, from, stride);
    WICK_TILE_LOAD(5, w(0), stride);
    WICK_TILE_MULTIPLY(0, 4, 5);
    if constexpr (P > 1) {
      WICK_TILE_LOAD(6, w(1), stride);
      WICK_TILE_MULTIPLY(1, 4, 6);
    }
    if constexpr (P > 2) {
      WICK_TILE_LOAD(7, w(2), stride);
      WICK_TILE_MULTIPLY(2, 4, 7);
    }
    if constexpr (P > 3) {
      WICK_TILE_LOAD(5, w(3), stride);
      WICK_TILE_MULTIPLY(3, 4, 5);
    }
  }
  alignas(64) float sums[P][kSums];
  WICK_TILE_STORE(0, sums[0], stride);
  if constexpr (P > 1) WICK_TILE_STORE(1, sums[1], stride);
  if constexpr (P > 2) WICK_TILE_STORE(2, sums[2], stride);
  if constexpr (P > 3) WICK_TILE_STORE(3, sums[3], stride);
  for (int p = 0; p < P; ++p) {
    for (int64_t r = 0; r < job.x->rows; ++r) store(job, r, panel + p, _mm512_loadu_ps(sums[p] + r * kPanelRows));
  }
}

void few_rows(const PanelJob& job) {
  TileShapes shapes;
  for (const int tile : {0, 1, 2, 3, 4}) shapes.set(tile, job.x->rows);
  for (const int tile : {5, 6, 7}) shapes.set(tile, kBf16Rows);
  shapes.load();
  Weights weights[4];
  int64_t panel = job.panel_begin;
  for (; panel + 4 <= job.panel_end; panel += 4) few_rows<4>(job, panel, weights);
  switch (job.panel_end - panel) {
    case 3: return few_rows<3>(job, panel, weights);
    case 2: return few_rows<2>(job, panel, weights);
    case 1: return few_rows<1>(job, panel, weights);
    default: return;
  }
}

// Many rows go in blocks that the second cache holds: rows times panels of sums, and what is multiplied into them of some k at a time. What
// the next k need is asked for meanwhile.
constexpr int64_t kBlockRows = 512;
constexpr int64_t kBlockPanels = 16;
constexpr int64_t kBlockChunks = 8;

// Two groups of up to 16 rows times two panels, over some chunks: tiles 0, 1 are the sums of the first rows, 2, 3 of the second.
struct Square {
  const uint16_t* x[2];
  int64_t step[2];  // elements from chunk to chunk
  const std::byte* w[2];
  float* sums;  // [2 groups][2 panels] of tiles: where sums are, and where they go
};

template <bool kTwo>
inline void multiply(const Square& at, int64_t chunks, bool first) {
  const int64_t stride = 64;
  if (first) {
    WICK_TILE_ZERO(0);
    WICK_TILE_ZERO(1);
    if constexpr (kTwo) {
      WICK_TILE_ZERO(2);
      WICK_TILE_ZERO(3);
    }
  } else {
    WICK_TILE_LOAD(0, at.sums, stride);
    WICK_TILE_LOAD(1, at.sums + kSums, stride);
    if constexpr (kTwo) {
      WICK_TILE_LOAD(2, at.sums + 2 * kSums, stride);
      WICK_TILE_LOAD(3, at.sums + 3 * kSums, stride);
    }
  }
  const uint16_t *x0 = at.x[0], *x1 = at.x[1];
  const std::byte *w0 = at.w[0], *w1 = at.w[1];
  const int64_t step0 = at.step[0], step1 = at.step[1];
  for (int64_t c = 0; c < chunks; ++c, w0 += kTileBytes, w1 += kTileBytes, x0 += step0) {
    WICK_TILE_LOAD(4, x0, stride);
    WICK_TILE_LOAD(6, w0, stride);
    WICK_TILE_MULTIPLY(0, 4, 6);
    WICK_TILE_LOAD(7, w1, stride);
    WICK_TILE_MULTIPLY(1, 4, 7);
    if constexpr (kTwo) {
      WICK_TILE_LOAD(5, x1, stride);
      x1 += step1;
      WICK_TILE_MULTIPLY(2, 5, 6);
      WICK_TILE_MULTIPLY(3, 5, 7);
    }
  }
  WICK_TILE_STORE(0, at.sums, stride);
  WICK_TILE_STORE(1, at.sums + kSums, stride);
  if constexpr (kTwo) {
    WICK_TILE_STORE(2, at.sums + 2 * kSums, stride);
    WICK_TILE_STORE(3, at.sums + 3 * kSums, stride);
  }
}

class ManyRows {
 public:
  explicit ManyRows(const PanelJob& job) : job_(job), x_(job.x->bf16), chunks_(x_.ld / kBf16Chunk), whole_(job.x->k / kBf16Chunk) {}

  void run() {
    for (int64_t panel = job_.panel_begin; panel < job_.panel_end; panel += kBlockPanels) {
      const int64_t end = std::min(job_.panel_end, panel + kBlockPanels);
      for (int64_t row = 0; row < job_.x->rows; row += kBlockRows) block({panel, end}, {row, std::min(job_.x->rows, row + kBlockRows)});
    }
  }

 private:
  struct Range {
    int64_t begin, end;
    int64_t size() const { return end - begin; }
  };

  void block(Range panels, Range rows) {
    // Where all rows fit into tiles, weights are read once, and there is nothing to gain from parts.
    const int64_t parts = rows.size() <= 2 * kBf16Rows ? 1 : ceil_div(chunks_, kBlockChunks), size = ceil_div(chunks_, parts);
    for (int64_t c = 0; c < chunks_; c += size) {
      const Range part = {c, std::min(chunks_, c + size)}, next = {part.end, std::min(chunks_, part.end + size)};
      int64_t row = rows.begin;  // whose next chunks are asked for
      for (int64_t panel = panels.begin; panel < panels.end; panel += 2, row += 2 * kBf16Rows) {
        Ahead ahead;
        if (panel + 2 < panels.end) {
          ahead.w = panel_at(panel + 2) + part.begin * kTileBytes;
          ahead.w_bytes = part.size() * kTileBytes;
        } else if (next.size() > 0) {
          ahead.w = panel_at(panels.begin) + next.begin * kTileBytes;
          ahead.w_bytes = next.size() * kTileBytes;
        }
        if (next.size() > 0 && row < rows.end) {
          ahead.x = reinterpret_cast<const std::byte*>(x_.row(row) + next.begin * x_.step(row));
          ahead.x_bytes = next.size() * kTileBytes;
        }
        pair(panel, std::min<int64_t>(2, panels.end - panel), panel - panels.begin, rows, part, ahead);
      }
    }
  }

  const std::byte* panel_at(int64_t panel) const { return job_.panels + panel * job_.segment->panel_bytes; }

  // What is read after a pair: so many bytes of two panels and of two groups of rows.
  struct Ahead {
    const std::byte* w = nullptr;
    int64_t w_bytes = 0;
    const std::byte* x = nullptr;
    int64_t x_bytes = 0;
  };

  // Part i of n.
  static void ask(const std::byte* from, int64_t apart, int64_t bytes, int64_t i, int64_t n) {
    for (int64_t at = bytes * i / n / 64 * 64; at < bytes * (i + 1) / n; at += 64) {
      _mm_prefetch(from + at, _MM_HINT_T1);
      _mm_prefetch(from + at + apart, _MM_HINT_T1);
    }
  }

  // Chunks `part` of one or two panels, at `place` in their block, times `rows`.
  void pair(int64_t panel, int64_t panels, int64_t place, Range rows, Range part, const Ahead& ahead) {
    const std::byte* const w = panel_at(panel);
    const int64_t panel_bytes = job_.segment->panel_bytes,
                  second = panels == 2 ? panel_bytes : 0;  // a panel that is not there is the first once more
    const int64_t whole_end = std::min(part.end, whole_), steps = ceil_div(rows.size(), 2 * kBf16Rows);
    if (whole_end < part.end) {
      last_[0].set(job_, panel);
      last_[1].set(job_, panel + panels - 1);
    }
    float* sums = reinterpret_cast<float*>(job_.scratch) + place / 2 * (kBlockRows / kBf16Rows) * 2 * kSums;
    for (int64_t i = 0; i < steps; ++i, sums += 4 * kSums) {
      const int64_t row = rows.begin + 2 * kBf16Rows * i;
      const int64_t first_rows = std::min(kBf16Rows, rows.end - row),
                    second_rows = std::clamp<int64_t>(rows.end - row - kBf16Rows, 0, kBf16Rows);
      shape(first_rows, second_rows);
      ask(ahead.w, panel_bytes, ahead.w_bytes, i, steps);
      ask(ahead.x, chunks_ * kTileBytes, ahead.x_bytes, i, steps);
      const auto over = [&](int64_t from, int64_t to, const std::byte* w0, const std::byte* w1) {
        if (from == to) return;
        const int64_t step0 = x_.step(row), row1 = second_rows > 0 ? row + kBf16Rows : row, step1 = x_.step(row1);
        const Square square = {{x_.row(row) + from * step0, x_.row(row1) + from * step1}, {step0, step1}, {w0, w1}, sums};
        second_rows > 0 ? multiply<true>(square, to - from, from == 0) : multiply<false>(square, to - from, from == 0);
      };
      over(part.begin, whole_end, w + part.begin * kTileBytes, w + second + part.begin * kTileBytes);
      if (whole_end < part.end) over(whole_end, part.end, last_[0].last, last_[1].last);
      if (part.end == chunks_) put(row, first_rows + second_rows, panel, panels, sums);
    }
  }

  WICK_AVX512 void put(int64_t row, int64_t rows, int64_t panel, int64_t panels, const float* sums) const {
    const PanelRow out = output_row(job_, row, panel);
    if (out.bias || panels < 2 || (panel + 2) * kPanelRows > job_.segment->rows) {
      for (int64_t r = 0; r < rows; ++r) {
        const float* const from = sums + r / kBf16Rows * 2 * kSums + r % kBf16Rows * kPanelRows;
        for (int64_t p = 0; p < panels; ++p) store(job_, row + r, panel + p, _mm512_loadu_ps(from + p * kSums));
      }
      return;
    }
    if (out.y_bf16) {
      uint16_t* y = out.y_bf16;
      for (int64_t r = 0; r < rows; ++r, y += job_.out.ldy, sums += kPanelRows) {
        if (r == kBf16Rows) sums += kSums;  // behind those of the second panel
        const __m512i values =
            _mm512_inserti64x4(_mm512_castsi256_si512(to_bf16(_mm512_loadu_ps(sums))), to_bf16(_mm512_loadu_ps(sums + kSums)), 1);
        _mm512_storeu_si512(y, values);
      }
      return;
    }
    float* y = out.y;
    for (int64_t r = 0; r < rows; ++r, y += job_.out.ldy, sums += kPanelRows) {
      if (r == kBf16Rows) sums += kSums;
      for (int p = 0; p < 2; ++p) {
        const __m512 value = _mm512_loadu_ps(sums + p * kSums);
        _mm512_storeu_ps(y + p * kPanelRows, out.accumulate ? _mm512_add_ps(value, _mm512_loadu_ps(y + p * kPanelRows)) : value);
      }
    }
  }

  // Shapes for so many rows, unless the tiles have them.
  void shape(int64_t first, int64_t second) {
    if (first == first_rows_ && second == second_rows_) return;
    first_rows_ = first;
    second_rows_ = second;
    TileShapes shapes;
    for (const int tile : {0, 1, 4}) shapes.set(tile, first);
    if (second > 0) {
      for (const int tile : {2, 3, 5}) shapes.set(tile, second);
    }
    for (const int tile : {6, 7}) shapes.set(tile, kBf16Rows);
    shapes.load();
  }

  const PanelJob& job_;
  const Bf16Rows& x_;
  const int64_t chunks_;
  const int64_t whole_;  // chunks that the panels have in full
  int64_t first_rows_ = 0, second_rows_ = 0;
  Weights last_[2];
};

}  // namespace

int64_t bf16_scratch_bytes_amx() { return kBlockPanels * kBlockRows * kPanelRows * static_cast<int64_t>(sizeof(float)); }

void bf16_panels_amx(const PanelJob& job) {
  if (job.x->rows <= kBf16Rows) {
    few_rows(job);
  } else {
    ManyRows(job).run();
  }
  release_tiles();
}

}  // namespace wick::cpu

#endif
