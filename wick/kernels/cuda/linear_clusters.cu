// Products of a batch of rows with bf16 weights on Hopper, bound by the weights' bytes.
//
// The blocks of a cluster share k. Each keeps its part of x in shared memory from beginning to end, and streams its part of one tile of
// outputs after the other through a ring: four warps copy, 512 bytes of a row at a time, and two groups of four multiply, a tile each in
// turn. A group sends its sums to the blocks that add up those outputs, in the order of k, while the other group multiplies. Weights do not
// depend on the kernels before: the ring fills while those still run.
#include <algorithm>
#include <cmath>
#include <map>
#include <mutex>
#include <utility>

#include "wick/base/checked.h"
#include "wick/kernels/cuda/linear_parts.cuh"
#include "wick/kernels/cuda/tensor_copy.cuh"
#include "wick/kernels/cuda/warpgroup.cuh"

#if defined(__CUDA_ARCH__) && !defined(__CUDA_ARCH_FEAT_SM90_ALL)
#pragma nv_diag_suppress 177  // the kernel is empty there, and what it is made of is nobody's
#endif

namespace wick::cuda {
namespace {

using Element = __nv_bfloat16;

constexpr int kGroups = 2;
constexpr int kCopiers = 4 * kWarp;
constexpr int kThreads = kGroups * kGroupThreads + kCopiers;
constexpr int kTileRows = 64, kHalfTile = kTileRows / 2;  // of the tensor cores: a tile has as many outputs, or fewer
constexpr int kPanel = kTileRows * kPanelWidth;           // elements
constexpr int kPanelChunks = kPanelWidth / 8;             // of 16 bytes, of a row
constexpr int kWidePanels = 4, kNarrowPanels = 2;         // of a step along k
constexpr int kFewestStages = 3, kMostStages = 6, kRingPanels = 12;
constexpr int kMostSteps = 16;  // of a block along k
constexpr int kMostBytes = 226 * 1024;
constexpr int64_t kMostRows = 32;
#ifdef WICK_RACECHECK
constexpr bool kEachTells = true;  // compute-sanitizer's racecheck follows only what a thread tells of itself
#else
constexpr bool kEachTells = false;
#endif
constexpr int kTellers = kEachTells ? kGroupThreads : 1;  // of a group

// The sums of a tile, and which block of a cluster adds up which: each as many rows, gates with their ups.
struct TileShape {
  int outputs;  // a multiple of 8
  bool swiglu;  // rows are gates, from kHalfTile on their ups
  int shift;    // a block has 1 << shift of them

  __device__ int rows() const { return swiglu ? 2 << shift : 1 << shift; }
  __device__ int block_of(int row) const { return (swiglu ? row % kHalfTile : row) >> shift; }
  // Which of that block's rows it is; ups come behind gates.
  __device__ int row_of(int row) const { return (row & ((1 << shift) - 1)) + (swiglu ? row / kHalfTile << shift : 0); }
  __device__ bool inside(int row) const { return (swiglu ? row % kHalfTile : row) < outputs; }
};

struct ClusterArgs {
  const Element* weights;  // rows k apart
  int k, last_row;
  int rows, outputs;  // of y
  int tiles;
  TileShape tile;
  int blocks;                 // of a cluster
  int panels;                 // of a step
  int steps, steps_of_block;  // along k
  int stages;
  LinearOutput out;
};

// What a block keeps in shared memory beside the ring and, behind it, its panels of x.
template <int kRows>
struct alignas(16) ClusterMemory {
  // Rows of the block's own outputs from all blocks. Longer than they need to be, so that four meet every bank once.
  float sums[kGroups][kTileRows][kRows + 8];
  Arrival sent[kGroups], taken[kGroups];  // these
  Arrival go[kGroups];                    // the group whose turn it is to multiply
  Arrival full[kMostStages], free[kMostStages], x[kMostSteps];
};

// A panel of x, in elements.
template <int kRows>
constexpr int x_panel() {
  return kRows * kPanelWidth;
}
template <int kRows>
constexpr int x_panel_bytes() {
  return x_panel<kRows>() * static_cast<int>(sizeof(Element));
}

template <int kRows>
int shared_bytes(const ClusterArgs& args) {
  constexpr int kPanelBytes = kPanel * static_cast<int>(sizeof(Element));
  const int panels = args.panels * (args.stages * kPanelBytes + args.steps_of_block * x_panel_bytes<kRows>());
  return panels + static_cast<int>(sizeof(ClusterMemory<kRows>));
}

// What a block has to do.
struct OwnWork {
  int rank;                     // in its cluster
  int first_tile, tiles_apart;  // its cluster's
  int first_step, steps;

