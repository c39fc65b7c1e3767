// Draws tokens in three kernels. The first finds the largest logits, as for argmax. In the second many blocks weigh every token and add the
// weights up by halvings, in bins of 1/32: integers, so their order does not matter. In the third a cluster of blocks for each row walks
// down: the bins say in which of them a sum is reached, only that one's tokens are collected and sorted. The cluster's first block leads;
// the others help where all tokens are looked at.
#include <cooperative_groups.h>

#include <algorithm>

#include "wick/base/checked.h"
#include "wick/kernels/argmax.h"
#include "wick/kernels/cuda/device.cuh"
#include "wick/kernels/token_draw.h"

namespace wick::cuda {
namespace {

constexpr int kWeighThreads = 512;
constexpr int64_t kLeastSlice = 4096;  // tokens that are worth a block of their own
constexpr int64_t kMostSlices = 16;
constexpr int64_t kRowsTogether = 256;

constexpr int kThreads = 1024;
constexpr int kSteps = 2 * kThreads;  // sums of a walk down
constexpr int kRoom = 4096;           // tokens that are sorted at once
constexpr int kBeside = 512;          // that are sorted where fewer would do: another goal may be among them
static_assert(kDrawBins <= kSteps && kRoom % kThreads == 0);

struct Sums {
  unsigned long long weight;
  unsigned count;
};

struct Histogram {
  unsigned long long weight[kDrawBins];
  unsigned count[kDrawBins];
};

struct Row {
  const float* logits;
  int64_t size;
  TokenDraw draw;
  float best;

  __device__ Row(const DrawArgs& args, int64_t row, int32_t best_id)
      : logits(row_of<float>(args.logits, row)), size(args.logits.size), draw(args.draws[row]), best(logits[best_id]) {}
  __device__ uint32_t halvings_of(float logit) const { return halvings(best, logit, draw.steepness); }
  // Whether a logit's bin is one of these: a comparison of halvings without rounding them down.
  __device__ auto in_bins(int first, int last) const {
    constexpr float kWidth = 1.0f / (1 << (kHalvingBits - kDrawBinShift));
    return [=, best = best, steepness = draw.steepness](float logit) {
      const float y = (best - logit) * steepness;
      return y >= static_cast<float>(first) * kWidth && y < static_cast<float>(last + 1) * kWidth;
    };
  }
};

// Whether the largest logit is the answer already.
__device__ bool is_chosen(const DrawArgs& args, int64_t row) { return args.y[row] < 0 || args.draws[row].top_k == 1; }

// Calls body(logit, id) for those of a row's tokens begin .. end - 1 whose logits are wanted: few, mostly, so the program holds body once
// and reads their logits anew.
template <int kBlockThreads, class Wanted, class Body>
__device__ void for_tokens(const float* logits, int64_t begin, int64_t end, Wanted&& wanted, Body&& body) {
  constexpr int kTogether = 4, kVector = 4;
  const int64_t whole = reinterpret_cast<uintptr_t>(logits + begin) % 16 ? begin : end - (end - begin) % kVector;
  for (int64_t first = begin + threadIdx.x * kVector; first < whole; first += kTogether * kBlockThreads * kVector) {
    const auto at = [&](int j) { return first + j * (kBlockThreads * kVector); };
    float x[kTogether][kVector];
#pragma unroll
    for (int j = 0; j < kTogether; ++j) load<kVector>(logits + (at(j) < whole ? at(j) : first), x[j]);
    unsigned hits = 0;
#pragma unroll
    for (int j = 0; j < kTogether; ++j) {
#pragma unroll
      for (int i = 0; i < kVector; ++i) hits |= wanted(x[j][i]) && at(j) < whole ? 1u << (j * kVector + i) : 0u;
    }
    for (; hits; hits &= hits - 1) {
      const int hit = __ffs(static_cast<int>(hits)) - 1;
      const int64_t id = at(hit / kVector) + hit % kVector;
      body(logits[id], static_cast<uint32_t>(id));
    }
  }
  for (int64_t id = whole + threadIdx.x; id < end; id += kBlockThreads) {
    if (wanted(logits[id])) body(logits[id], static_cast<uint32_t>(id));
  }
}

// Shared memory adds words of 32 bits at once, wider ones by trying again and again.
__device__ void add_shared(unsigned long long* to, unsigned long long x) {
  unsigned* words = reinterpret_cast<unsigned*>(to);
  const unsigned low = static_cast<unsigned>(x), sum = atomicAdd(words, low) + low;
  const unsigned high = static_cast<unsigned>(x >> 32) + (sum < low ? 1 : 0);
  if (high) atomicAdd(words + 1, high);
}

__global__ void __launch_bounds__(kWeighThreads)
    weigh(const __grid_constant__ DrawArgs args, int64_t first, int64_t slice, Histogram* histograms) {
  __shared__ Histogram sums;
  begin_kernel();
  const int64_t row = first + blockIdx.x;
  if (is_chosen(args, row)) return;
  for (int bin = static_cast<int>(threadIdx.x); bin < kDrawBins; bin += kWeighThreads) {
    sums.weight[bin] = 0;
    sums.count[bin] = 0;
  }
  __syncthreads();
  const Row x(args, row, args.y[row]);
  const int64_t begin = blockIdx.y * slice;
  const auto has_weight = [&](float logit) { return x.halvings_of(logit) < kWeightless; };
  for_tokens<kWeighThreads>(x.logits, begin, min(x.size, begin + slice), has_weight, [&](float logit, uint32_t) {
    const uint32_t q = x.halvings_of(logit);
    add_shared(&sums.weight[q >> kDrawBinShift], draw_weight(q));
    atomicAdd(&sums.count[q >> kDrawBinShift], 1u);
  });
  __syncthreads();
  Histogram& to = histograms[blockIdx.x * gridDim.y + blockIdx.y];
  for (int bin = static_cast<int>(threadIdx.x); bin < kDrawBins; bin += kWeighThreads) {
    to.weight[bin] = sums.weight[bin];
    to.count[bin] = sums.count[bin];
  }
}

// What is looked for: the first token at which so many tokens, or so much weight, have come together.
struct Goal {
  unsigned long long weight;  // 0: the count is meant
  unsigned count;

