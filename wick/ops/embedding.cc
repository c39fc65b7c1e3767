#include "wick/ops/embedding.h"

#include <cstring>

#include "wick/kernels/convert.h"
#include "wick/kernels/embedding.h"
#include "wick/kernels/linear.h"
#include "wick/ops/arguments.h"
#include "wick/ops/device.h"

namespace wick::ops {
namespace {

int64_t id_at(const Tensor& ids, int64_t i) { return ids.dtype() == DType::kI32 ? ids.data<int32_t>()[i] : ids.data<int64_t>()[i]; }

Shape output_shape(const Tensor& ids, int64_t size) {
  int64_t sizes[Dims::kMaxRank + 1];
  for (int i = 0; i < ids.rank(); ++i) sizes[i] = ids.shape()[i];
  sizes[ids.rank()] = size;
  return Shape(std::span<const int64_t>(sizes, static_cast<size_t>(ids.rank()) + 1));
}

// ids with its elements one after the other. Every one of them a row of the table, as far as the CPU can see it.
Tensor check(Context& ctx, const Tensor& ids, int64_t rows, int64_t size, const Tensor& y) {
  require(ids.defined(), "embedding: ids is an empty handle, expected a tensor");
  require(ids.device() == ctx.device(), "embedding: ids is on device ", ids.device().name(), ", expected ", ctx.device().name());
  require(ids.dtype() == DType::kI32 || ids.dtype() == DType::kI64, "embedding: ids is ", dtype_name(ids.dtype()), ", expected i32 or i64");
  require_floating(ctx, "embedding", {{"y", y}});
  const Shape expected = output_shape(ids, size);
  require(y.shape() == expected, "embedding: y is ", y.shape(), ", expected ", expected);
  require_contiguous_rows("embedding", {"y", y});
  const Tensor plain = contiguous(ctx, ids);
  if (!ctx.device().is_cpu()) return plain;
  for (int64_t t = 0; t < plain.elements(); ++t) {
    const int64_t id = id_at(plain, t);
    require(id >= 0 && id < rows, "embedding: id ", id, " at position ", t, " is outside the table of ", rows, " rows");
  }
  return plain;
}

RowsView one_row(std::byte* data, DType type, int64_t size) {
  RowsView row;
  row.data = data;
  row.type = type;
  row.count = 1;
  row.size = size;
  return row;
}

}  // namespace

void embedding(Context& ctx, const Tensor& ids, const PackedWeight& table, const Tensor& y) {
  require_kernels(ctx, "embedding");
  const Tensor list = check(ctx, ids, table.rows, table.k, y);
  require(y.dtype() != DType::kF64, "embedding: y is f64, expected f32, f16 or bf16");
  if (y.elements() == 0) return;
  const RowsView out = rows_of(y);
  if constexpr (kHasCuda) {
    if (on_cuda(ctx)) return cuda::embedding(ctx, {list.raw(), list.dtype(), &table, {}, out});
  }
  const ScratchScope scope(ctx);
  const bool direct = y.dtype() == DType::kF32;
  float* buffers = direct ? nullptr : ctx.scratch<float>(table.k * ctx.threads()).data();
  ctx.pool().parallel_for(list.elements(), 8, [&](int64_t begin, int64_t end, int worker) {
    for (int64_t t = begin; t < end; ++t) {
      float* row = direct ? out.row<float>(t) : buffers + worker * table.k;
      cpu::unpack_row(table, id_at(list, t), row);
      if (!direct) cpu::convert(ctx, one_row(reinterpret_cast<std::byte*>(row), DType::kF32, table.k), one_row(out.at(t), y.dtype(), table.k));
    }
  });
}

void embedding(Context& ctx, const Tensor& ids, const Tensor& table, const Tensor& y) {
  require_kernels(ctx, "embedding");
  require_floating(ctx, "embedding", {{"table", table}});
  require(table.rank() == 2, "embedding: table has rank ", table.rank(), ", expected 2");
  require_same_dtype("embedding", {"table", table}, {"y", y});
  const Tensor list = check(ctx, ids, table.dim(0), table.dim(1), y);
  if (y.elements() == 0) return;
  const Tensor rows = with_contiguous_rows(ctx, table);
  const RowsView from = rows_of(rows);
  const RowsView out = rows_of(y);
  if constexpr (kHasCuda) {
    if (on_cuda(ctx)) return cuda::embedding(ctx, {list.raw(), list.dtype(), nullptr, from, out});
  }
  const size_t bytes = static_cast<size_t>(table.dim(1) * traits(table.dtype()).bytes);
  ctx.pool().parallel_for(list.elements(), share_grain(table.dim(1)), [&](int64_t begin, int64_t end, int) {
    for (int64_t t = begin; t < end; ++t) std::memcpy(out.at(t), from.at(id_at(list, t)), bytes);
  });
}

Tensor embedding(Context& ctx, const Tensor& ids, const PackedWeight& table) {
  Tensor y = Tensor::empty(output_shape(ids, table.k), DType::kF32, ctx.device());
  embedding(ctx, ids, table, y);
  return y;
}

Tensor embedding(Context& ctx, const Tensor& ids, const Tensor& table) {
  require(table.rank() == 2, "embedding: table has rank ", table.rank(), ", expected 2");
  Tensor y = Tensor::empty(output_shape(ids, table.dim(1)), table.dtype(), ctx.device());
  embedding(ctx, ids, table, y);
  return y;
}

}  // namespace wick::ops
