#include "wick/ops/attention.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "tests/ops/support.h"
#include "wick/base/checked.h"
#include "wick/base/error.h"
#include "wick/kernels/attention.h"
#include "wick/kernels/kv_append.h"
#include "wick/ops/arguments.h"

namespace wick {
namespace {

using ::testing::HasSubstr;
using test::on;

class AttentionOnDevice : public test::OnDevice {};
WICK_ON_EVERY_DEVICE(AttentionOnDevice);

constexpr DType kCacheTypes[] = {DType::kF32, DType::kF16, DType::kBF16, DType::kQ8_0};

std::vector<float> normals(int64_t count, uint32_t seed) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(static_cast<size_t>(count));
  for (float& value : values) value = normal(generator);
  return values;
}

double normalised_error(const std::vector<float>& got, const std::vector<float>& expected) {
  double error = 0;
  double power = 1e-300;
  for (size_t i = 0; i < got.size(); ++i) {
    error += std::pow(double{got[i]} - expected[i], 2);
    power += std::pow(double{expected[i]}, 2);
  }
  return error / power;
}

std::vector<float> values_of(const Tensor& x) {
  const Tensor flat = x.to(Device::cpu()).to(DType::kF32).contiguous();
  return {flat.data<float>(), flat.data<float>() + flat.elements()};
}

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

struct Dimensions {
  int64_t heads, kv_heads, head_dim;
  int64_t width() const { return (heads + 2 * kv_heads) * head_dim; }
};

// Pages of one layer, filled with NaN patterns: a kernel that reads a slot that nobody wrote shows it.
struct Cache {
  Cache(DType type, const Dimensions& dims, int32_t pages, const Device& device = Device::cpu()) {
    view.layout = make_kv_layout(type, dims.kv_heads, dims.head_dim);
    bytes = Tensor::empty({pages * view.layout.page_bytes}, DType::kU8);
    std::fill_n(bytes.raw(), bytes.elements(), std::byte{0xff});
    bytes = bytes.to(device);
    view.pages = bytes.raw();
    view.page_count = pages;
  }
  Tensor bytes;
  KvLayerView view;
};

struct Part {
  int32_t sequence;
  int32_t start;
  int32_t count;
};

constexpr int32_t kTablePages = 16;

// A step of some sequences; sequence s owns the pages s, s + 8, s + 16, …
struct Step {
  explicit Step(const std::vector<Part>& parts, const Device& on = Device::cpu()) : device(on) {
    first_row.push_back(0);
    for (const Part& part : parts) {
      for (int32_t i = 0; i < part.count; ++i) positions.push_back(part.start + i);
      first_row.push_back(static_cast<int32_t>(positions.size()));
      for (int32_t p = 0; p < kTablePages; ++p) table.push_back(part.sequence + 8 * p);
    }
  }
  StepBatch view() const {
    StepBatch batch;
    batch.rows = first_row.back();
    batch.sequences = static_cast<int32_t>(first_row.size()) - 1;
    batch.table_stride = kTablePages;
    batch.positions = positions.data();
    batch.first_row = first_row.data();
    batch.page_table = table.data();
    if (device.is_cpu()) return batch;
    const auto there = [&](const std::vector<int32_t>& array) {
      copies.push_back(Tensor::from_memory(const_cast<int32_t*>(array.data()), {static_cast<int64_t>(array.size())}, DType::kI32).to(device));
      return copies.back().data<int32_t>();
    };
    batch.on_device = {nullptr, there(positions), there(first_row), there(table), nullptr};
    return batch;
  }
  Device device;
  mutable std::vector<Tensor> copies;
  std::vector<int32_t> positions, first_row, table;
};

struct Tables {
  Tables(int64_t positions, int64_t half)
      : cos(Tensor::empty({positions, half}, DType::kF32)), sin(Tensor::empty({positions, half}, DType::kF32)) {
    for (int64_t i = 0; i < positions * half; ++i) {
      const double angle = static_cast<double>(i / half) * std::pow(100.0, -static_cast<double>(i % half) / static_cast<double>(half));
      cos.data<float>()[i] = static_cast<float>(std::cos(angle));
      sin.data<float>()[i] = static_cast<float>(std::sin(angle));
    }
  }
  Tensor cos, sin;
};

// The projected rows of a step: a function of sequence and position alone.
Tensor projected(const std::vector<Part>& parts, const Dimensions& dims) {
  std::vector<float> rows;
  for (const Part& part : parts) {
    for (int32_t i = 0; i < part.count; ++i) {
      const std::vector<float> row = normals(dims.width(), static_cast<uint32_t>(part.sequence * 10000 + part.start + i));
      rows.insert(rows.end(), row.begin(), row.end());
    }
  }
  return Tensor::from_values(rows, {static_cast<int64_t>(rows.size()) / dims.width(), dims.width()});
}

// Appends a step and attends; returns [T, H * Dh].
std::vector<float> run_step(Context& ctx, const std::vector<Part>& parts, const Dimensions& dims, Cache& cache,
                            const ops::PagedAttentionOptions& options = {}) {
  const Step step(parts, ctx.device());
  const Tables tables(kTablePages * kPagePositions, dims.head_dim / 2);
  const Tensor qkv = on(ctx, projected(parts, dims));
  ops::rope_append(ctx, qkv, on(ctx, tables.cos), on(ctx, tables.sin), false, step.view(), cache.view);
  const Tensor out = on(ctx, Tensor::zeros({qkv.dim(0), dims.heads * dims.head_dim}, DType::kF32));
  ops::PagedAttentionOptions there = options;
  there.alibi = on(ctx, options.alibi);
  there.sinks = on(ctx, options.sinks);
  ops::paged_attention(ctx, qkv.slice(1, 0, dims.heads * dims.head_dim), step.view(), cache.view, there, out);
  return values_of(out);
}

std::vector<float> twin(const std::vector<Part>& parts, const Dimensions& dims, Cache& cache, const ops::PagedAttentionOptions& options) {
  const Step step(parts);
  const Tables tables(kTablePages * kPagePositions, dims.head_dim / 2);
  const Tensor qkv = projected(parts, dims);
  RopeAppendArgs rope;
  rope.qkv = qkv.data<float>();
  rope.stride = dims.width();
  rope.heads = static_cast<int32_t>(dims.heads);
  rope.cos = tables.cos.data<float>();
  rope.sin = tables.sin.data<float>();
  rope.half = static_cast<int32_t>(dims.head_dim / 2);
  ref::rope_append(rope, step.view(), cache.view);
  std::vector<float> out(static_cast<size_t>(qkv.dim(0) * dims.heads * dims.head_dim));
  AttentionArgs args;
  args.q = rope.qkv;
  args.q_stride = rope.stride;
  args.out = out.data();
  args.out_stride = dims.heads * dims.head_dim;
  args.heads = rope.heads;
  args.scale = options.scale != 0 ? options.scale : 1 / std::sqrt(static_cast<float>(dims.head_dim));
  args.window = options.window;
  args.softcap = options.softcap;
  if (options.alibi.defined()) args.alibi = options.alibi.data<float>();
  if (options.sinks.defined()) args.sinks = options.sinks.data<float>();
  ref::paged_attention(args, step.view(), cache.view);
  return out;
}

void expect_paged_matches_twin(Context& ctx, DType type, const Dimensions& dims, const ops::PagedAttentionOptions& options) {
  SCOPED_TRACE(concat(test::name_of(ctx), " ", dtype_name(type), " ", dims.heads, "/", dims.kv_heads, " heads of ", dims.head_dim, ", window ",
                      options.window, ", softcap ", options.softcap));
  Cache fast(type, dims, 128, ctx.device());
  Cache slow(type, dims, 128);
  const std::vector<std::vector<Part>> steps = {{{0, 0, 70}, {1, 0, 5}}, {{0, 70, 1}, {2, 0, 1}, {1, 5, 130}}, {{2, 1, 1}, {1, 135, 1}}};
  for (const std::vector<Part>& parts : steps) {
    const std::vector<float> expected = twin(parts, dims, slow, options);
    // Off the CPU weights may be rounded to the type of the values.
    const double bound = ctx.device().is_cpu() || type == DType::kF32 || type == DType::kQ8_0 ? 1e-11 : type == DType::kF16 ? 5e-7 : 2e-5;
    EXPECT_LT(normalised_error(run_step(ctx, parts, dims, fast, options), expected), bound);
  }
}

TEST_P(AttentionOnDevice, PagedMatchesTwinForEveryHeadSizeAndCacheType) {
  for (const auto& ctx : test::contexts_of_two_threads(GetParam())) {
    for (const DType type : kCacheTypes) {
      for (const int64_t head_dim : {8, 32, 40, 64, 80, 96, 128, 256}) expect_paged_matches_twin(*ctx, type, {4, 2, head_dim}, {});
    }
  }
}

// Results of bf16 are those of f32, rounded: of single rows over few and many pages, and of prompts. The CPU has none.
TEST_P(AttentionOnDevice, PagedResultsOfBf16) {
  const auto ctx = std::move(test::contexts_of_two_threads(GetParam()).back());
  for (const DType type : kCacheTypes) {
    const Dimensions dims = {4, 2, 64};
    Cache cache(type, dims, 128, ctx->device());
    for (const std::vector<Part>& parts : {std::vector<Part>{{0, 0, 45}, {1, 0, 900}}, {{0, 45, 1}, {1, 900, 1}}, {{1, 901, 3}}}) {
      run_step(*ctx, parts, dims, cache);  // fills the pages
      const Step step(parts, ctx->device());
      const Tensor q = on(*ctx, projected(parts, dims)).slice(1, 0, dims.heads * dims.head_dim);
      const Tensor expected = on(*ctx, Tensor::zeros({q.dim(0), q.dim(1)}, DType::kF32)), out = on(*ctx, Tensor::zeros({q.dim(0), q.dim(1)}, DType::kBF16));
      ops::paged_attention(*ctx, q, step.view(), cache.view, {}, expected);
      if (ctx->device().is_cpu()) {
        EXPECT_THROW(ops::paged_attention(*ctx, q, step.view(), cache.view, {}, out), Error);
        continue;
      }
      ops::paged_attention(*ctx, q, step.view(), cache.view, {}, out);
      EXPECT_TRUE(test::same_bits(out.to(Device::cpu()), expected.to(Device::cpu()).to(DType::kBF16))) << dtype_name(type) << " " << parts.size();
    }
  }
}

// More rows than a tile, of several sequences that begin anywhere in a page.
TEST_P(AttentionOnDevice, PagedMatchesTwinForLongPrompts) {
  const auto ctx = std::move(test::contexts_of_two_threads(GetParam()).back());
  for (const DType type : {DType::kF16, DType::kBF16}) {
    for (const int64_t head_dim : {64, 128}) {
      for (const int64_t window : {0, 100}) {
        const Dimensions dims = {4, 2, head_dim};
        Cache fast(type, dims, 128, ctx->device()), slow(type, dims, 128);
        const ops::PagedAttentionOptions options = {0, window, 0};
        for (const std::vector<Part>& parts : {std::vector<Part>{{0, 0, 45}, {1, 0, 300}}, {{0, 45, 257}, {2, 0, 129}, {1, 300, 17}}}) {
          const std::vector<float> expected = twin(parts, dims, slow, options);
          const double bound = ctx->device().is_cpu() ? 1e-11 : type == DType::kF16 ? 5e-7 : 2e-5;
          EXPECT_LT(normalised_error(run_step(*ctx, parts, dims, fast, options), expected), bound) << dtype_name(type) << " " << head_dim << " " << window;
        }
      }
    }
  }
}

TEST_P(AttentionOnDevice, PagedMatchesTwinForEveryGroupSize) {
  for (const auto& ctx : test::contexts_of_two_threads(GetParam())) {
    for (int64_t group = 1; group <= 8; ++group) expect_paged_matches_twin(*ctx, DType::kF16, {2 * group, 2, 32}, {});
    for (const int64_t group : {5, 7, 8, 9, 17}) {
      expect_paged_matches_twin(*ctx, DType::kF16, {2 * group, 2, 64}, {});
      expect_paged_matches_twin(*ctx, DType::kBF16, {group, 1, 128}, {});
    }
    expect_paged_matches_twin(*ctx, DType::kF32, {50, 1, 16}, {});
  }
}

TEST_P(AttentionOnDevice, PagedMatchesTwinWithWindowSoftcapAndScale) {
  for (const auto& ctx : test::contexts_of_two_threads(GetParam())) {
    for (const int64_t window : {1, 7, 64, 65, 500}) expect_paged_matches_twin(*ctx, DType::kF32, {6, 2, 32}, {0.3f, window, 0});
    expect_paged_matches_twin(*ctx, DType::kF16, {6, 2, 32}, {0.3f, 0, 2});
    expect_paged_matches_twin(*ctx, DType::kBF16, {6, 2, 32}, {0.01f, 33, 30});
    for (const int64_t window : {1, 31, 33, 130}) expect_paged_matches_twin(*ctx, DType::kF16, {6, 2, 64}, {0.3f, window, 2});
  }
}

Tensor alibi_slopes(int64_t heads) {
  std::vector<float> slopes;
  for (int64_t h = 0; h < heads; ++h) slopes.push_back(std::exp2(-8.0f * static_cast<float>(h + 1) / static_cast<float>(heads)));
  return Tensor::from_values(slopes, {heads});
}

TEST_P(AttentionOnDevice, PagedMatchesTwinWithAlibiAndSinks) {
  const Tensor sinks = Tensor::from_values(std::vector<float>{-3, 0, 1, 5, 40, -200}, {6});
  for (const auto& ctx : test::contexts_of_two_threads(GetParam())) {
    expect_paged_matches_twin(*ctx, DType::kF32, {6, 2, 32}, {0, 0, 0, alibi_slopes(6), {}});
    expect_paged_matches_twin(*ctx, DType::kF16, {6, 2, 32}, {0, 70, 2, alibi_slopes(6), sinks});
    expect_paged_matches_twin(*ctx, DType::kF16, {6, 2, 128}, {0, 70, 2, alibi_slopes(6), sinks});
    expect_paged_matches_twin(*ctx, DType::kF32, {6, 2, 32}, {0, 0, 0, {}, sinks});
  }
}

// What rope_append and paged_attention do one after the other, and the same pages afterwards.
void expect_one_step_is_two(Context& ctx, DType type, const Dimensions& dims, int64_t rotated, bool interleaved,
                            const ops::PagedAttentionOptions& options) {
  SCOPED_TRACE(concat(dtype_name(type), " ", dims.heads, "/", dims.kv_heads, " heads of ", dims.head_dim, ", ", rotated,
                      " rotated, window ", options.window));
  const Tables tables(kTablePages * kPagePositions, rotated / 2);
  const Tensor cos = on(ctx, tables.cos), sin = on(ctx, tables.sin);
  Cache two(type, dims, 8 * kTablePages, ctx.device()), one(type, dims, 8 * kTablePages, ctx.device());
  const auto step_of = [&](const std::vector<Part>& parts, Cache& cache, bool together) {
    const Step step(parts, ctx.device());
    const StepBatch batch = step.view();
    const Tensor qkv = on(ctx, projected(parts, dims));
    const Tensor out = on(ctx, Tensor::zeros({qkv.dim(0), dims.heads * dims.head_dim}, DType::kF32));
    ops::PagedAttentionOptions there = options;
    there.alibi = on(ctx, options.alibi);
    there.sinks = on(ctx, options.sinks);
    if (together) {
      ops::rope_append_attention(ctx, qkv, cos, sin, interleaved, batch, cache.view, there, out);
    } else {
      ops::rope_append(ctx, qkv, cos, sin, interleaved, batch, cache.view);
      ops::paged_attention(ctx, qkv.slice(1, 0, dims.heads * dims.head_dim), batch, cache.view, there, out);
    }
    return values_of(out);
  };
  const std::vector<std::vector<Part>> steps = {
      {{0, 0, 40}, {3, 0, 65}, {5, 0, 1000}}, {{0, 40, 1}, {5, 1000, 1}, {3, 65, 1}}, {{0, 41, 1}}, {{5, 1001, 1}}};
  for (const auto& parts : steps) {
    EXPECT_LE(normalised_error(step_of(parts, one, true), step_of(parts, two, false)), ctx.device().is_cpu() ? 0 : 1e-10) << parts.size();
  }
  EXPECT_TRUE(test::same_bits(one.bytes, two.bytes));
}

TEST_P(AttentionOnDevice, AppendAndAttentionInOne) {
  const auto ctx = std::move(test::contexts_of_two_threads(GetParam()).back());
  for (const DType type : kCacheTypes) {
    for (const int64_t head_dim : {40, 64, 128}) expect_one_step_is_two(*ctx, type, {6, 2, head_dim}, head_dim, true, {});
  }
  for (const int64_t group : {1, 4, 7}) expect_one_step_is_two(*ctx, DType::kF16, {2 * group, 2, 64}, 64, false, {});
  const Tensor sinks = Tensor::from_values(std::vector<float>{-3, 0, 1, 5, 40, -200}, {6});
  expect_one_step_is_two(*ctx, DType::kF16, {6, 2, 64}, 32, false, {0.3f, 70, 2, alibi_slopes(6), sinks});
  expect_one_step_is_two(*ctx, DType::kBF16, {6, 2, 128}, 64, true, {0, 33, 0});
}

// Rows of sequence 0 as a function of how its tokens come: chunk sizes repeat until `total`.
std::vector<float> run_chunked(Context& ctx, DType type, const Dimensions& dims, int32_t total, int32_t chunk, bool in_company,
                               const ops::PagedAttentionOptions& options) {
  Cache cache(type, dims, 128, ctx.device());
  std::vector<float> rows;
  for (int32_t start = 0; start < total; start += chunk) {
    const int32_t count = std::min(chunk, total - start);
    std::vector<Part> parts = {{0, start, count}};
    if (in_company) parts = {{1, start, 1 + count % 9}, {0, start, count}, {2, start / 2, 2}};
    const std::vector<float> out = run_step(ctx, parts, dims, cache, options);
    const int64_t skip = (in_company ? 1 + count % 9 : 0) * dims.heads * dims.head_dim;
    rows.insert(rows.end(), out.begin() + skip, out.begin() + skip + count * dims.heads * dims.head_dim);
  }
  return rows;
}

std::vector<float> run_chunked(int threads, Isa isa, DType type, const Dimensions& dims, int32_t total, int32_t chunk, bool in_company,
                               const ops::PagedAttentionOptions& options) {
  Context ctx(Device::cpu(), {threads, isa});
  return run_chunked(ctx, type, dims, total, chunk, in_company, options);
}

void expect_invariant(Isa isa, DType type, const Dimensions& dims, int32_t total, const ops::PagedAttentionOptions& options) {
  SCOPED_TRACE(concat(isa_name(isa), " ", dtype_name(type), " ", dims.heads, "/", dims.kv_heads, " heads of ", dims.head_dim, ", window ",
                      options.window));
  const std::vector<float> whole = run_chunked(1, isa, type, dims, total, total, false, options);
  for (const int32_t chunk : {1, 7, 64, 100}) {
    EXPECT_TRUE(same_bits(run_chunked(1 + chunk % 4, isa, type, dims, total, chunk, false, options), whole)) << "chunks of " << chunk;
  }
  EXPECT_TRUE(same_bits(run_chunked(3, isa, type, dims, total, 50, true, options), whole)) << "in a batch with others";
  for (const int threads : {2, 3, 4}) {
    EXPECT_TRUE(same_bits(run_chunked(threads, isa, type, dims, total, total, false, options), whole)) << threads << " threads";
  }
}

TEST(PagedAttention, BitsDoNotDependOnChunksBatchOrThreads) {
  for (const Isa isa : test::isas()) {
    for (const DType type : kCacheTypes) expect_invariant(isa, type, {6, 2, 40}, 300, {});
    expect_invariant(isa, DType::kF16, {3, 1, 32}, 600, {});  // several blocks: decode splits them over the threads
    expect_invariant(isa, DType::kF16, {8, 1, 32}, 400, {0, 290, 0});
    expect_invariant(isa, DType::kF32, {5, 5, 16}, 300, {0, 31, 5});
  }
}

// As above, of a device where that has to be asked for.
class AttentionBitsOnDevice : public test::OnDevice {};
WICK_ON_DEVICES(AttentionBitsOnDevice, "cuda");

TEST_P(AttentionBitsOnDevice, DoNotDependOnChunksOrBatch) {
  const auto ctx = test::batch_invariant_context(GetParam());
  const struct {
    Dimensions dims;
    int32_t total;
    ops::PagedAttentionOptions options;
  } cases[] = {{{6, 2, 40}, 300, {}},
               {{4, 1, 64}, 700, {}},
               {{4, 2, 128}, 300, {0, 0, 7}},
               {{8, 2, 64}, 400, {0, 290, 0}},
               {{5, 5, 16}, 200, {0, 31, 5}}};
  for (const DType type : kCacheTypes) {
    for (const auto& c : cases) {
      const std::vector<float> whole = run_chunked(*ctx, type, c.dims, c.total, c.total, false, c.options);
      for (const int32_t chunk : {1, 7, 64, 100}) {
        for (const bool in_company : {false, true}) {
          EXPECT_TRUE(same_bits(run_chunked(*ctx, type, c.dims, c.total, chunk, in_company, c.options), whole))
              << dtype_name(type) << " heads of " << c.dims.head_dim << ", chunks of " << chunk
              << (in_company ? " in a batch with others" : "");
        }
      }
    }
  }
}

TEST_P(AttentionOnDevice, ADenseRowDoesNotDependOnThoseBefore) {
  const auto ctx = test::batch_invariant_context(GetParam());
  for (const DType type : {DType::kF32, DType::kF16, DType::kBF16}) {
    const Tensor q = on(*ctx, test::normal_tensor({2, 4, 150, 64}, type, 1)), k = on(*ctx, test::normal_tensor({2, 2, 150, 64}, type, 2)),
                 v = on(*ctx, test::normal_tensor({2, 2, 150, 64}, type, 3));
    const Tensor all = ops::attention(*ctx, q, k, v, {.causal = true}).to(Device::cpu());
    for (const int64_t rows : {1, 15, 100}) {
      const Tensor last = ops::attention(*ctx, q.slice(2, 150 - rows, 150), k, v, {.causal = true}).to(Device::cpu());
      EXPECT_TRUE(test::same_bits(all.slice(2, 150 - rows, 150).contiguous(), last)) << dtype_name(type) << " last " << rows;
    }
  }
}

TEST(PagedAttention, DeepDecodeDoesNotDependOnThreads) {
  const Dimensions dims{3, 1, 64};
  for (const Isa isa : test::isas()) {
    Cache cache(DType::kF16, dims, 128);
    Context one(Device::cpu(), {1, isa});
    run_step(one, {{0, 0, 1000}}, dims, cache);
    const std::vector<float> expected = run_step(one, {{0, 1000, 1}}, dims, cache);
    for (const int threads : {2, 4, 7}) {
      Context many(Device::cpu(), {threads, isa});
      EXPECT_TRUE(same_bits(run_step(many, {{0, 1000, 1}}, dims, cache), expected)) << threads;
    }
  }
}

TEST(PagedAttention, WindowSeesExactlyItsWidth) {
  const Dimensions dims{1, 1, 8};
  for (const Isa isa : test::isas()) {
    Context ctx(Device::cpu(), {1, isa});
    Cache cache(DType::kF32, dims, 128);
    const Step step({{0, 0, 200}});
    const Tables tables(200, 4);
    const Tensor qkv = Tensor::zeros({200, dims.width()}, DType::kF32);
    for (int64_t t = 0; t < 200; ++t) std::fill_n(qkv.data<float>() + t * dims.width() + 16, 8, static_cast<float>(t));
    ops::rope_append(ctx, qkv, tables.cos, tables.sin, false, step.view(), cache.view);
    const Tensor out = Tensor::empty({200, 8}, DType::kF32);
    for (const int64_t window : {1, 2, 63, 64, 65, 199, 200, 1000}) {
      ops::paged_attention(ctx, qkv.slice(1, 0, 8), step.view(), cache.view, {0, window, 0}, out);
      for (int64_t t = 0; t < 200; ++t) {
        const double first = static_cast<double>(std::max<int64_t>(0, t + 1 - window));
        EXPECT_NEAR(out.data<float>()[t * 8 + 3], (first + static_cast<double>(t)) / 2, 1e-3) << "row " << t << " window " << window;
      }
    }
  }
}

TEST(PagedAttention, NanStaysInTheRowsThatSeeIt) {
  const Dimensions dims{6, 2, 32};
  for (const Isa isa : test::isas()) {
    for (const DType type : kCacheTypes) {
      for (const int64_t poisoned : {6 * 32 + 40, 8 * 32 + 40}) {  // in k, in v: kv head 1
        Context ctx(Device::cpu(), {2, isa});
        Cache cache(type, dims, 128);
        const std::vector<Part> parts = {{0, 0, 90}, {1, 0, 3}};
        const Step step(parts);
        const Tables tables(200, 16);
        const Tensor qkv = projected(parts, dims);
        qkv.data<float>()[70 * dims.width() + poisoned] = std::numeric_limits<float>::quiet_NaN();
        ops::rope_append(ctx, qkv, tables.cos, tables.sin, false, step.view(), cache.view);
        const Tensor out = Tensor::empty({93, 6 * 32}, DType::kF32);
        ops::paged_attention(ctx, qkv.slice(1, 0, 6 * 32), step.view(), cache.view, {}, out);
        for (int64_t t = 0; t < 93; ++t) {
          const bool sees = t >= 70 && t < 90;
          EXPECT_EQ(std::isnan(out.data<float>()[t * 192 + 5 * 32 + 8]), sees) << isa_name(isa) << " " << dtype_name(type) << " row " << t;
          EXPECT_FALSE(std::isnan(out.data<float>()[t * 192 + 8])) << "the other kv head";
        }
      }
    }
  }
}

void expect_append_matches_twin(Context& ctx, DType type, const Dimensions& dims, int64_t half, bool interleaved) {
  SCOPED_TRACE(
      concat(test::name_of(ctx), " ", dtype_name(type), " head size ", dims.head_dim, " R ", 2 * half, interleaved ? " interleaved" : ""));
  Cache fast(type, dims, 32, ctx.device());
  Cache slow(type, dims, 32);
  const std::vector<Part> parts = {{0, 30, 100}, {1, 63, 2}};
  const Step step(parts, ctx.device());
  const Tables tables(130, half);
  const Tensor y = projected(parts, dims);
  std::fill_n(y.data<float>() + dims.heads * dims.head_dim, dims.head_dim, 0.0f);  // a block of zeros
  Tensor x = projected(parts, dims);
  std::memcpy(x.raw(), y.raw(), x.bytes());
  x = on(ctx, x);
  ops::rope_append(ctx, x, on(ctx, tables.cos), on(ctx, tables.sin), interleaved, step.view(), fast.view);
  RopeAppendArgs args{y.data<float>(),
                      dims.width(),
                      static_cast<int32_t>(dims.heads),
                      tables.cos.data<float>(),
                      tables.sin.data<float>(),
                      static_cast<int32_t>(half),
                      interleaved};
  ref::rope_append(args, step.view(), slow.view);
  EXPECT_TRUE(same_bits(values_of(x), values_of(y)));
  EXPECT_TRUE(test::same_bits(fast.bytes, slow.bytes));
}

TEST_P(AttentionOnDevice, AppendMatchesTwinBitForBit) {
  for (const auto& ctx : test::contexts_of_two_threads(GetParam())) {
    for (const DType type : kCacheTypes) {
      for (const bool interleaved : {false, true}) {
        for (const int64_t head_dim : {8, 40, 64, 128}) expect_append_matches_twin(*ctx, type, {4, 2, head_dim}, head_dim / 2, interleaved);
        expect_append_matches_twin(*ctx, type, {4, 2, 64}, 13, interleaved);
        expect_append_matches_twin(*ctx, type, {4, 2, 64}, 0, interleaved);
      }
    }
  }
}

TEST(RopeAppend, QuantisedCacheIsCloseToItsInput) {
  const Dimensions dims{1, 1, 64};
  Context ctx(Device::cpu(), {1});
  Cache cache(DType::kQ8_0, dims, 16);
  const Step step({{0, 0, 20}});
  const Tables tables(20, 0);
  const Tensor qkv = projected({{0, 0, 20}}, dims);
  ops::rope_append(ctx, qkv, tables.cos, tables.sin, false, step.view(), cache.view);
  std::vector<float> got, expected;
  for (int64_t t = 0; t < 20; ++t) {
    for (int64_t d = 0; d < 64; ++d) {
      got.push_back(ref::key_at(cache.view, 0, 0, t, d));
      got.push_back(ref::value_at(cache.view, 0, 0, t, d));
      expected.push_back(qkv.data<float>()[t * 192 + 64 + d]);
      expected.push_back(qkv.data<float>()[t * 192 + 128 + d]);
    }
  }
  EXPECT_LT(normalised_error(got, expected), 5e-5);
}

// ---------------------------------------------------------------- plain tensors

// Key t of S is 1 + growth · t / S times what it would be.
void expect_dense_matches_twin(Context& ctx, DType type, const Shape& q_shape, const Shape& kv_shape, const ops::AttentionOptions& options,
                               float growth = 0) {
  SCOPED_TRACE(concat(test::name_of(ctx), " ", dtype_name(type), " q ", q_shape.to_string(), " kv ", kv_shape.to_string(),
                      options.causal ? " causal" : "", " window ", options.window, " growth ", growth));
  std::vector<float> key_values = normals(element_count(kv_shape), 2);
  for (size_t i = 0; i < key_values.size(); ++i) {
    const int64_t key = static_cast<int64_t>(i) / kv_shape[3] % kv_shape[2];
    key_values[i] *= 1 + growth * static_cast<float>(key) / static_cast<float>(kv_shape[2]);
  }
  const Tensor q = Tensor::from_values(normals(element_count(q_shape), 1), q_shape, type);
  const Tensor k = Tensor::from_values(key_values, kv_shape, type);
  const Tensor v = Tensor::from_values(normals(element_count(kv_shape), 3), kv_shape, type);
  std::vector<float> expected(static_cast<size_t>(q.elements()));
  const auto view = ops::heads_view;
  const Tensor exact = Tensor::from_memory(expected.data(), q_shape, DType::kF32);
  DenseAttentionArgs args{view(q),  view(k),  view(v),  view(exact),   q.dim(0),       q.dim(1),       k.dim(1),
                          q.dim(2), k.dim(2), q.dim(3), options.scale, options.causal, options.window, options.softcap, nullptr, nullptr};
  if (args.scale == 0) args.scale = 1 / std::sqrt(static_cast<float>(q.dim(3)));
  if (options.alibi.defined()) args.alibi = options.alibi.data<float>();
  if (options.sinks.defined()) args.sinks = options.sinks.data<float>();
  ref::attention(args);
  const double bound = type == DType::kF32 ? 1e-11 : type == DType::kF16 ? 5e-7 : 2e-5;
  ops::AttentionOptions there = options;
  there.alibi = on(ctx, options.alibi);
  there.sinks = on(ctx, options.sinks);
  const std::vector<float> got = values_of(ops::attention(ctx, on(ctx, q), on(ctx, k), on(ctx, v), there));
  EXPECT_LT(normalised_error(got, expected), bound);

  // (B, T, H, Dh) memory seen as (B, H, T, Dh), and the result written over q.
  const Tensor strided = Tensor::empty({q.dim(0), q.dim(2), q.dim(1), q.dim(3)}, type).transpose(1, 2);
  const Tensor copy = q.contiguous();
  const int64_t bytes = traits(type).bytes;
  for (int64_t b = 0; b < q.dim(0); ++b) {
    for (int64_t h = 0; h < q.dim(1); ++h) {
      for (int64_t t = 0; t < q.dim(2); ++t)
        std::memcpy(view(strided).at(b, h, t), view(copy).at(b, h, t), static_cast<size_t>(q.dim(3) * bytes));
    }
  }
  const Tensor in_place = on(ctx, strided);
  ops::attention(ctx, in_place, on(ctx, k), on(ctx, v), there, in_place);
  EXPECT_TRUE(same_bits(values_of(in_place), got));
}

TEST_P(AttentionOnDevice, MatchesTwin) {
  for (const auto& ctx : test::contexts_of_two_threads(GetParam())) {
    for (const DType type : {DType::kF32, DType::kF16, DType::kBF16}) {
      expect_dense_matches_twin(*ctx, type, {2, 4, 33, 64}, {2, 2, 33, 64}, {0, true, 0, 0});
      expect_dense_matches_twin(*ctx, type, {1, 6, 5, 80}, {1, 2, 300, 80}, {0, true, 0, 0});
      expect_dense_matches_twin(*ctx, type, {1, 3, 70, 32}, {1, 3, 65, 32}, {0.2f, false, 0, 0});
      expect_dense_matches_twin(*ctx, type, {1, 3, 70, 32}, {1, 1, 130, 32}, {0.2f, true, 50, 3});
    }
    for (const int64_t head_dim : {8, 32, 40, 96, 128, 256}) {
      for (const DType type : {DType::kF32, DType::kBF16}) {
        expect_dense_matches_twin(*ctx, type, {1, 8, 66, head_dim}, {1, 2, 66, head_dim}, {0, true, 0, 0});
      }
    }
    expect_dense_matches_twin(*ctx, DType::kBF16, {1, 4, 200, 64}, {1, 2, 263, 64}, {0, true, 90, 20});
  }
}

// Scores that rise from tile to tile, so that what was summed has to be put under new peaks, and such that fall.
TEST_P(AttentionOnDevice, MatchesTwinWhereScoresRise) {
  for (const auto& ctx : test::contexts_of_two_threads(GetParam())) {
    for (const DType type : {DType::kF16, DType::kBF16}) {
      for (const int64_t head_dim : {32, 64, 128}) {
        for (const float growth : {3.0f, 40.0f, -0.99f}) {
          expect_dense_matches_twin(*ctx, type, {1, 4, 35, head_dim}, {1, 2, 500, head_dim}, {0, true, 0, 0}, growth);
        }
      }
    }
  }
}

// More tiles of rows than a GPU has multiprocessors, keys that end within a tile, and rows that see none.
TEST_P(AttentionOnDevice, MatchesTwinForManyTiles) {
  const auto ctx = std::move(test::contexts_of_two_threads(GetParam()).back());
  for (const int64_t head_dim : {64, 128}) {
    expect_dense_matches_twin(*ctx, DType::kBF16, {9, 16, 30, head_dim}, {9, 16, 60, head_dim}, {0, true, 0, 0});
    expect_dense_matches_twin(*ctx, DType::kF16, {1, 4, 67, head_dim}, {1, 2, 321, head_dim}, {0, false, 0, 0});
    expect_dense_matches_twin(*ctx, DType::kBF16, {1, 5, 300, head_dim}, {1, 1, 130, head_dim}, {0, true, 0, 0});
    expect_dense_matches_twin(*ctx, DType::kF16, {1, 2, 300, head_dim}, {1, 1, 300, head_dim}, {0, true, 130, 0});
  }
}

TEST(Attention, BitsDoNotDependOnThreadsOrOnTheRowsBeside) {
  constexpr int64_t kRows = 150, kLast = 7;
  for (const Isa isa : test::isas()) {
    for (const DType type : {DType::kF32, DType::kF16, DType::kBF16}) {
      SCOPED_TRACE(concat(isa_name(isa), " ", dtype_name(type)));
      const Tensor q = Tensor::from_values(normals(6 * kRows * 64, 1), {1, 6, kRows, 64}, type);
      const Tensor k = Tensor::from_values(normals(2 * 700 * 64, 2), {1, 2, 700, 64}, type), v = Tensor::from_values(normals(2 * 700 * 64, 3), {1, 2, 700, 64}, type);
      Context one(Device::cpu(), {1, isa});
      const Tensor whole = ops::attention(one, q, k, v, {.causal = true});
      for (const int threads : {2, 5}) {
        Context several(Device::cpu(), {threads, isa});
        EXPECT_TRUE(same_bits(values_of(ops::attention(several, q, k, v, {.causal = true})), values_of(whole))) << threads;
        const Tensor last = ops::attention(several, q.slice(2, kRows - kLast, kRows), k, v, {.causal = true});
        EXPECT_TRUE(same_bits(values_of(last), values_of(whole.slice(2, kRows - kLast, kRows)))) << threads;
      }
    }
  }
}

TEST_P(AttentionOnDevice, MatchesTwinWithAlibiAndSinks) {
  const Tensor sinks = Tensor::from_values(std::vector<float>{-3, 0, 1, 60}, {4});
  for (const auto& ctx : test::contexts_of_two_threads(GetParam())) {
    expect_dense_matches_twin(*ctx, DType::kF32, {2, 4, 33, 64}, {2, 2, 100, 64}, {0, true, 0, 0, alibi_slopes(4), sinks});
    expect_dense_matches_twin(*ctx, DType::kBF16, {1, 4, 5, 32}, {1, 4, 300, 32}, {0, false, 0, 0, {}, sinks});
  }
}

// A sink with the score of the only key takes half of the weight; where no key is seen there is nothing to take from.
TEST(Attention, SinksTakeTheirShare) {
  Context ctx(Device::cpu(), {1});
  const Tensor q = Tensor::from_values(std::vector<float>(2 * 8, 1.0f), {1, 1, 2, 8}), k = Tensor::from_values(std::vector<float>(8, 0.5f), {1, 1, 1, 8});
  const Tensor sink = Tensor::from_values(std::vector<float>{4}, {1});  // q·k with scale 1
  const std::vector<float> y = values_of(ops::attention(ctx, q, k, k, {1, true, 0, 0, {}, sink}));
  EXPECT_EQ(y[0], 0.0f);
  EXPECT_NEAR(y[8], 0.25f, 1e-6);
}

TEST(Attention, RowsThatSeeNothingAreZero) {
  Context ctx(Device::cpu(), {2});
  const Tensor q = Tensor::from_values(normals(5 * 8, 1), {1, 1, 5, 8});
  const Tensor k = Tensor::from_values(normals(3 * 8, 2), {1, 1, 3, 8});
  const std::vector<float> y = values_of(ops::attention(ctx, q, k, k, {0, true, 0, 0}));
  EXPECT_EQ(std::vector<float>(y.begin(), y.begin() + 16), std::vector<float>(16, 0.0f));
  EXPECT_NEAR(y[16], k.data<float>()[0], 1e-6);
  const Tensor none = Tensor::empty({1, 1, 0, 8}, DType::kF32);
  EXPECT_EQ(values_of(ops::attention(ctx, q, none, none)), std::vector<float>(40, 0.0f));
  EXPECT_EQ(ops::attention(ctx, none, k, k).elements(), 0);
}

template <class F>
std::string message_of(F&& f) {
  try {
    f();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
    return error.what();
  }
  return "no error";
}

TEST(Attention, RefusesWhatDoesNotFit) {
  Context ctx(Device::cpu(), {1});
  const auto tensor = [](const Shape& shape, DType type = DType::kF32) { return Tensor::zeros(shape, type); };
  const Tensor q = tensor({1, 4, 3, 16});
  const auto attempt = [&](const Tensor& k, const Tensor& v, const ops::AttentionOptions& options = {}) {
    return message_of([&] { ops::attention(ctx, q, k, v, options); });
  };
  const Tensor k = tensor({1, 2, 3, 16});
  EXPECT_THAT(attempt(tensor({2, 3, 16}), k), HasSubstr("rank"));
  EXPECT_THAT(attempt(tensor({1, 3, 3, 16}), tensor({1, 3, 3, 16})), HasSubstr("multiple of 3 kv heads"));
  EXPECT_THAT(attempt(k, tensor({1, 2, 4, 16})), HasSubstr("same shape"));
  EXPECT_THAT(attempt(tensor({1, 2, 3, 8}), tensor({1, 2, 3, 8})), HasSubstr("first and last"));
  EXPECT_THAT(attempt(k, tensor({1, 2, 3, 16}, DType::kF16)), HasSubstr("f16"));
  EXPECT_THAT(attempt(k, k, {0, false, 5, 0}), HasSubstr("causal"));
  EXPECT_THAT(attempt(k, k, {0, true, -5, 0}), HasSubstr("window"));
  const Tensor odd = tensor({1, 1, 1, 12});
  EXPECT_THAT(message_of([&] { ops::attention(ctx, odd, odd, odd); }), HasSubstr("head size 12"));
}

TEST(Attention, RefusesAlibiAndSinksThatDoNotFit) {
  Context ctx(Device::cpu(), {1});
  const Tensor q = Tensor::zeros({1, 4, 3, 16}, DType::kF32);
  const auto attempt = [&](const ops::AttentionOptions& options) { return message_of([&] { ops::attention(ctx, q, q, q, options); }); };
  EXPECT_THAT(attempt({0, false, 0, 0, alibi_slopes(4), {}}), HasSubstr("alibi needs causal"));
  EXPECT_THAT(attempt({0, true, 0, 0, alibi_slopes(3), {}}), HasSubstr("alibi is f32 [3], expected contiguous f32 [4]"));
  EXPECT_THAT(attempt({0, true, 0, 0, {}, Tensor::zeros({4}, DType::kF16)}), HasSubstr("sinks is f16 [4]"));
}

TEST(PagedAttention, RefusesWhatDoesNotFit) {
  Context ctx(Device::cpu(), {1});
  const Dimensions dims{2, 1, 16};
  Cache cache(DType::kF16, dims, 4);
  const Tables tables(100, 8);
  const auto append = [&](const Step& step, int64_t width) {
    return message_of([&] {
      ops::rope_append(ctx, Tensor::zeros({step.view().rows, width}, DType::kF32), tables.cos, tables.sin, false, step.view(), cache.view);
    });
  };
  EXPECT_EQ(append(Step({{0, 0, 2}}), 64), "no error");
  EXPECT_THAT(append(Step({{0, 0, 2}}), 32), HasSubstr("qkv"));
  EXPECT_THAT(append(Step({{0, 99, 2}}), 64), HasSubstr("page 8 of 4"));
  Step step({{0, 99, 2}});
  std::fill(step.table.begin(), step.table.end(), 1);
  EXPECT_THAT(append(step, 64), HasSubstr("position 100"));
  step.positions[1] = 7;
  EXPECT_THAT(append(step, 64), HasSubstr("consecutive"));
  const Tensor q = Tensor::zeros({2, 32}, DType::kF32);
  const auto attend = [&](const Step& s, const Tensor& out) {
    return message_of([&] { ops::paged_attention(ctx, q, s.view(), cache.view, {}, out); });
  };
  EXPECT_THAT(attend(Step({{0, 0, 2}}), Tensor::zeros({2, 16}, DType::kF32)), HasSubstr("out"));
  EXPECT_THAT(attend(Step({{0, 0, 3}}), q), HasSubstr("q is"));
  EXPECT_THAT(attend(Step({{0, kTablePages * 64, 2}}), q), HasSubstr("needs 17 pages"));
}

}  // namespace
}  // namespace wick