  __device__ explicit OwnWork(const ClusterArgs& args)
      : rank(static_cast<int>(blockIdx.x) % args.blocks),
        first_tile(static_cast<int>(blockIdx.x) / args.blocks),
        tiles_apart(static_cast<int>(gridDim.x) / args.blocks),
        first_step(rank * args.steps_of_block),
        steps(max(0, min(args.steps_of_block, args.steps - first_step))) {}
};

// Asks for the block's parts of its tiles, one after the other: neighbouring lanes for neighbours in a row.
template <int kPanels, int kRows>
__device__ void copy_weights(const ClusterArgs& args, const OwnWork& work, Element* ring, ClusterMemory<kRows>& memory) {
  constexpr int kChunks = kPanels * kPanelChunks, kRowsTogether = kCopiers / kChunks;
  const int thread = static_cast<int>(threadIdx.x) - kGroups * kGroupThreads, chunk = thread % kChunks, first_row = thread / kChunks;
  const uint64_t once = read_once();
  RingPlace place;
#pragma unroll 1
  for (int tile = work.first_tile; tile < args.tiles; tile += work.tiles_apart) {
    const int upper = tile * args.tile.outputs, lower = upper + (args.tile.swiglu ? args.outputs - kHalfTile : 0);
#pragma unroll 1
    for (int step = 0; step < work.steps; ++step, place.skip(1, args.stages)) {
      if (place.turn > 0) memory.free[place.slot].wait(place.turn - 1);
      const int at = ((work.first_step + step) * kPanels * kPanelChunks + chunk) * 8;
      const bool inside = at < args.k;
      const Element* const from = args.weights + (inside ? at : 0);
      Element* const to = ring + place.slot * kPanels * kPanel;
#pragma unroll
      for (int i = 0; i < kTileRows / kRowsTogether; ++i) {
        const int row = first_row + i * kRowsTogether;
        copy16(to + panel_place<kTileRows>(row, chunk),
               from + int64_t{min(row + (row < kHalfTile ? upper : lower), args.last_row)} * args.k, inside && args.tile.inside(row), once);
      }
      memory.full[place.slot].arrive_after_copies();
    }
  }
  end_stage();
  wait_stages<0>();
}

// Asks for the block's panels of x. One warp calls it.
template <int kRows>
__device__ void copy_x(const CUtensorMap& x, const ClusterArgs& args, const OwnWork& work, Element* to, ClusterMemory<kRows>& memory) {
  for (int step = static_cast<int>(threadIdx.x); step < work.steps; step += kWarp) {
    memory.x[step].arrive_with(static_cast<unsigned>(args.panels * x_panel_bytes<kRows>()));
    for (int p = step * args.panels; p < (step + 1) * args.panels; ++p) {
      copy_box(to + p * x_panel<kRows>(), x, int2{(work.first_step * args.panels + p) * kPanelWidth, 0}, memory.x[step]);
    }
  }
}

// Adds up the block's outputs of a tile, from output `first` on to before `end`.
template <int kRows>
__device__ void put_sums(const ClusterArgs& args, const float (&sums)[kTileRows][kRows + 8], int first, int end) {
  constexpr int kTogether = 4;  // loads of y on their way
  const LinearOutput& out = args.out;
  const TileShape& tile = args.tile;
  const int items = args.rows << tile.shift, thread = static_cast<int>(threadIdx.x) % kGroupThreads;
  const auto row_of = [&](int item) { return item >> tile.shift; };
  const auto output_of = [&](int item) { return item & ((1 << tile.shift) - 1); };
  const auto inside = [&](int item) { return item < items && first + output_of(item) < end; };
#pragma unroll 1
  for (int base = thread; base < items; base += kTogether * kGroupThreads) {
    float old[kTogether] = {};
#pragma unroll
    for (int i = 0; i < kTogether; ++i) {
      const int item = base + i * kGroupThreads;
      if (out.accumulate && inside(item)) old[i] = out.y[row_of(item) * out.ld + first + output_of(item)];
    }
#pragma unroll
    for (int i = 0; i < kTogether; ++i) {
      const int item = base + i * kGroupThreads, t = row_of(item), own = output_of(item), n = first + own;
      if (!inside(item)) continue;
      float sum = 0;
      for (int b = 0; b < args.blocks; ++b) sum += sums[b * tile.rows() + own][t];
      sum = out.with_bias(n, sum);
      if (tile.swiglu) {
        float up = 0;
        for (int b = 0; b < args.blocks; ++b) up += sums[b * tile.rows() + (1 << tile.shift) + own][t];
        sum = silu(sum) * out.with_bias(args.outputs + n, up);
      }
      sum += old[i];
      if (out.rounded) {
        out.rounded[t * out.ld + n] = __float2bfloat16_rn(sum);
      } else {
        out.y[t * out.ld + n] = sum;
      }
    }
  }
}

// Tells the blocks of a cluster of what a group's threads have done. All of them call it.
__device__ void tell_blocks(Arrival& arrival, int group, int blocks) {
  const int own = static_cast<int>(threadIdx.x) % kGroupThreads;
  meet_group(group);
  if constexpr (kEachTells) {
    for (int block = 0; block < blocks; ++block) arrival.arrive_in(block);
  } else {
    if (own < blocks) arrival.arrive_in(own);
  }
}

// Multiplies the tiles of one group. All its threads call it.
template <int kRows>
__device__ void multiply_tiles(const ClusterArgs& args, const OwnWork& work, int group, const Element* ring, const Element* all_x,
                               ClusterMemory<kRows>& memory) {
  const TileShape& shape = args.tile;
  const int own = static_cast<int>(threadIdx.x) % kGroupThreads, lane = own % kWarp, row = own / kWarp * 16 + lane / 4;
  const auto place_of = [&](int r) {
    return address_in(shape.block_of(r), &memory.sums[group][work.rank * shape.rows() + shape.row_of(r)][lane % 4 * 2]);
  };
  const unsigned upper = place_of(row), lower = place_of(row + 8);
  RingPlace place;
  if (group == 1) place.skip(work.steps, args.stages);
#pragma unroll 1
  for (unsigned number = 0;; ++number) {
    const int tile = work.first_tile + (kGroups * static_cast<int>(number) + group) * work.tiles_apart;
    if (tile >= args.tiles) break;
    float sums[kRows / 8][4] = {};
    if (group > 0 || number > 0) memory.go[group].wait(group > 0 ? number : number - 1);
#pragma unroll 1
    for (int step = 0; step < work.steps; ++step) {
      memory.full[place.slot].wait(place.turn);
      show_to_products();
      if (number == 0) memory.x[step].wait(0);
      const Element* weights = ring + place.slot * args.panels * kPanel;
      const Element* x = all_x + step * args.panels * x_panel<kRows>();
      begin_products();
#pragma unroll 1
      for (int panel = 0; panel < args.panels; ++panel) {
#pragma unroll
        for (int i = 0; i < kPanelWidth; i += 16) {
          multiply_group<Element, false>(sums, tile_descriptor(weights + i, 0), tile_descriptor(x + i, 0), step > 0 || panel > 0 || i > 0);
        }
        weights += kPanel;
        x += x_panel<kRows>();
      }
      finish_products();
      if (lane == 0) memory.free[place.slot].arrive();
      place.skip(1, args.stages);
    }
    if (lane == 0) memory.go[1 - group].arrive();
    place.skip(work.steps, args.stages);
    if (number > 0) memory.taken[group].wait_in_cluster(number - 1);
#pragma unroll
    for (int j = 0; j < kRows / 8; ++j) {
      store_in_cluster(upper + j * 8 * sizeof(float), sums[j][0], sums[j][1]);
      store_in_cluster(lower + j * 8 * sizeof(float), sums[j][2], sums[j][3]);
    }
    tell_blocks(memory.sent[group], group, args.blocks);
    memory.sent[group].wait_in_cluster(number);
    const int first = tile * shape.outputs;
    put_sums<kRows>(args, memory.sums[group], first + (work.rank << shape.shift), min(args.outputs, first + shape.outputs));
    // Of the last tile nobody is told: they may be gone.
    if (tile + kGroups * work.tiles_apart < args.tiles) tell_blocks(memory.taken[group], group, args.blocks);
  }
}

template <int kRows>
__global__ void __launch_bounds__(kThreads, 1)
    cluster_kernel(const __grid_constant__ CUtensorMap x, const __grid_constant__ ClusterArgs args) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  let_next_begin();
  extern __shared__ __align__(1024) std::byte shared[];
  Element* const ring = reinterpret_cast<Element*>(shared);
  Element* const all_x = ring + args.stages * args.panels * kPanel;
  ClusterMemory<kRows>& memory = *reinterpret_cast<ClusterMemory<kRows>*>(all_x + args.steps_of_block * args.panels * x_panel<kRows>());
  const OwnWork work(args);
  if (threadIdx.x == 0) {
    for (int g = 0; g < kGroups; ++g) {
      memory.go[g].init(kGroupWarps);
      memory.sent[g].init(static_cast<unsigned>(args.blocks * kTellers));
      memory.taken[g].init(static_cast<unsigned>(args.blocks * kTellers));
    }
    for (int i = 0; i < args.stages; ++i) {
      memory.full[i].init(kCopiers);
      memory.free[i].init(kGroupWarps);
    }
    for (int i = 0; i < work.steps; ++i) memory.x[i].init(1);
    show_arrivals();
  }
  meet_cluster();
  const int group = __shfl_sync(kAllLanes, static_cast<int>(threadIdx.x) / kGroupThreads, 0);  // a warp's, as the compiler sees
  if (group == kGroups) {
    args.panels == kWidePanels ? copy_weights<kWidePanels>(args, work, ring, memory)
                               : copy_weights<kNarrowPanels>(args, work, ring, memory);
  } else {
    wait_for_input();
    if (threadIdx.x < kWarp) copy_x(x, args, work, all_x, memory);
    multiply_tiles<kRows>(args, work, group, ring, all_x, memory);
  }
  if constexpr (kEachTells) meet_cluster();  // it also wants to see that nobody is gone before all that is sent to it has come
#endif
}

// How many clusters of so many blocks run at once, one block to a multiprocessor.
int clusters_together(Context& ctx, int blocks) {
  static auto* const known = new std::map<std::pair<int, int>, int>;
  static auto* const mutex = new std::mutex;
  const std::lock_guard lock(*mutex);
  const auto [entry, added] = known->try_emplace({ctx.device().index(), blocks});
  if (!added) return entry->second;
  const auto kernel = cluster_kernel<kMostRows>;
  check(cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel), cudaFuncAttributeMaxDynamicSharedMemorySize, kMostBytes), "linear");
  cudaLaunchAttribute cluster = {};
  cluster.id = cudaLaunchAttributeClusterDimension;
  cluster.val.clusterDim = {static_cast<unsigned>(blocks), 1, 1};
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3(static_cast<unsigned>(blocks));
  config.blockDim = dim3(kThreads);
  config.dynamicSmemBytes = kMostBytes;
  config.attrs = &cluster;
  config.numAttrs = 1;
  check(cudaOccupancyMaxActiveClusters(&entry->second, kernel, &config), "linear");
  return entry->second;
}

