// Products of few rows: one block per multiprocessor, whose warps work on several tiles of 8 outputs at a time, one or more to a tile: then
// each has some of the stages along k. Weights do not depend on the kernels before: the first stages are on their way while those still
// run.
#include "wick/kernels/cuda/weight_stream.cuh"

namespace wick::cuda {
namespace {

constexpr int kWarps = 16;
constexpr int kThreads = kWarps * kWarp;
constexpr int kTogether = 4;                                             // loads of a lane that are on their way
constexpr int64_t kMostInputs = 2 * kWarps * kTileOutputs * kInputUnit;  // sums of squares have room where the shares come later
constexpr int kLine = 128 / sizeof(float);

struct StreamArgs {
  Segments segments;
  int ends[kMostSegments];  // the segments' tiles, counted through
  LinearInput input;
  int row_words;  // of the rounded input
  int tiles;      // of all segments
  int split;      // warps to a tile, a power of two
  int tiles_of_block, tiles_of_round;
  bool swiglu;  // tiles are of gate and up in turn
};

// Eight outputs of a segment.
struct OutputTile {
  int segment, first;

  __device__ OutputTile(const StreamArgs& args, int tile) : segment(0) {
    if (args.swiglu) {
      segment = tile % 2;
      tile /= 2;
    } else {
      int begin = 0;
      while (tile >= args.ends[segment]) begin = args.ends[segment++];
      tile -= begin;
    }
    first = tile * kTileOutputs;
  }
  // A lane's share of them.
  template <class Format>
  __device__ typename Format::Source source(const StreamArgs& args, int lane) const {
    const Segment& from = args.segments.at[segment];
    return {from, first, static_cast<int>(from.outputs) - 1, static_cast<int>(args.input.k), lane};
  }
};

// Units of kInputUnit elements of all rows: the warp's share of them, its loads of kTogether at a time on their way together. Calls
// body(unit, row, first element of the lane, its four elements); lanes behind the end of a row have zeros.
template <class Body>
__device__ void each_unit(const LinearInput& in, Body&& body) {
  const int k = static_cast<int>(in.k), units = (k + kInputUnit - 1) / kInputUnit, lane = static_cast<int>(threadIdx.x) % kWarp;
  int unit = static_cast<int>(threadIdx.x) / kWarp, row = 0, own = unit;  // own: of the row
#pragma unroll 1
  while (unit < in.rows * units) {
    float x[kTogether][4] = {};
    int rows[kTogether], at[kTogether];
#pragma unroll
    for (int j = 0; j < kTogether; ++j) {
      while (own >= units) {
        own -= units;
        ++row;
      }
      rows[j] = row;
      at[j] = own * kInputUnit + lane * 4;
      if (row < in.rows && at[j] < k) load<4>(in.x + row * in.ldx + at[j], x[j]);
      own += kWarps;
    }
#pragma unroll
    for (int j = 0; j < kTogether; ++j) {
      if (rows[j] < in.rows) body(unit + j * kWarps, rows[j], at[j], x[j]);
    }
    unit += kTogether * kWarps;
  }
}

// Writes the rows of the input, normalised and rounded, to `out`. sums: shared, one for every unit of the input. The whole block calls it.
template <class Format>
__device__ void round_input(const LinearInput& in, float* sums, uint4* out, int row_words) {
  __shared__ float scales[kFewRows];
  const int k = static_cast<int>(in.k), lane = static_cast<int>(threadIdx.x) % kWarp;
  if (in.norm) {
    each_unit(in, [&](int unit, int, int, const float(&x)[4]) {
      const float sum = warp_sum(fmaf(x[0], x[0], fmaf(x[1], x[1], fmaf(x[2], x[2], x[3] * x[3]))));
      if (lane == 0) sums[unit] = sum;
    });
    __syncthreads();
    if (const int row = static_cast<int>(threadIdx.x) / kWarp; row < in.rows) {
      const int units = (k + kInputUnit - 1) / kInputUnit;
      float sum = 0;
      for (int unit = lane; unit < units; unit += kWarp) sum += sums[row * units + unit];
      sum = warp_sum(sum);
      if (lane == 0) scales[row] = 1 / sqrtf(sum / static_cast<float>(k) + in.eps);
    }
    __syncthreads();
  }
  each_unit(in, [&](int, int row, int i, float(&x)[4]) {
    if (in.norm && i < k) {
      float w[4];
      load<4>(in.norm + i, w);
      for (int j = 0; j < 4; ++j) x[j] = w[j] * (x[j] * scales[row]);
    }
    Format::put_rounded(out + row * row_words, i, x);
  });
}

// The stages that a warp takes, in order.
template <class Format>
class Walk {
 public:
  __device__ Walk(const StreamArgs& args, int tile, int first_stage, int stages, int lane)
      : first_(first_stage), stages_(stages), tile_(first_stage < stages ? tile : args.tiles), stage_(first_stage) {
    if (tile_ < args.tiles) source_ = OutputTile(args, tile_).source<Format>(args, lane);
  }

