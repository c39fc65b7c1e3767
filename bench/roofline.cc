// What share of its bound each kernel of a product with weights, and of attention over a cache, reaches on this machine.
//
//   build/release/bench/roofline [THREADS]
//
// The bound of a call is the longer of two times: its bytes, at the speed at which as many threads read memory, measured beside it; and its
// multiplications and additions, at the speed of a loop that does nothing but the instruction that multiplies (on zeros, which cost less power).
// Weights are in no cache. The shape is a feed-forward of Llama-3.2-1B: 2048 inputs, 8192 outputs.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "bench/op_timing.h"
#include "wick/apps/bandwidth.h"
#include "wick/base/error.h"
#include "wick/kernels/block_format.h"
#include "wick/kernels/cpu/amx-inl.h"
#include "wick/nn/made_up_cache.h"
#include "wick/nn/step_buffer.h"
#include "wick/ops/attention.h"
#include "wick/ops/linear.h"

namespace wick::bench {
namespace {

constexpr int64_t kInputs = 2048, kOutputs = 8192;
constexpr int64_t kHeads = 32, kKvHeads = 8, kHeadDim = 64;
constexpr uint64_t kColdBytes = uint64_t{768} << 20;  // more than caches hold
constexpr int kRounds = 5;

// An instruction, and how many multiplications and additions it does.
struct Instruction {
  const char* name;
  double operations;
  void (*loop)(int64_t turns);  // kInLoop of them a turn
};
constexpr int kInLoop = 12;  // independent of each other: more than any latency times two a cycle

#if defined(__x86_64__)
#define WICK_LOOP(name, instruction)                                                                                                       \
  void name(int64_t turns) {                                                                                                               \
    asm volatile(".irp r,0,1,2,3,4,5,6,7,8,9,10,11,12,13\n vpxor %%xmm\\r, %%xmm\\r, %%xmm\\r\n .endr\n"                                     \
                 "1:\n .irp r,0,1,2,3,4,5,6,7,8,9,10,11\n" instruction "\\r\n .endr\n dec %0\n jnz 1b\n vzeroupper"                           \
                 : "+r"(turns)                                                                                                             \
                 :                                                                                                                         \
                 : "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13"); \
  }
WICK_LOOP(fma_256, "vfmadd231ps %%ymm12, %%ymm13, %%ymm")
WICK_LOOP(fma_512, "vfmadd231ps %%zmm12, %%zmm13, %%zmm")
WICK_LOOP(bytes_256, "vpmaddubsw %%ymm12, %%ymm13, %%ymm")
WICK_LOOP(bytes_512, "vpdpbusd %%zmm12, %%zmm13, %%zmm")
WICK_LOOP(bf16_512, "vdpbf16ps %%zmm12, %%zmm13, %%zmm")
#undef WICK_LOOP

// Of tiles of 16 rows; the shapes are set at every call.
void set_tiles(int64_t inputs_bytes) {
  cpu::TileShapes shapes;
  for (int tile = 0; tile < 6; ++tile) shapes.set(tile, 16);
  shapes.set(6, 16, inputs_bytes);
  shapes.set(7, inputs_bytes / 4);
  shapes.load();
}
#define WICK_TILE_LOOP(name, instruction, inputs_bytes)                                                                     \
  void name(int64_t turns) {                                                                                                \
    set_tiles(inputs_bytes);                                                                                                \
    asm volatile("1:\n .irp r,0,1,2,3,4,5,0,1,2,3,4,5\n " instruction " %%tmm7, %%tmm6, %%tmm\\r\n .endr\n dec %0\n jnz 1b" \
                 : "+r"(turns)                                                                                              \
                 :                                                                                                          \
                 : "cc");                                                                                                   \
    cpu::release_tiles();                                                                                                   \
  }
WICK_TILE_LOOP(bf16_tiles, "tdpbf16ps", 64)
WICK_TILE_LOOP(block_tiles, "tdpbssd", 32)
#undef WICK_TILE_LOOP

Instruction multiplier(Isa isa, DType type) {
  const bool wide = isa != Isa::kAvx2, vnni = has_vnni(isa);
  if (is_quantised(type) && isa == Isa::kAvx512Amx) return {"TDPBSSD of blocks", 16384, block_tiles};
  if (is_quantised(type)) return vnni ? Instruction{"VPDPBUSD", 128, bytes_512} : Instruction{"VPMADDUBSW", 64, bytes_256};
  if (type == DType::kBF16 && isa == Isa::kAvx512Amx) return {"TDPBF16PS", 16384, bf16_tiles};
  if (type == DType::kBF16 && has_bf16_pairs(isa)) return {"VDPBF16PS", 64, bf16_512};
  return wide ? Instruction{"FMA, 512 bits", 32, fma_512} : Instruction{"FMA, 256 bits", 16, fma_256};
}
const std::vector<Isa> kMeasured = {Isa::kAvx2, Isa::kAvx512, Isa::kAvx512Vnni, Isa::kAvx512Bf16, Isa::kAvx512Amx};
#else
Instruction multiplier(Isa, DType) { return {"", 0, [](int64_t) {}}; }
const std::vector<Isa> kMeasured = {};
#endif

double operations_per_second(Context& ctx, const Instruction& instruction) {
  constexpr int64_t kTurns = 2000000;
  std::vector<Contender> loop = {timed("loop", [&] {
    ctx.pool().parallel_for(ctx.threads(), 1, [&](int64_t begin, int64_t end, int) {
      for (int64_t i = begin; i < end; ++i) instruction.loop(kTurns);
    });
  })};
  measure(loop, 3);
  return static_cast<double>(kTurns * kInLoop * ctx.threads()) * instruction.operations / median(loop[0].seconds);
}

// One call: what it reads and computes, and how long it takes.
struct Case {
  std::string name;
  double bytes = 0, operations = 0;
  Contender contender;
};

class Table {
 public:
  explicit Table(int threads) : read_(Device::cpu(), threads) {
    std::printf("| kernel | rows | us | GB/s | Gop/s | bound | share |\n|---|---|---|---|---|---|---|\n");
  }