// Divides the work: k among the blocks of a cluster, so that each has room for its part of x, outputs into tiles, so that clusters have
// about the same to do. False where there is no room.
template <int kRows>
bool divide(Context& ctx, ClusterArgs& args) {
  constexpr int kGoodInputs = 64 * 1024 / (kRows * 2);  // of a block: x leaves room for a wide ring
  constexpr double kOfTile = 12 * 1024;                 // what a tile costs a block beside its bytes, in bytes
  constexpr int kFewestOutputs = 32, kLog2Rows = 6, kLog2Half = 5;
  double least = INFINITY;
  const int panels = ceil_div(args.k, kPanelWidth);
  ClusterArgs best = args;
  for (int log2_blocks = 0; 1 << log2_blocks <= kMostClusterBlocks; ++log2_blocks) {
    ClusterArgs own = args;
    own.blocks = 1 << log2_blocks;
    const int inputs = ceil_div(panels, own.blocks) * kPanelWidth;
    own.panels = inputs <= kGoodInputs && inputs >= kWidePanels * kPanelWidth ? kWidePanels : kNarrowPanels;
    own.steps = ceil_div(panels, own.panels);
    own.steps_of_block = ceil_div(own.steps, own.blocks);
    own.stages = kRingPanels / own.panels;
    while (own.stages > kFewestStages && shared_bytes<kRows>(own) > kMostBytes) --own.stages;
    if (own.steps_of_block > kMostSteps || shared_bytes<kRows>(own) > kMostBytes) continue;
    if (inputs > kGoodInputs && own.blocks < kMostClusterBlocks) continue;
    own.tile.shift = (own.tile.swiglu ? kLog2Half : kLog2Rows) - log2_blocks;
    const int together = clusters_together(ctx, own.blocks);
    for (int rows = kFewestOutputs; together > 0 && rows <= kTileRows; rows += 8) {
      own.tile.outputs = own.tile.swiglu ? rows / 2 : rows;
      own.tiles = ceil_div(own.outputs, own.tile.outputs);
      const int rounds = ceil_div(own.tiles, std::min(own.tiles, together));
      const double cost = rounds * (static_cast<double>(rows) * inputs * sizeof(Element) + kOfTile);
      if (cost >= least) continue;
      least = cost;
      best = own;
    }
  }
  args = best;
  return std::isfinite(least);
}