  // Asks for the next one, if there is one.
  __device__ void ask(const StreamArgs& args, typename Format::Slot& slot, int lane) {
    asm volatile("" ::: "memory");  // what was in the slot has been read
    if (tile_ < args.tiles) {
      source_.ask(slot, stage_, lane, policy_);
      stage_ += args.split;
      if (stage_ >= stages_) {
        stage_ = first_;
        tile_ += args.tiles_of_round;
        if (tile_ < args.tiles) source_ = OutputTile(args, tile_).source<Format>(args, lane);
      }
    }
    end_stage();
  }

 private:
  const uint64_t policy_ = read_once();
  int first_, stages_;
  int tile_, stage_;
  typename Format::Source source_;
};

// The sum of a tile's warps, in order, of output i of its rows x 8.
__device__ float tile_sum(const StreamArgs& args, const float* shares, int tile, int i) {
  const int outputs = args.input.rows * kTileOutputs;
  float sum = 0;
  for (int w = 0; w < args.split; ++w) sum += shares[(tile * args.split + w) * outputs + i];
  return sum;
}

// Writes the outputs of a block's tiles, the first of which is `first`. shares: [kWarps, rows, 8].
__device__ void finish(const StreamArgs& args, int first, const float* shares) {
  const int outputs = args.input.rows * kTileOutputs, step = args.swiglu ? 2 : 1;
  for (int item = static_cast<int>(threadIdx.x); item < args.tiles_of_block / step * outputs; item += kThreads) {
    const int tile = item / outputs * step, i = item % outputs;
    if (first + tile >= args.tiles) return;
    const OutputTile place(args, first + tile);
    const Segment& segment = args.segments.at[place.segment];
    const int t = i / kTileOutputs, n = place.first + i % kTileOutputs;
    if (n >= segment.outputs) continue;
    const float sum = tile_sum(args, shares, tile, i);
    if (args.swiglu) {
      const float up = args.segments.at[1].out.with_bias(n, tile_sum(args, shares, tile + 1, i));
      segment.out.y[t * segment.out.ld + n] = silu(segment.out.with_bias(n, sum)) * up;
    } else {
      segment.out.put(t, n, sum);
    }
  }
}

template <class Format, int kSets, int kSlots>
__global__ void __launch_bounds__(kThreads, 1) stream_weights(const __grid_constant__ StreamArgs args) {
  let_next_begin();
  extern __shared__ __align__(32) uint4 shared[];
  using Slot = typename Format::Slot;
  const int warp = static_cast<int>(threadIdx.x) / kWarp, lane = static_cast<int>(threadIdx.x) % kWarp, rows = args.input.rows;
  const int stages = (static_cast<int>(args.input.k) + Format::kInputs - 1) / Format::kInputs;
  Slot* const slots = reinterpret_cast<Slot*>(shared) + warp * kSlots;
  float* const shares = reinterpret_cast<float*>(reinterpret_cast<Slot*>(shared) + kWarps * kSlots);
  const int share = rows * kTileOutputs, buffer_size = kWarps * share;
  uint4* const x = reinterpret_cast<uint4*>(shares + 2 * buffer_size);
  const int own_tile = warp / args.split, first_stage = warp % args.split;
  const int begin = static_cast<int>(blockIdx.x) * args.tiles_of_block;
  Walk<Format> walk(args, begin + own_tile, first_stage, stages, lane);
#pragma unroll 1
  for (int s = 0; s < kSlots; ++s) walk.ask(args, slots[s], lane);

  // The norm's weights were last read a step ago.
  for (int i = static_cast<int>(threadIdx.x) * kLine; args.input.norm && i < args.input.k; i += kThreads * kLine)
    prefetch(args.input.norm + i);

  wait_for_input();
  round_input<Format>(args.input, shares, x, args.row_words);
  __syncthreads();
  typename Format::template Sums<kSets> sums(x, args.row_words, rows, lane);
  int slot = 0, buffer = 0;  // of shares two in turn, so that one barrier is enough
#pragma unroll 1
  for (int first = begin; first < args.tiles; first += args.tiles_of_round) {
    if (first + own_tile < args.tiles) {
      const auto source = OutputTile(args, first + own_tile).source<Format>(args, lane);
      sums.clear();
#pragma unroll 1
      for (int stage = first_stage; stage < stages; stage += args.split) {
        wait_stages<kSlots - 1>();
        __syncwarp();
        sums.add(slots[slot], source, stage, lane);
        __syncwarp();  // lanes have read each other's
        walk.ask(args, slots[slot], lane);
        slot = slot + 1 == kSlots ? 0 : slot + 1;
      }
      sums.put(shares + buffer + warp * share, rows, lane);
    }
    __syncthreads();
    finish(args, first, shares + buffer);
    buffer = buffer_size - buffer;
  }
}

// Warps to a tile: the fewer the better, as long as all multiprocessors have the same to do. A round costs about as much as a stage.
int best_split(int tiles, int stages, int blocks, int most) {
  int best = 1, least = INT32_MAX;
  for (int split = 1; split <= most; split *= 2) {
    const int rounds = ceil_div(ceil_div(tiles, kWarps / split), blocks), cost = rounds * (ceil_div(stages, split) + 1);
    if (cost >= least) continue;
    least = cost;
    best = split;
  }
  return best;
}

constexpr int kFewestSlots = 2;

// A block's shared memory.
template <class Format>
int64_t slot_bytes(int slots) {
  return int64_t{kWarps} * slots * static_cast<int64_t>(sizeof(typename Format::Slot));
}
template <class Format>
int64_t bytes_per_row(int64_t k) {
  return Format::row_words(k) * static_cast<int64_t>(sizeof(uint4)) + static_cast<int64_t>(sizeof(float)) * 2 * kWarps * kTileOutputs;
}

// As many rows at a time as there is room for.
template <class Format, int kSets, int kSlots>
void run(Context& ctx, StreamArgs args) {
  const CudaStream& stream = stream_of(ctx);
  const int64_t per_row = bytes_per_row<Format>(args.input.k);
  const int fitting = static_cast<int>((stream.shared_bytes() - slot_bytes<Format>(kSlots)) / per_row);
  const int stages = static_cast<int>(ceil_div<int64_t>(args.input.k, Format::kInputs));
  const int split = best_split(args.tiles, stages, stream.multiprocessors(), args.swiglu ? kWarps / 2 : kWarps);
  const int blocks = std::min(ceil_div(args.tiles, kWarps / split), stream.multiprocessors());
  args.split = split;
  args.row_words = Format::row_words(args.input.k);
  args.tiles_of_block = kWarps / split;
  args.tiles_of_round = args.tiles_of_block * blocks;
  const auto kernel = stream_weights<Format, kSets, kSlots>;
  stream.use();
  for (int rest = args.input.rows; rest > 0; rest -= fitting) {
    args.input.rows = std::min(rest, fitting);
    const int64_t shared = slot_bytes<Format>(kSlots) + per_row * args.input.rows;
    check(
        cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel), cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared)),
        "linear");
    launch(ctx, "linear", kernel, static_cast<unsigned>(blocks), kThreads, static_cast<size_t>(shared), args);
    args.input.x += fitting * args.input.ldx;
    for (int i = 0; i < args.segments.count; ++i) args.segments.at[i].out.y += fitting * args.segments.at[i].out.ld;
  }
}