  void add(Context& ctx, const std::string& kernel, DType multiplied, std::vector<Case> cases) {
    std::vector<Contender> contenders;
    for (Case& each : cases) contenders.push_back(std::move(each.contender));
    contenders.push_back(timed("read", [this] { read_.measure(); }));
    measure(contenders, kRounds);
    const Instruction instruction = multiplier(ctx.isa(), multiplied);
    const double bandwidth = static_cast<double>(read_.bytes()) / median(contenders.back().seconds), peak = operations_per_second(ctx, instruction);
    for (size_t i = 0; i < cases.size(); ++i) {
      const double seconds = median(contenders[i].seconds), memory = cases[i].bytes / bandwidth, arithmetic = cases[i].operations / peak;
      const bool by_memory = memory > arithmetic;
      std::printf("| %s, %s | %s | %.0f | %.1f | %.0f | %s %.1f | %.0f %% |\n", isa_name(ctx.isa()), kernel.c_str(), cases[i].name.c_str(), seconds * 1e6,
                  cases[i].bytes / seconds * 1e-9, cases[i].operations / seconds * 1e-9, by_memory ? "memory, GB/s" : instruction.name,
                  (by_memory ? bandwidth : peak) * 1e-9, 100 * (by_memory ? memory : arithmetic) / seconds);
    }
    std::fflush(stdout);
  }

