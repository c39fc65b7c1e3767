// Plans attention: cuts a step into tiles, gives tiles and blocks of keys to the threads, and merges.
#include <algorithm>
#include <atomic>
#include <cstdint>
#include <memory>

#include "wick/base/checked.h"
#include "wick/kernels/cpu/attention_tile.h"

namespace wick::cpu {
namespace {

constexpr int64_t kBlockPages = kAttentionBlock / kPagePositions;
constexpr int64_t kMaxTileRows = 384;           // queries x grouped heads, that share a page made ready
constexpr int64_t kMaxPartialFloats = 8 << 20;  // memory for partial results when one tile's keys are split over threads

// Query positions of one sequence that are worked on together.
struct Tile {
  int32_t sequence;
  int32_t row;
  int32_t positions;
  int32_t first_page;
  int32_t end_page;
  int32_t first_task;   // split only: tasks of earlier tiles, per kv head
  int64_t first_state;  // split only: states (of one row and block) of earlier tiles, per kv head

  // At least one, perhaps empty.
  int64_t blocks() const { return std::max<int64_t>(1, ceil_div<int64_t>(end_page, kBlockPages) - first_page / kBlockPages); }
};

struct Range {
  int64_t begin, end;
};

class Plan {
 public:
  Plan(Context& ctx, const AttentionArgs& args, const StepBatch& batch, const KvLayerView& cache, const DenseAttentionArgs* dense);
  void run();

 private:
  void cut_tiles(int64_t tile_positions);
  bool plan_split();
  void run_whole(int64_t task, int worker);
  void run_blocks(int64_t begin, int64_t end, int worker);
  void run_merge(const Tile& tile, const AttentionTile& work);
  AttentionTile start(const Tile& tile, int64_t kv_head, int worker);
  Range block_pages(const Tile& tile, int64_t block) const;
  SoftmaxState worker_state(int worker, int which) const;
  SoftmaxState partial(const Tile& tile, int64_t kv_head, int64_t block) const;
  // A block of a tile for one kv head; tasks of neighbouring heads, whose parts of a page are neighbours, follow each other.
  struct Task {
    const Tile& tile;
    int64_t kv_head;
    Range pages;
    int64_t block;
  };
  Task split_task(int64_t index) const;