template <class Format, int kSets>
void run(Context& ctx, const StreamArgs& args) {
  const int64_t wanted = slot_bytes<Format>(Format::kSlots) + args.input.rows * bytes_per_row<Format>(args.input.k);
  if (wanted <= stream_of(ctx).shared_bytes()) return run<Format, kSets, Format::kSlots>(ctx, args);
  run<Format, kSets, kFewestSlots>(ctx, args);
}

template <class Format>
void run(Context& ctx, const StreamArgs& args) {
  constexpr int kRows = Format::kRowsPerSum;
  if (args.input.rows <= kRows) return run<Format, 1>(ctx, args);
  if constexpr (kRows < kFewRows) {
    if (args.input.rows <= 2 * kRows) return run<Format, 2>(ctx, args);
    run<Format, kFewRows / kRows>(ctx, args);
  }
}

// Calls body(Format()).
template <class Body>
void with_format(DType type, Body&& body) {
  if (type == DType::kBF16) return body(Bf16Stream());
  with_quantised(type, [&](auto quantised) { body(BlockStream<decltype(quantised)::kDType>()); });
}

}  // namespace

bool can_stream(Context& ctx, DType type, int64_t k) {
  if (type != DType::kBF16 && !is_quantised(type)) return false;
  int64_t bytes = 0;
  with_format(type, [&](auto format) { bytes = slot_bytes<decltype(format)>(kFewestSlots) + bytes_per_row<decltype(format)>(k); });
  return bytes <= stream_of(ctx).shared_bytes() && k <= kMostInputs;
}

void linear_stream(Context& ctx, const LinearInput& input, const Segments& segments, bool swiglu) {
  StreamArgs args = {};
  args.segments = segments;
  args.input = input;
  args.swiglu = swiglu;
  for (int i = 0; i < segments.count; ++i) {
    args.tiles += static_cast<int>(ceil_div<int64_t>(segments.at[i].outputs, kTileOutputs));
    args.ends[i] = args.tiles;
  }
  with_format(segments.type, [&](auto format) { run<decltype(format)>(ctx, args); });
}

}  // namespace wick::cuda