  __device__ bool reached(const Sums& sums) const { return weight ? sums.weight >= weight : sums.count >= count; }
};

// Sums up to each of a row of steps.
struct Steps {
  unsigned long long weight[kSteps];
  unsigned count[kSteps];
};

// What all blocks of a cluster do with the tokens of some bins whose keys lie in [low, high].
struct Pass {
  enum { kDone, kCollect, kPart, kAddUp } kind;
  int first_bin, last_bin;
  unsigned long long low = 0, high = ~0ull;
  int shift = 0;                 // kPart: adds them up by (key - low) >> shift
  uint32_t least = kWeightless;  // kAddUp: adds up those with fewer halvings
};

struct Shared {
  Steps bins;
  union {
    Steps parts;  // of a bin with more tokens than there is room for
    struct {
      unsigned long long keys[kRoom];
      unsigned long long sums[kRoom];
    };
  };
  Sums warps[kThreads / kWarp];
  Sums before_warps[kThreads / kWarp];
  Pass pass;
  unsigned long long added;
  int found;
  int collected;
};

// Tokens in their order: the larger logit first, then the lower id.
__device__ unsigned long long key_of(float logit, uint32_t id) {
  const uint32_t bits = __float_as_uint(logit + 0.0f);  // one zero
  const uint32_t ascending = bits & 0x80000000u ? ~bits : bits | 0x80000000u;
  return static_cast<unsigned long long>(~ascending) << 32 | id;
}
__device__ float logit_of(unsigned long long key) {
  const uint32_t ascending = ~static_cast<uint32_t>(key >> 32);
  return __uint_as_float(ascending & 0x80000000u ? ascending & 0x7fffffffu : ~ascending);
}

__device__ Sums operator+(const Sums& a, const Sums& b) { return {a.weight + b.weight, a.count + b.count}; }

// The sum of what the threads before this one bring. For all threads of the block.
__device__ Sums sum_before(const Sums& mine, Shared& shared) {
  const unsigned lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const auto within_warp = [lane](Sums sums) {
#pragma unroll
    for (int step = 1; step < kWarp; step *= 2) {
      const Sums left = {__shfl_up_sync(kAllLanes, sums.weight, step), __shfl_up_sync(kAllLanes, sums.count, step)};
      if (lane >= step) sums = sums + left;
    }
    return sums;
  };
  const Sums upto = within_warp(mine);
  __syncthreads();
  if (lane == kWarp - 1) shared.warps[warp] = upto;
  __syncthreads();
  if (warp == 0) {
    const Sums whole = shared.warps[lane], sums = within_warp(whole);
    shared.before_warps[lane] = {sums.weight - whole.weight, sums.count - whole.count};
  }
  __syncthreads();
  return shared.before_warps[warp] + Sums{upto.weight - mine.weight, upto.count - mine.count};
}

// Turns what steps hold into sums up to each of them, on top of `before`.
__device__ void add_up(Steps& steps, const Sums& before, Shared& shared) {
  const unsigned i = 2 * threadIdx.x;
  __syncthreads();
  const Sums one = {steps.weight[i], steps.count[i]}, two = {steps.weight[i + 1], steps.count[i + 1]};
  const Sums first = before + sum_before(one + two, shared) + one, second = first + two;
  steps.weight[i] = first.weight;
  steps.count[i] = first.count;
  steps.weight[i + 1] = second.weight;
  steps.count[i + 1] = second.count;
  __syncthreads();
}

__device__ Sums sums_at(const Steps& steps, int i, const Sums& before) { return i < 0 ? before : Sums{steps.weight[i], steps.count[i]}; }

// The step in which the goal is reached.
__device__ int find(const Steps& steps, const Sums& before, const Goal& goal, Shared& shared) {
  for (int i = static_cast<int>(threadIdx.x); i < kSteps; i += kThreads) {
    if (goal.reached(sums_at(steps, i, before)) && !goal.reached(sums_at(steps, i - 1, before))) shared.found = i;
  }
  __syncthreads();
  const int found = shared.found;
  __syncthreads();
  return found;
}

// A cluster's blocks, or one block.
template <bool kClusters>
struct Team {
  __device__ static void meet() {
#if __CUDA_ARCH__ >= 900
    if constexpr (kClusters) return cooperative_groups::this_cluster().sync();
#endif
    __syncthreads();
  }
  __device__ static unsigned rank() {
#if __CUDA_ARCH__ >= 900
    if constexpr (kClusters) return cooperative_groups::this_cluster().block_rank();
#endif
    return 0;
  }
  __device__ static unsigned size() {
#if __CUDA_ARCH__ >= 900
    if constexpr (kClusters) return cooperative_groups::this_cluster().num_blocks();
#endif
    return 1;
  }
  __device__ static Shared& leaders(Shared& shared) {
#if __CUDA_ARCH__ >= 900
    if constexpr (kClusters) return *cooperative_groups::this_cluster().map_shared_rank(&shared, 0);
#endif
    return shared;
  }
};

// A block's share of a pass. The results are the leader's.
template <bool kClusters>
__device__ __noinline__ void take_part(const Row& row, const Pass& pass, Shared& leader) {
  using Us = Team<kClusters>;
  const int64_t share = (row.size / 4 + Us::size()) / Us::size() * 4, begin = min(row.size, Us::rank() * share);
  for_tokens<kThreads>(row.logits, begin, min(row.size, begin + share), row.in_bins(pass.first_bin, pass.last_bin),
                       [&](float logit, uint32_t id) {
                         const unsigned long long key = key_of(logit, id);
                         if (key < pass.low || key > pass.high) return;
                         if (pass.kind == Pass::kCollect) {
                           leader.keys[atomicAdd(&leader.collected, 1)] = key;
                           return;
                         }
                         const uint32_t q = row.halvings_of(logit);
                         if (pass.kind == Pass::kPart) {
                           const unsigned part = static_cast<unsigned>((key - pass.low) >> pass.shift);
                           add_shared(&leader.parts.weight[part], draw_weight(q));
                           atomicAdd(&leader.parts.count[part], 1u);
                         } else if (q < pass.least) {
                           add_shared(&leader.added, draw_weight(q));
                         }
                       });
}

// What the others do: passes until the leader is done.
template <bool kClusters>
__device__ void help(const Row& row, Shared& shared) {
  Shared& leader = Team<kClusters>::leaders(shared);
  for (;;) {
    Team<kClusters>::meet();
    const Pass pass = leader.pass;
    if (pass.kind != Pass::kDone) take_part<kClusters>(row, pass, leader);
    Team<kClusters>::meet();  // the leader's memory is there until here
    if (pass.kind == Pass::kDone) return;
  }
}

// The leader's walk down to one token. All threads of the block call its functions together.
template <bool kClusters>
class Walk {
 public:
  __device__ Walk(const Row& row, Shared& shared) : row_(row), shared_(shared) {}

