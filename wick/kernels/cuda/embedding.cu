#include "wick/kernels/cuda/packed_blocks.cuh"
#include "wick/kernels/embedding.h"

namespace wick::cuda {
namespace {

constexpr unsigned kThreads = 128;

struct Ids {
  const std::byte* data;
  bool wide;     // i64, else i32
  int64_t rows;  // of the table
  uint64_t* fault;

  // The id at `t`, or -1 with the fault noted.
  __device__ int64_t checked(int64_t t) const {
    const int64_t id = wide ? reinterpret_cast<const int64_t*>(data)[t] : reinterpret_cast<const int32_t*>(data)[t];
    if (id >= 0 && id < rows) return id;
    if (threadIdx.x == 0) *fault = static_cast<uint64_t>(Fault::kEmbeddingId) << kFaultShift | static_cast<uint32_t>(id);
    return -1;
  }
};

constexpr int kOwn = 2;  // vectors of a thread

// Some blocks for every id. Vectors of V elements of neighbouring threads are neighbours.
template <class From, class To, int V>
__global__ void __launch_bounds__(kThreads)
    gather_plain(const __grid_constant__ Ids ids, const __grid_constant__ RowsView table, const __grid_constant__ RowsView y) {
  begin_kernel();
  const int64_t id = ids.checked(blockIdx.x);
  if (id < 0) return;
  const From* from = row_of<From>(table, id);
  To* to = row_of<To>(y, blockIdx.x);
  const int64_t first = (int64_t{blockIdx.y} * kOwn * kThreads + threadIdx.x) * V;
  float x[kOwn][V];
#pragma unroll
  for (int j = 0; j < kOwn; ++j) {
    if (const int64_t i = first + j * kThreads * V; i < y.size) load<V>(from + i, x[j]);
  }
#pragma unroll
  for (int j = 0; j < kOwn; ++j) {
    if (const int64_t i = first + j * kThreads * V; i < y.size) store<V>(x[j], to + i);
  }
}

// A thread takes eight elements of a block.
template <DType kType, class To>
__global__ void __launch_bounds__(kThreads)
    gather_blocks(const __grid_constant__ Ids ids, const __grid_constant__ PackedBlocks table, const __grid_constant__ RowsView y) {
  begin_kernel();
  const int64_t id = ids.checked(blockIdx.x);
  if (id < 0) return;
  To* to = row_of<To>(y, blockIdx.x);
  const int64_t per_row = y.size / kBlock;
  for (int64_t item = threadIdx.x; item < 4 * per_row; item += kThreads) {
    const int64_t block = id * per_row + item / 4;
    const BlockIntegers q = packed_integers<kType>(table, block);
    const BlockScales scales = packed_scales<kType>(table, block);
    const int begin = static_cast<int>(item % 4) * 8;
    for (int e = begin; e < begin + 8; ++e) {
      to[item / 4 * kBlock + e] = from_float<To>(value_of<kType>(element(q, e, kType == DType::kQ8_0), scales, e / 16));
    }
  }
}

template <class From>
void run_plain(Context& ctx, const Ids& ids, const RowsView& table, const RowsView& y) {
  with_type(y.type, [&](auto element) {
    using To = decltype(element);
    constexpr int V = std::min(kVectorOf<From>, kVectorOf<To>);  // of both types vectors, if not whole ones
    const auto with = [&](auto kernel, int vector) {
      const dim3 grid(static_cast<unsigned>(y.count), blocks_for(y.size, int64_t{kOwn} * kThreads * vector));
      launch(ctx, "embedding", kernel, grid, kThreads, 0, ids, table, y);
    };
    in_vectors({&table, &y}) ? with(gather_plain<From, To, V>, V) : with(gather_plain<From, To, 1>, 1);
  });
}

// The one segment that a table has.
void run_packed(Context& ctx, const Ids& ids, const WeightSegment& segment, const RowsView& y) {
  if (!is_quantised(segment.type)) {
    RowsView rows;
    rows.data = segment.storage->data();
    rows.type = segment.type;
    rows.count = segment.rows;
    rows.size = segment.k;
    rows.leading = 1;
    rows.strides[0] = padded_inputs(segment.k);
    return with_type(segment.type, [&](auto element) { run_plain<decltype(element)>(ctx, ids, rows, y); });
  }
  const PackedBlocks blocks = packed_blocks(segment.type, segment.rows, segment.k, segment.storage->data());
  with_quantised(segment.type, [&](auto type) {
    with_type(y.type, [&](auto element) {
      launch(ctx, "embedding", gather_blocks<decltype(type)::kDType, decltype(element)>, static_cast<unsigned>(y.count), kThreads, 0, ids,
             blocks, y);
    });
  });
}

}  // namespace

void embedding(Context& ctx, const EmbeddingArgs& args) {
  Ids ids = {args.ids, args.id_type == DType::kI64, args.table.count, stream_of(ctx).fault()};
  if (!args.packed) return with_type(args.y.type, [&](auto element) { run_plain<decltype(element)>(ctx, ids, args.table, args.y); });
  require(args.packed->segments.size() == 1, "embedding: the table has ", args.packed->segments.size(),
          " segments, expected 1 on this device");
  ids.rows = args.packed->rows;
  run_packed(ctx, ids, args.packed->segments[0], args.y);
}

}  // namespace wick::cuda