  Context& ctx_;
  const AttentionArgs& args_;
  const StepBatch& batch_;
  const KvLayerView& cache_;
  const DenseAttentionArgs* dense_;
  const AttentionKernels& kernels_;
  ScratchScope scope_;
  const PairKernels* pair_kernels_;
  const TileKernels* tile_kernels_;
  int32_t group_;
  int64_t tile_rows_;
  int64_t state_floats_;  // of one row: o, m, l
  int64_t worker_floats_;
  float* worker_scratch_;
  Tile* tiles_ = nullptr;
  int64_t tile_count_ = 0;
  int64_t tasks_ = 0;   // split only, per kv head
  int64_t states_ = 0;  // split only, per kv head
  float* partials_ = nullptr;
  std::atomic<int64_t>* blocks_left_ = nullptr;  // of each tile and kv head: who ends the last one merges them
};

Plan::Plan(Context& ctx, const AttentionArgs& args, const StepBatch& batch, const KvLayerView& cache, const DenseAttentionArgs* dense)
    : ctx_(ctx), args_(args), batch_(batch), cache_(cache), dense_(dense), kernels_(attention_kernels(ctx.isa())), scope_(ctx) {
  const KvLayout& layout = cache.layout;
  group_ = args.heads / layout.kv_heads;
  pair_kernels_ = dense && layout.type == DType::kBF16 ? pair_kernels(ctx.isa()) : nullptr;
  tile_kernels_ = pair_kernels_ && args.softcap == 0 && !args.alibi ? tile_kernels(ctx.isa(), layout.head_dim) : nullptr;
  const int64_t fair = ceil_div<int64_t>(int64_t{batch.rows} * layout.kv_heads, 3 * int64_t{ctx.threads()});
  const int64_t tile_positions = std::clamp<int64_t>(fair, ceil_div<int64_t>(12, group_), std::max<int64_t>(1, kMaxTileRows / group_));
  tile_rows_ = std::max<int64_t>(kMaxTileRows, group_);
  state_floats_ = SoftmaxState::floats_per_row(layout.value_stride);
  // Sized by the largest tile, not this step's, so that a later step needs no more.
  worker_floats_ = round_up<int64_t>(
      tile_rows_ * (2 * state_floats_ + layout.head_dim + kPagePositions + 2) + kPagePositions * (layout.head_dim + layout.value_stride),
      16);
  worker_scratch_ = ctx.scratch<float>(worker_floats_ * ctx.threads()).data();
  cut_tiles(tile_positions);
}

void Plan::cut_tiles(int64_t tile_positions) {
  const int64_t bound = batch_.sequences + batch_.rows / tile_positions;
  tiles_ = ctx_.scratch<Tile>(bound).data();
  for (int32_t b = 0; b < batch_.sequences; ++b) {
    for (int64_t row = batch_.first_row[b]; row < batch_.first_row[b + 1]; row += tile_positions) {
      const int64_t end_row = std::min<int64_t>(row + tile_positions, batch_.first_row[b + 1]);
      const int64_t first_end = std::max<int64_t>(0, batch_.positions[row] + int64_t{1});
      const int64_t last_end = std::max<int64_t>(0, batch_.positions[end_row - 1] + int64_t{1});
      const int64_t first_key = args_.window > 0 ? std::max<int64_t>(0, first_end - args_.window) : 0;
      tiles_[tile_count_++] = {b,
                               static_cast<int32_t>(row),
                               static_cast<int32_t>(end_row - row),
                               static_cast<int32_t>(first_key / kPagePositions),
                               static_cast<int32_t>(ceil_div(last_end, kPagePositions)),
                               0,
                               0};
    }
  }
}

// Few tiles, as in decode: whether their keys are worth splitting over the threads. The result is the same either way.
bool Plan::plan_split() {
  const int64_t kv_heads = cache_.layout.kv_heads;
  if (ctx_.threads() == 1 || tile_count_ * kv_heads >= 4 * int64_t{ctx_.threads()}) return false;
  int64_t bound = 0;
  for (int64_t i = 0; i < tile_count_; ++i) {
    Tile& tile = tiles_[i];
    tile.first_task = static_cast<int32_t>(tasks_);
    tile.first_state = states_;
    const int64_t rows = int64_t{tile.positions} * group_;
    tasks_ += tile.blocks();
    states_ += tile.blocks() * rows;
    bound += ceil_div<int64_t>(batch_.table_stride, kBlockPages) * rows;  // so that scratch does not grow with depth
  }
  const int64_t per_state = state_floats_ * kv_heads;
  if (tasks_ <= tile_count_ || states_ * per_state > kMaxPartialFloats) return false;
  partials_ = ctx_.scratch<float>(std::min(std::max(bound, states_) * per_state, kMaxPartialFloats)).data();
  blocks_left_ = ctx_.scratch<std::atomic<int64_t>>(tile_count_ * kv_heads).data();
  for (int64_t i = 0; i < tile_count_ * kv_heads; ++i) std::construct_at(blocks_left_ + i, tiles_[i / kv_heads].blocks());
  return true;
}

SoftmaxState Plan::worker_state(int worker, int which) const {
  float* base = worker_scratch_ + worker * worker_floats_ + which * tile_rows_ * state_floats_;
  float* m = base + tile_rows_ * cache_.layout.value_stride;
  return {base, m, m + tile_rows_};
}

SoftmaxState Plan::partial(const Tile& tile, int64_t kv_head, int64_t block) const {
  const int64_t rows = int64_t{tile.positions} * group_;
  float* base = partials_ + (kv_head * states_ + tile.first_state + block * rows) * state_floats_;
  float* m = base + rows * cache_.layout.value_stride;
  return {base, m, m + rows};
}

Range Plan::block_pages(const Tile& tile, int64_t block) const {
  const int64_t first = (tile.first_page / kBlockPages + block) * kBlockPages;
  return {std::max<int64_t>(first, tile.first_page), std::min<int64_t>(first + kBlockPages, tile.end_page)};
}

AttentionTile Plan::start(const Tile& tile, int64_t kv_head, int worker) {
  const KvLayout& layout = cache_.layout;
  float* free = worker_scratch_ + worker * worker_floats_ + 2 * tile_rows_ * state_floats_;
  AttentionTile work;
  work.args = &args_;
  work.cache = &cache_;
  work.table = dense_ ? nullptr : batch_.page_table + int64_t{tile.sequence} * batch_.table_stride;
  work.dense = dense_;
  work.then = nullptr;
  work.sequence = tile.sequence;
  work.pairs = pair_kernels_;
  work.tiles = tile_kernels_;
  work.kv_head = kv_head;
  work.row = tile.row;
  work.positions = tile.positions;
  work.group = group_;
  work.keys = free;
  work.values = work.keys + kPagePositions * layout.head_dim;
  work.q = work.values + kPagePositions * layout.value_stride;
  work.scores = work.q + tile_rows_ * layout.head_dim;
  work.begin = reinterpret_cast<int32_t*>(work.scores + tile_rows_ * kPagePositions);
  work.end = work.begin + tile_rows_;
  return work;
}

void Plan::run_whole(int64_t task, int worker) {
  const Tile& tile = tiles_[tile_count_ - 1 - task / cache_.layout.kv_heads];  // the deepest tiles of a prompt first
  const AttentionTile work = start(tile, task % cache_.layout.kv_heads, worker);
  kernels_.load(work, batch_.positions);
  const int64_t rows = int64_t{tile.positions} * group_;
  const SoftmaxState total = worker_state(worker, 0);
  const SoftmaxState part = worker_state(worker, 1);
  for (int64_t block = 0; block < tile.blocks(); ++block) {
    const Range pages = block_pages(tile, block);
    kernels_.attend(work, pages.begin, pages.end, block == 0 ? total : part);
    if (block > 0) kernels_.merge(total, part, rows, cache_.layout.value_stride);
  }
  kernels_.store(work, total);
}

Plan::Task Plan::split_task(int64_t index) const {
  const int64_t kv_heads = cache_.layout.kv_heads, of_tile = index / kv_heads;
  const Tile& tile = *(std::upper_bound(tiles_, tiles_ + tile_count_, of_tile, [](int64_t t, const Tile& each) { return t < each.first_task; }) - 1);
  const int64_t block = of_tile - tile.first_task;
  return {tile, index % kv_heads, block_pages(tile, block), block};
}

void Plan::run_blocks(int64_t begin, int64_t end, int worker) {
  for (int64_t i = begin; i < end; ++i) {
    const Task task = split_task(i);
    AttentionTile work = start(task.tile, task.kv_head, worker);
    if (i + 1 < end && !dense_) {
      const Task next = split_task(i + 1);
      const int32_t* table = batch_.page_table + int64_t{next.tile.sequence} * batch_.table_stride;
      if (next.pages.begin < next.pages.end) work.then = cache_.head(table[next.pages.begin], next.kv_head);
    }
    kernels_.load(work, batch_.positions);
    kernels_.attend(work, task.pages.begin, task.pages.end, partial(task.tile, task.kv_head, task.block));
    std::atomic<int64_t>& left = blocks_left_[(&task.tile - tiles_) * cache_.layout.kv_heads + task.kv_head];
    if (left.fetch_sub(1, std::memory_order_acq_rel) == 1) run_merge(task.tile, work);
  }
}

// In ascending order, whoever does it.
void Plan::run_merge(const Tile& tile, const AttentionTile& work) {
  const SoftmaxState total = partial(tile, work.kv_head, 0);
  for (int64_t block = 1; block < tile.blocks(); ++block) {
    kernels_.merge(total, partial(tile, work.kv_head, block), int64_t{tile.positions} * group_, cache_.layout.value_stride);
  }
  kernels_.store(work, total);
}

void Plan::run() {
  const int64_t kv_heads = cache_.layout.kv_heads;
  if (plan_split()) {
    return ctx_.pool().parallel_for(tasks_ * kv_heads, 1, [&](int64_t begin, int64_t end, int worker) { run_blocks(begin, end, worker); });
  }
  ctx_.pool().parallel_for(tile_count_ * kv_heads, 1, [&](int64_t begin, int64_t end, int worker) {
    for (int64_t i = begin; i < end; ++i) run_whole(i, worker);
  });
}

}  // namespace

void paged_attention(Context& ctx, const AttentionArgs& args, const StepBatch& batch, const KvLayerView& cache) {
  Plan(ctx, args, batch, cache, nullptr).run();
}

// Sequence b has rows b * T ..; they stand at the positions of the last key that they see.
void attention(Context& ctx, const DenseAttentionArgs& args) {
  const ScratchScope scope(ctx);
  int32_t* positions = ctx.scratch<int32_t>(args.batch * args.rows).data();
  int32_t* first_row = ctx.scratch<int32_t>(args.batch + 1).data();
  for (int64_t b = 0; b <= args.batch; ++b) first_row[b] = static_cast<int32_t>(b * args.rows);
  for (int64_t i = 0; i < args.batch * args.rows; ++i) {
    const int64_t last = args.causal ? std::max<int64_t>(-1, i % args.rows + args.keys - args.rows) : args.keys - 1;
    positions[i] = static_cast<int32_t>(last);
  }
  StepBatch batch;
  batch.rows = static_cast<int32_t>(args.batch * args.rows);
  batch.sequences = static_cast<int32_t>(args.batch);
  batch.table_stride = static_cast<int32_t>(ceil_div(args.keys, kPagePositions));
  batch.positions = positions;
  batch.first_row = first_row;
  AttentionArgs paged;
  paged.heads = static_cast<int32_t>(args.heads);
  paged.alibi = args.alibi;
  paged.sinks = args.sinks;
  paged.scale = args.scale;
  paged.window = args.window;
  paged.softcap = args.softcap;
  KvLayerView layout_only;
  layout_only.layout = make_kv_layout(args.k.type, args.kv_heads, args.head_dim);
  Plan(ctx, paged, batch, layout_only, &args).run();
}

}  // namespace wick::cpu