  // Takes the row's histograms, of `slices` blocks.
  __device__ void begin(const Histogram* histograms, int slices) {
    for (int bin = static_cast<int>(threadIdx.x); bin < kSteps; bin += kThreads) {
      Sums sums = {0, 0};
#pragma unroll 8
      for (int i = 0; i < (bin < kDrawBins ? slices : 0); ++i) sums = sums + Sums{histograms[i].weight[bin], histograms[i].count[bin]};
      shared_.bins.weight[bin] = sums.weight;
      shared_.bins.count[bin] = sums.count;
    }
    add_up(shared_.bins, {0, 0}, shared_);
  }

  __device__ Sums total() const { return sums_at(shared_.bins, kSteps - 1, {0, 0}); }

  struct Place {
    unsigned long long weight;  // up to and with this token
    uint32_t id;
  };

  // The first token that reaches the goal. There has to be one.
  __device__ __noinline__ Place find_token(const Goal& goal) {
    const int bin = find(shared_.bins, {0, 0}, goal, shared_);
    if (bin < first_bin_ || bin > last_bin_) collect(bin, goal);
    for (int i = static_cast<int>(threadIdx.x); i < collected_; i += kThreads) {
      const Sums here = {shared_.sums[i], before_.count + i + 1};
      const Sums left = {i ? shared_.sums[i - 1] : before_.weight, before_.count + i};
      if (goal.reached(here) && !goal.reached(left)) shared_.found = i;
    }
    __syncthreads();
    const int found = shared_.found;
    const Place place = {shared_.sums[found], static_cast<uint32_t>(shared_.keys[found])};
    __syncthreads();
    return place;
  }