 private:
  apps::ReadBandwidth read_;
};

// Random weights: a few rows of them, over and over, since making more would take longer than the measurement.
Tensor weights(DType type) {
  constexpr int64_t kDistinct = 64;
  const Tensor weight = Tensor::empty({kOutputs, kInputs}, type);
  const size_t row = dtype_bytes(type, kInputs);
  std::vector<float> values(kInputs);
  uint64_t state = 1;
  for (int64_t r = 0; r < kOutputs; ++r) {
    std::byte* const to = weight.raw() + static_cast<size_t>(r) * row;
    if (r >= kDistinct) {
      std::memcpy(to, weight.raw() + static_cast<size_t>(r % kDistinct) * row, row);
      continue;
    }
    for (float& value : values) {
      state = state * 6364136223846793005u + 1442695040888963407u;
      value = static_cast<float>(state >> 40) * 0x1p-28f - 0x1p-5f;
    }
    encode_blocks(type, values.data(), kInputs, to);
  }
  return weight;
}

Tensor constant(const Shape& shape, float value) {
  const Tensor tensor = Tensor::empty(shape, DType::kF32);
  std::fill_n(tensor.data<float>(), tensor.elements(), value);
  return tensor;
}

void measure_products(Context& ctx, Table& table, DType type) {
  const Tensor weight = weights(type);
  const double bytes = static_cast<double>(weight.bytes());
  const auto sets = std::make_shared<std::vector<PackedWeight>>();
  for (uint64_t held = 0; held < kColdBytes; held += weight.bytes()) sets->push_back(ops::pack_weight(ctx, weight));
  std::vector<Case> cases;
  for (const int64_t rows : {1, 2, 4, 8, 16, 32, 64, 512}) {
    const Tensor x = constant({rows, kInputs}, 0.5f), y = Tensor::empty({rows, kOutputs}, DType::kF32);
    const auto run = [&ctx, x, y, sets, next = size_t{0}]() mutable { ops::linear(ctx, x, (*sets)[next++ % sets->size()], y); };
    cases.push_back({std::to_string(rows), bytes, 2.0 * static_cast<double>(rows * kInputs * kOutputs), timed("", run)});
  }
  table.add(ctx, dtype_name(type), type, std::move(cases));
}

// `rows` queries behind `depth` positions of a cache.
Case attention_case(Context& ctx, DType type, int64_t depth, int64_t rows) {
  struct State {
    nn::KvPool pool;
    nn::PageTable table;
    nn::StepBuffer batch;
    Tensor q, out;
    State(DType type, int64_t rows, int64_t positions)
        : pool({1, kKvHeads, kHeadDim, type, static_cast<int32_t>(positions / kPagePositions + 1)}), table(pool.make_table(positions)),
          batch(nn::StepLimits{static_cast<int32_t>(rows), 1, positions}), q(constant({rows, kHeads * kHeadDim}, 0.5f)), out(constant(q.shape(), 0)) {}
  };
  const int64_t positions = depth + rows;
  const auto state = std::make_shared<State>(type, rows, positions);
  nn::make_up(ctx, state->pool, state->table, positions);
  state->batch.add_sequence(std::vector<int32_t>(static_cast<size_t>(rows)), depth, state->table, nn::LogitRows::kNone);
  const double page_bytes = static_cast<double>(state->pool.config().page_bytes());
  const double pairs = static_cast<double>(rows) * (static_cast<double>(depth) + static_cast<double>(rows + 1) / 2);
  const auto run = [&ctx, state] { ops::paged_attention(ctx, state->q, state->batch.view(), state->pool.layer(0), {}, state->out); };
  return {std::to_string(rows) + " behind " + std::to_string(depth), page_bytes * static_cast<double>(positions) / kPagePositions, 4.0 * kHeads * kHeadDim * pairs,
          timed("", run)};
}

void run(int threads) {
  Table table(threads);
  for (const Isa isa : kMeasured) {
    if (!isa_available(isa)) continue;
    Context ctx(Device::cpu(), {.threads = threads, .isa = isa});
    for (const DType type : {DType::kF32, DType::kF16, DType::kBF16, DType::kQ8_0, DType::kQ4_0, DType::kQ4_1, DType::kQ5_0, DType::kQ5_1, DType::kQ4_K, DType::kQ5_K, DType::kQ6_K}) {
      if (isa != Isa::kAvx512Amx || type == DType::kBF16 || is_quantised(type)) measure_products(ctx, table, type);
    }
    if (isa == Isa::kAvx512Amx) continue;  // attention over pages has no kernel of its own
    for (const DType type : {DType::kF32, DType::kF16, DType::kBF16, DType::kQ8_0}) {
      std::vector<Case> cases;
      for (const auto& [depth, rows] : {std::pair<int64_t, int64_t>{65536, 1}, {65536, 4}, {3584, 512}}) cases.push_back(attention_case(ctx, type, depth, rows));
      table.add(ctx, std::string("attention, cache of ") + dtype_name(type), DType::kF32, std::move(cases));
    }
  }
}

}  // namespace
}  // namespace wick::bench

int main(int argc, char** argv) {
  const int threads = argc > 1 ? std::atoi(argv[1]) : wick::cpu_limits().threads();
  try {
    wick::bench::run(threads);
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "roofline: %s\n", error.what());
    return 1;
  }
}
