#include "wick/nn/made_up_cache.h"

#include <algorithm>
#include <random>
#include <vector>

#include "wick/base/error.h"
#include "wick/nn/step_buffer.h"
#include "wick/ops/attention.h"

namespace wick::nn {
namespace {

// q, k and v heads between -1 and 1.
Tensor random_heads(int64_t rows, int64_t width, const Device& device) {
  std::minstd_rand random(1);
  const Tensor heads = Tensor::empty({rows, width}, DType::kF32);
  for (int64_t i = 0; i < heads.elements(); ++i) heads.data<float>()[i] = static_cast<float>(random()) / static_cast<float>(random.max() / 2) - 1;
  return heads.to(device);
}

}  // namespace

void make_up(Context& ctx, KvPool& pool, PageTable& table, int64_t positions) {
  require(positions >= 1 && table.length() == 0, "make_up: ", positions, " positions behind ", table.length(), ", expected some behind none");
  if (!pool.append(table, positions)) fail(ErrorCode::kOutOfMemory, "make_up: the cache has no room for ", positions, " positions");
  const KvPoolConfig& config = pool.config();
  const int64_t rows = std::min(positions, kPagePositions);
  // The first page through the kernel that knows what pages look like, the others as copies of it.
  StepBuffer batch({static_cast<int32_t>(rows), 1, positions}, ctx.device());
  batch.add_sequence(std::vector<int32_t>(static_cast<size_t>(rows)), 0, table, LogitRows::kNone);
  const Tensor heads = random_heads(rows, int64_t{3} * config.kv_heads * config.head_dim, ctx.device());
  const Tensor no_turn = Tensor::zeros({rows, 1}, DType::kF32, ctx.device());
  ops::rope_append(ctx, heads, no_turn, no_turn, false, batch.upload(ctx), pool.layer(0));
  ctx.synchronize();
  const KvLayerView first = pool.layer(0);
  const std::byte* const written = first.head(table.pages()[0], 0);
  for (int32_t layer = 0; layer < config.layers; ++layer) {
    for (const int32_t page : table.pages()) {
      std::byte* const to = pool.layer(layer).head(page, 0);
      if (to != written) copy_memory(ctx.device(), to, ctx.device(), written, static_cast<uint64_t>(first.layout.page_bytes));
    }
  }
}

}  // namespace wick::nn