  // The weight of the tokens with fewer halvings.
  __device__ unsigned long long weight_below(uint32_t halvings) {
    const int bin = static_cast<int>(halvings >> kDrawBinShift);
    if (threadIdx.x == 0) shared_.added = sums_at(shared_.bins, bin - 1, {0, 0}).weight;
    run({.kind = Pass::kAddUp, .first_bin = bin, .last_bin = bin, .least = halvings});
    return shared_.added;
  }

  __device__ void end() {
    if (threadIdx.x == 0) shared_.pass.kind = Pass::kDone;
    Team<kClusters>::meet();
    Team<kClusters>::meet();
  }

 private:
  __device__ void run(const Pass& pass) {
    if (threadIdx.x == 0) shared_.pass = pass;
    Team<kClusters>::meet();
    take_part<kClusters>(row_, pass, shared_);
    Team<kClusters>::meet();
  }

  // Collects the tokens of the bin, and of bins before it while they are few together; or a part of it in which the goal is reached.
  __device__ void collect(int bin, const Goal& goal) {
    const unsigned upto = shared_.bins.count[bin];
    unsigned long long low = 0, high = ~0ull;
    before_ = sums_at(shared_.bins, bin - 1, {0, 0});
    const unsigned own = upto - before_.count;
    first_bin_ = bin;
    if (own > kRoom) {
      narrow(bin, goal, low, high);
    } else if (own < kBeside) {
      first_bin_ = first_beside(upto);
      before_ = sums_at(shared_.bins, first_bin_ - 1, {0, 0});
    }
    gather(first_bin_, bin, low, high);
    last_bin_ = own > kRoom ? -1 : bin;  // a part is for this goal alone
  }