template <int kRows>
bool run(Context& ctx, const RoundedInput& x, ClusterArgs args) {
  CUtensorMap map;
  const TensorSizes<2> sizes = {args.k, x.rows};
  if (!divide<kRows>(ctx, args) || !describe_tensor<2>(map, DType::kBF16, x.x, sizes, {x.ld * int64_t{sizeof(Element)}}, kRows))
    return false;
  const auto kernel = cluster_kernel<kRows>;
  const int bytes = shared_bytes<kRows>(args), clusters = std::min(args.tiles, clusters_together(ctx, args.blocks));
  check(cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel), cudaFuncAttributeMaxDynamicSharedMemorySize, kMostBytes), "linear");
  launch_clusters(ctx, "linear", kernel, static_cast<unsigned>(clusters * args.blocks), static_cast<unsigned>(args.blocks), kThreads,
                  static_cast<size_t>(bytes), map, args);
  return true;
}

}  // namespace

bool linear_clusters(Context& ctx, const RoundedInput& x, std::span<const WeightSegment> segments, const LinearOutput& out, bool swiglu) {
  const int64_t outputs = outputs_of(segments), k = padded_inputs(segments[0].k);
  if (ctx.batch_invariant() || !has_warpgroups(ctx) || segments[0].type != DType::kBF16 || x.rows > kMostRows || outputs > INT32_MAX / 2)
    return false;
  ClusterArgs args = {};
  args.weights = plain_matrix(segments);
  if (!args.weights) return false;
  stream_of(ctx).use();
  args.k = static_cast<int>(k);
  args.last_row = static_cast<int>(outputs) - 1;
  args.rows = static_cast<int>(x.rows);
  args.outputs = static_cast<int>(swiglu ? outputs / 2 : outputs);
  args.tile.swiglu = swiglu;
  args.out = out;
  return x.rows <= 16 ? run<16>(ctx, x, args) : run<kMostRows>(ctx, x, args);
}

}  // namespace wick::cuda
