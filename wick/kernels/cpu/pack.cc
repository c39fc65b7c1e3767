#include <algorithm>
#include <cstring>
#include <vector>

#include "wick/base/checked.h"
#include "wick/kernels/block_format.h"
#include "wick/kernels/cpu/panel_format.h"
#include "wick/kernels/cpu/panels.h"
#include "wick/kernels/linear.h"
#include "wick/tensor/half.h"

namespace wick::cpu {
namespace {

float plain_element(DType type, const std::byte* p) {
  if (type == DType::kF16) return f16_to_f32(load_as<uint16_t>(p));
  if (type == DType::kBF16) return bf16_to_f32(load_as<uint16_t>(p));
  return load_as<float>(p);
}

// Where element i of row `r` of a panel of a plain type lies, in bytes.
int64_t plain_offset(DType type, int64_t r, int64_t i) {
  const int64_t group = type == DType::kBF16 ? 2 : 1;
  return ((i / group * kPanelRows + r) * group + i % group) * traits(type).bytes;
}

void pack_row(DType type, const std::byte* row, int64_t k, int64_t r, std::byte* panel) {
  if (const BlockFormat* format = block_format(type)) return pack_quantised_row(*format, row, k, r, panel);
  const int64_t group = type == DType::kBF16 ? 2 : 1;
  const int64_t bytes = traits(type).bytes;
  for (int64_t i = 0; i < k; i += group) {
    std::memcpy(panel + plain_offset(type, r, i), row + i * bytes, static_cast<size_t>(std::min(group, k - i) * bytes));
  }
}

// A row of a panel whose elements are neighbours in memory: one run as it is, or two `stride` bytes apart, their elements taking turns.
template <class T>
void pack_runs(const std::byte* run, int64_t stride, T* out) {
  if (stride == 0) {
    std::memcpy(out, run, kPanelRows * sizeof(T));
    return;
  }
  if constexpr (sizeof(T) == sizeof(uint16_t)) {
    uint16_t even[kPanelRows], odd[kPanelRows];
    std::memcpy(even, run, sizeof(even));
    std::memcpy(odd, run + stride, sizeof(odd));
    uint32_t pairs[kPanelRows];  // in words, which compilers do in vectors
    for (int64_t r = 0; r < kPanelRows; ++r) pairs[r] = even[r] | static_cast<uint32_t>(odd[r]) << 16;
    std::memcpy(out, pairs, sizeof(pairs));
  }
}

// Plain elements of any strides. Whole squares of 16 x 16 keep both sides in cache lines that are used up at once.
template <class T>
void pack_strided(const MatrixView& matrix, int64_t first, int64_t rows, T* out) {
  const int64_t pair = matrix.type == DType::kBF16 ? 2 : 1;
  const std::byte* data = matrix.data + first * matrix.row_stride;
  const auto at = [&](int64_t r, int64_t i) { return *reinterpret_cast<const T*>(data + r * matrix.row_stride + i * matrix.column_stride); };
  for (int64_t begin = 0; begin < matrix.k; begin += kPanelRows) {
    const int64_t end = std::min(matrix.k, begin + kPanelRows);
    if (matrix.row_stride == static_cast<int64_t>(sizeof(T)) && rows == kPanelRows && (end - begin) % pair == 0) {  // rows are neighbours
      for (int64_t i = begin; i < end; i += pair) pack_runs<T>(data + i * matrix.column_stride, pair == 2 ? matrix.column_stride : 0, out + i * kPanelRows);
      continue;
    }
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t i = begin; i < end; ++i) out[(i / pair * kPanelRows + r) * pair + i % pair] = at(r, i);
    }
  }
}

}  // namespace