  // The first bin from which on no more than kBeside tokens have come, when there are so many up to another one.
  __device__ int first_beside(unsigned upto) {
    if (threadIdx.x == 0) shared_.found = 0;
    __syncthreads();
    for (int i = static_cast<int>(threadIdx.x); i < kSteps; i += kThreads) {
      if (upto <= shared_.bins.count[i] + kBeside && upto > sums_at(shared_.bins, i - 1, {0, 0}).count + kBeside) shared_.found = i + 1;
    }
    __syncthreads();
    const int first = shared_.found;
    __syncthreads();
    return first;
  }

  // Halves the range of keys of a bin, eleven times at once, until there is room for its tokens.
  __device__ void narrow(int bin, const Goal& goal, unsigned long long& low, unsigned long long& high) {
    for (unsigned count = kRoom + 1; count > kRoom;) {
      const int shift = max(0, 64 - __clzll(static_cast<long long>(high - low)) - 11);
      for (int i = static_cast<int>(threadIdx.x); i < kSteps; i += kThreads) {
        shared_.parts.weight[i] = 0;
        shared_.parts.count[i] = 0;
      }
      run({.kind = Pass::kPart, .first_bin = bin, .last_bin = bin, .low = low, .high = high, .shift = shift});
      add_up(shared_.parts, before_, shared_);
      const int part = find(shared_.parts, before_, goal, shared_);
      const Sums upto = sums_at(shared_.parts, part, before_);
      before_ = sums_at(shared_.parts, part - 1, before_);
      count = upto.count - before_.count;
      low += static_cast<unsigned long long>(part) << shift;
      high = min(high, low + ((1ull << shift) - 1));
      __syncthreads();
    }
  }

  // Collects, sorts and adds up the tokens of some bins whose keys lie in [low, high].
  __device__ void gather(int first_bin, int last_bin, unsigned long long low, unsigned long long high) {
    if (threadIdx.x == 0) shared_.collected = 0;
    run({.kind = Pass::kCollect, .first_bin = first_bin, .last_bin = last_bin, .low = low, .high = high});
    collected_ = shared_.collected;
    sort();
    constexpr int kEach = kRoom / kThreads;
    Sums sums[kEach], all = {0, 0};
#pragma unroll
    for (int j = 0; j < kEach; ++j) {
      const int i = static_cast<int>(threadIdx.x) * kEach + j;
      if (i < collected_) all.weight += draw_weight(row_.halvings_of(logit_of(shared_.keys[i])));
      sums[j] = all;
    }
    const Sums before = before_ + sum_before(all, shared_);
#pragma unroll
    for (int j = 0; j < kEach; ++j) shared_.sums[threadIdx.x * kEach + j] = before.weight + sums[j].weight;
    __syncthreads();
  }

  // Bitonic, of the next power of two. A warp's pairs of up to kWarp apart lie among 2 kWarp keys of its own.
  __device__ void sort() {
    int size = 2;
    while (size < collected_) size *= 2;
    for (int i = collected_ + static_cast<int>(threadIdx.x); i < size; i += kThreads) shared_.keys[i] = ~0ull;
    __syncthreads();
    for (int run = 2; run <= size; run *= 2) {
      for (int step = run / 2; step > 0; step /= 2) {
        for (int i = static_cast<int>(threadIdx.x); i < size / 2; i += kThreads) {
          const int a = 2 * i - (i & (step - 1)), b = a + step;
          const unsigned long long left = shared_.keys[a], right = shared_.keys[b];
          if ((left > right) == ((a & run) == 0)) {
            shared_.keys[a] = right;
            shared_.keys[b] = left;
          }
        }
        const int next = step > 1 ? step / 2 : run;
        if (max(step, next) > kWarp) {
          __syncthreads();
        } else {
          __syncwarp();
        }
      }
    }
    __syncthreads();
  }