void pack_panel(const MatrixView& matrix, int64_t panel, std::byte* out) {
  const int64_t first = panel * kPanelRows;
  const int64_t rows = std::min(kPanelRows, matrix.rows - first);
  if (rows < kPanelRows || matrix.k % 2 != 0) std::memset(out, 0, static_cast<size_t>(panel_bytes(matrix.type, matrix.k)));
  if (is_quantised(matrix.type)) {
    for (int64_t r = 0; r < rows; ++r) pack_row(matrix.type, matrix.data + (first + r) * matrix.row_stride, matrix.k, r, out);
  } else if (matrix.type == DType::kF32) {
    pack_strided(matrix, first, rows, reinterpret_cast<float*>(out));
  } else {
    pack_strided(matrix, first, rows, reinterpret_cast<uint16_t*>(out));
  }
}

int64_t panel_bytes(DType type, int64_t k) {
  if (const BlockFormat* format = block_format(type)) return ceil_div(k / kQuantBlock, group_blocks(*format)) * group_bytes(*format);
  const int64_t inputs = type == DType::kBF16 ? round_up<int64_t>(k, 2) : k;
  const int64_t bytes = static_cast<int64_t>(dtype_bytes(type, static_cast<uint64_t>(inputs))) * kPanelRows;
  return round_up<int64_t>(bytes, 64);
}

uint64_t packed_bytes(DType type, int64_t rows, int64_t k) {
  return static_cast<uint64_t>(mul_or_fail(ceil_div(rows, kPanelRows), panel_bytes(type, k), "linear: weight size"));
}

void pack(Context& ctx, const WeightSource& source, WeightSegment& segment) {
  const bool expand = segment.type != source.type;
  const int64_t row_bytes = static_cast<int64_t>(dtype_bytes(source.type, static_cast<uint64_t>(source.k)));
  segment.precise = source.precise;
  segment.panel_bytes = panel_bytes(segment.type, source.k);
  const int64_t panels = ceil_div(source.rows, kPanelRows);
  segment.storage = Storage::allocate(ctx.device(), packed_bytes(segment.type, source.rows, source.k));

  const int64_t panels_per_read = std::max<int64_t>(1, (int64_t{1} << 18) / (row_bytes * kPanelRows));
  ctx.pool().parallel_for(panels, panels_per_read, [&](int64_t begin, int64_t end, int) {
    std::vector<std::byte> rows(static_cast<size_t>(panels_per_read * kPanelRows * row_bytes));
    std::vector<float> expanded(expand ? static_cast<size_t>(source.k) : 0);
    for (int64_t first = begin; first < end; first += panels_per_read) {
      const int64_t last = std::min(end, first + panels_per_read);
      const int64_t row_end = std::min(source.rows, last * kPanelRows);
      source.read_rows(first * kPanelRows, {rows.data(), static_cast<size_t>((row_end - first * kPanelRows) * row_bytes)});
      std::byte* out = segment.storage->data() + first * segment.panel_bytes;
      if (row_end < last * kPanelRows || segment.k % 2 != 0) {  // lanes and pairs that no row fills
        std::memset(out, 0, static_cast<size_t>((last - first) * segment.panel_bytes));
      }
      for (int64_t row = first * kPanelRows; row < row_end; ++row) {
        const std::byte* stored = rows.data() + (row - first * kPanelRows) * row_bytes;
        if (expand) {
          decode_blocks(source.type, stored, source.k, expanded.data());
          stored = reinterpret_cast<const std::byte*>(expanded.data());
        }
        pack_row(segment.type, stored, source.k, row % kPanelRows, out + (row / kPanelRows - first) * segment.panel_bytes);
      }
    }
  });
}

void unpack_row(const PackedWeight& weight, int64_t row, float* out) {
  const WeightSegment* segment = weight.segments.data();
  for (; row >= segment->rows; ++segment) row -= segment->rows;
  const std::byte* panel = segment->storage->data() + row / kPanelRows * segment->panel_bytes;
  const int64_t r = row % kPanelRows;
  if (const BlockFormat* format = block_format(segment->type)) return unpack_quantised_row(*format, panel, segment->k, r, out);
  for (int64_t i = 0; i < segment->k; ++i) out[i] = plain_element(segment->type, panel + plain_offset(segment->type, r, i));
}

}  // namespace wick::cpu