  const Row& row_;
  Shared& shared_;
  Sums before_ = {0, 0};  // what is collected
  int first_bin_ = 0, last_bin_ = -1;
  int collected_ = 0;
};

template <bool kClusters>
__global__ void __launch_bounds__(kThreads)
    draw(const __grid_constant__ DrawArgs args, int64_t first, const Histogram* histograms, int slices) {
  extern __shared__ __align__(16) std::byte memory[];
  Shared& shared = *reinterpret_cast<Shared*>(memory);
  begin_kernel();
  const int64_t in_group = blockIdx.x / Team<kClusters>::size(), at = first + in_group;
  if (is_chosen(args, at)) return;
  const Row row(args, at, args.y[at]);
  if (Team<kClusters>::rank() > 0) return help<kClusters>(row, shared);
  Walk<kClusters> walk(row, shared);
  walk.begin(histograms + in_group * slices, slices);

  const Sums all = walk.total();
  const unsigned top_k = static_cast<unsigned>(row.draw.top_k);
  const unsigned long long total = top_k == 0 || top_k >= all.count ? all.weight : walk.find_token({0, top_k}).weight;
  unsigned long long kept = share_of_weight(row.draw.top_p, total);
  if (kept < total) kept = walk.find_token({kept, 0}).weight;
  if (row.draw.least < kWeightless) kept = min(kept, walk.weight_below(row.draw.least));
  const uint32_t id = walk.find_token({drawn_weight(row.draw.random, kept), 0}).id;
  walk.end();
  if (threadIdx.x == 0) {
    args.y[at] = static_cast<int32_t>(id);
    args.next[at] = static_cast<int32_t>(id);
  }
}

// Blocks to a row: as many as find a multiprocessor of their own, and be it half of them.
int blocks_of_row(Context& ctx, int64_t rows) {
  const CudaStream& stream = stream_of(ctx);
  int blocks = 1;
  while (stream.compute_major() >= 9 && blocks < kMostClusterBlocks && 4 * blocks * rows <= stream.multiprocessors()) blocks *= 2;
  return blocks;
}

}  // namespace

void draw_tokens(Context& ctx, const DrawArgs& args) {
  argmax(ctx, ArgmaxArgs{args.logits, args.y, /*finite=*/true, args.next});
  if (!args.draws) return;
  const int64_t rows = std::min(args.logits.count, kRowsTogether);
  const int64_t wanted = std::min(args.logits.size / kLeastSlice, stream_of(ctx).multiprocessors() / rows);
  const int64_t slice = round_up<int64_t>(ceil_div(args.logits.size, std::clamp<int64_t>(wanted, 1, kMostSlices)), kVectorOf<float>);
  const int64_t slices = ceil_div(args.logits.size, slice);
  const ScratchScope scope(ctx);
  Histogram* histograms = ctx.scratch<Histogram>(rows * slices).data();
  for (int64_t first = 0; first < args.logits.count; first += rows) {
    const unsigned count = static_cast<unsigned>(std::min(rows, args.logits.count - first));
    launch(ctx, "draw_tokens", weigh, dim3(count, static_cast<unsigned>(slices)), kWeighThreads, 0, args, first, slice, histograms);
    const unsigned blocks = static_cast<unsigned>(blocks_of_row(ctx, count));
    const auto kernel = blocks > 1 ? draw<true> : draw<false>;
    check(cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel), cudaFuncAttributeMaxDynamicSharedMemorySize, sizeof(Shared)),
          "draw_tokens");
    launch_clusters(ctx, "draw_tokens", kernel, count * blocks, blocks, kThreads, sizeof(Shared), args, first, histograms,
                    static_cast<int>(slices));
  }
}

}  // namespace wick::cuda
