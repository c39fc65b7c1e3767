#include <algorithm>
#include <cstring>
#include <optional>
#include <span>

#include "wick/base/checked.h"
#include "wick/kernels/convert.h"
#include "wick/kernels/cpu/panels.h"
#include "wick/kernels/linear_in_parts.h"

namespace wick::cpu {
namespace {

bool uses_blocks(const WeightSegment& segment) { return is_quantised(segment.type); }
bool uses_remainder(const WeightSegment& segment) { return segment.precise && uses_blocks(segment); }
bool uses_bf16(const WeightSegment& segment) { return segment.type == DType::kBF16; }
bool uses_f32(const WeightSegment& segment) { return !uses_blocks(segment) && !uses_bf16(segment); }

ActivationBuffers block_buffers(Context& ctx, int64_t rows, int64_t k) {
  const int64_t count = rows * (k / kQuantBlock);
  ActivationBuffers out;
  out.q = ctx.scratch<int8_t>(rows * k).data();
  out.scale = ctx.scratch<float>(count).data();
  out.scaled_sum = ctx.scratch<float>(count).data();
  out.minus_8_sum = ctx.scratch<int32_t>(count).data();
  out.minus_16_sum = ctx.scratch<int32_t>(count).data();
  out.minus_128_sum = ctx.scratch<int32_t>(count).data();
  out.minus_32_sum = ctx.scratch<int32_t>(2 * count).data();
  return out;
}

// Rows per claim, so that there are a few µs of work in it: less is not worth waking a thread for.
int64_t rounding_grain(int64_t elements_per_row) { return std::max<int64_t>(1, 16384 / std::max<int64_t>(1, elements_per_row)); }

// The rows that a product reads, as they are or normalised first. In bf16 for bf16 weights only, and as they are.
struct Input {
  const float* x = nullptr;
  const uint16_t* x_bf16 = nullptr;
  int64_t ldx = 0;
  int64_t rows = 0;
  int64_t k = 0;
  const float* norm = nullptr;
  double eps = 0;
};

// Where rows of an input are in f32.
struct InputRows {
  const float* x;
  int64_t ldx;
};

// Rows [begin, end): normalised they go to `normed`, one behind the other.
InputRows take_rows(Context& ctx, const Input& in, int64_t begin, int64_t end, float* normed) {
  const float* x = in.x + begin * in.ldx;
  if (!in.norm) return {x, in.ldx};
  RmsNormArgs args;
  args.x = f32_rows(x, end - begin, in.k, in.ldx);
  args.weight = reinterpret_cast<const std::byte*>(in.norm);
  args.y = f32_rows(normed, end - begin, in.k, in.k);
  args.eps = in.eps;
  rms_norm(ctx, args);
  return {normed, in.k};
}

// Rows in tiles, of a kind for AMX or one for other products, and their remainders behind all of them where there are some.
class Tiles {
 public:
  Tiles() = default;
  Tiles(Context& ctx, int64_t rows, int64_t k, bool remainders) : blocks_(k / kQuantBlock) {
    const bool wide = ctx.isa() == Isa::kAvx512Amx;
    rows_together_ = wide ? kWideRows : kTileRows;
    count_ = ceil_div(rows, rows_together_) * blocks_;
    remainders_ = remainders;
    const int64_t all = remainders ? 2 * count_ : count_;
    if (wide) {
      wide_ = ctx.scratch<WideTile>(all).data();
    } else {
      tiles_ = ctx.scratch<ActivationTile>(all).data();
    }
  }
  int64_t rows_together() const { return rows_together_; }

  // Rounds rows from `begin`, a multiple of rows_together(), on.
  void round([[maybe_unused]] const float* x, [[maybe_unused]] int64_t ldx, [[maybe_unused]] int64_t begin,
             [[maybe_unused]] int64_t rows) const {
#if defined(__x86_64__)
    const int64_t first = begin / rows_together_ * blocks_, k = blocks_ * kQuantBlock;
    if (wide_) return quantise_wide_row_avx512vnni(x, ldx, rows, k, wide_ + first, remainders_ ? wide_ + first + count_ : nullptr);
    if (tiles_) quantise_tile_row_avx512vnni(x, ldx, rows, k, tiles_ + first, remainders_ ? tiles_ + first + count_ : nullptr);
#endif
  }
  void put(Activations& x) const {
    x.tiles = tiles_;
    x.wide_tiles = wide_;
  }

 private:
  int64_t blocks_ = 0, rows_together_ = 1, count_ = 0;
  bool remainders_ = false;
  ActivationTile* tiles_ = nullptr;
  WideTile* wide_ = nullptr;
};

// Memory for rows of bf16 as kernels want them: pairs, or numbers to multiply in f32, whose rows do not all begin in the same set of a
// cache.
Bf16Rows room_for_bf16(Context& ctx, int64_t matrices, int64_t rows, int64_t k) {
  Bf16Rows room = {nullptr, rows, round_up(k, kBf16Chunk), wants_groups(ctx.isa())};
  room.data = ctx.scratch<uint16_t>(mul_or_fail(matrices, rows * room.ld, "matmul: scratch")).data();
  return room;
}

F32OfBf16 room_for_f32_of_bf16(Context& ctx, int64_t matrices, int64_t rows, int64_t k) {
  F32OfBf16 room = {nullptr, round_up<int64_t>(k, 16) + 16};
  room.data = ctx.scratch<float>(mul_or_fail(matrices, rows * room.ld, "matmul: scratch")).data();
  return room;
}

// A row of bf16 into chunks, zero behind its end.
void copy_row_bf16(const uint16_t* x, int64_t k, uint16_t* to, int64_t step) {
  constexpr size_t kBytes = kBf16Chunk * sizeof(uint16_t);
  int64_t i = 0;
  for (; i + kBf16Chunk <= k; i += kBf16Chunk, to += step) std::memcpy(to, x + i, kBytes);
  if (i == k) return;
  std::memset(to, 0, kBytes);
  std::memcpy(to, x + i, static_cast<size_t>(k - i) * sizeof(uint16_t));
}

// Matrices of bf16 as they are: one, or some of one shape.
class Bf16Input {
 public:
  Bf16Input(Context& ctx, const uint16_t* x, int64_t ldx, int64_t rows, int64_t k, int64_t count = 1, int64_t step = 0)
      : rows_{const_cast<uint16_t*>(x), rows, ldx, false}, k_(k), step_(step) {
    const bool pairs = has_bf16_pairs(ctx.isa());
    if (pairs && !wants_groups(ctx.isa()) && k % 2 == 0) return;  // kernels read them where they are
    if (pairs) {
      rows_ = room_for_bf16(ctx, count, rows, k);
      step_ = rows * rows_.ld;
    } else {
      f32_ = room_for_f32_of_bf16(ctx, count, rows, k);
    }
    ctx.pool().parallel_for(count * rows, rounding_grain(k), [&](int64_t begin, int64_t end, int) {
      for (int64_t i = begin; i < end; ++i) {
        const uint16_t* const row = x + i / rows * step + i % rows * ldx;
        const Bf16Rows to = at(i / rows).bf16;
        if (pairs) {
          copy_row_bf16(row, k, to.row(i % rows), to.step(i % rows));
        } else {
          widen_row_bf16(ctx.isa(), row, k, f32_.data + i * f32_.ld);
        }
      }
    });
  }

  Activations at(int64_t i) const {
    Activations x;
    x.rows = rows_.rows;
    x.k = k_;
    x.bf16 = rows_;
    x.bf16.data += i * step_;
    x.f32_of_bf16 = f32_;
    if (f32_.data) x.f32_of_bf16.data += i * rows_.rows * f32_.ld;
    return x;
  }

 private:
  Bf16Rows rows_;
  F32OfBf16 f32_;
  int64_t k_;
  int64_t step_;  // from matrix to matrix
};

// Rounds an input in every form that some segment needs. Rows are normalised a few at a time, into memory of the thread's own, and rounded
// while they are in its cache; only what is multiplied in f32 is kept.
Activations round_input(Context& ctx, const Input& in, std::span<const WeightSegment> segments) {
  if (in.x_bf16) return Bf16Input(ctx, in.x_bf16, in.ldx, in.rows, in.k).at(0);
  const bool quantised = std::any_of(segments.begin(), segments.end(), uses_blocks);
  const bool precise = std::any_of(segments.begin(), segments.end(), uses_remainder);
  const bool bf16 = std::any_of(segments.begin(), segments.end(), uses_bf16);
  const bool f32 = std::any_of(segments.begin(), segments.end(), uses_f32);
  const int64_t rows = in.rows, k = in.k;
  const bool in_tiles = quantised && wants_tiles(ctx.isa(), precise ? 2 * rows : rows);
  const bool in_blocks = quantised && !in_tiles;
  const Tiles tiles = in_tiles ? Tiles(ctx, rows, k, precise) : Tiles();
  const int64_t step = tiles.rows_together(), steps = ceil_div(rows, step);
  ActivationBuffers out;
  if (in_blocks) out = block_buffers(ctx, precise ? 2 * rows : rows, k);
  if (bf16 && has_bf16_pairs(ctx.isa())) out.bf16 = room_for_bf16(ctx, 1, rows, k);
  if (bf16 && !has_bf16_pairs(ctx.isa())) out.f32_of_bf16 = room_for_f32_of_bf16(ctx, 1, rows, k);
  float* const normed = in.norm ? ctx.scratch<float>(k * (f32 ? rows : step * ctx.threads())).data() : nullptr;

  const auto round = [&](int64_t begin, int64_t end, int worker) {
    const InputRows from = take_rows(ctx, in, begin, end, normed ? normed + (f32 ? begin : step * worker) * k : nullptr);
    if (in_blocks) quantise_rows(ctx.isa(), from.x, from.ldx, k, begin, end, out, precise ? rows : 0);
    if (bf16) round_rows_bf16(ctx.isa(), from.x, from.ldx, k, begin, end, out);
    tiles.round(from.x, from.ldx, begin, end - begin);
  };
  if (quantised || bf16 || normed) {
    ctx.pool().parallel_for(steps, rounding_grain(k * step), [&](int64_t begin, int64_t end, int worker) {
      for (int64_t i = begin; i < end; ++i) round(i * step, std::min(rows, (i + 1) * step), worker);
    });
  }
  Activations rounded;
  rounded.rows = rows;
  rounded.k = k;
  rounded.f32 = normed ? normed : in.x;
  rounded.ld_f32 = normed ? k : in.ldx;
  rounded.bf16 = out.bf16;
  rounded.f32_of_bf16 = out.f32_of_bf16;
  rounded.q = out.q;
  rounded.scale = out.scale;
  rounded.scaled_sum = out.scaled_sum;
  rounded.minus_8_sum = out.minus_8_sum;
  rounded.minus_16_sum = out.minus_16_sum;
  rounded.minus_128_sum = out.minus_128_sum;
  rounded.minus_32_sum = out.minus_32_sum;
  tiles.put(rounded);
  return rounded;
}

void float_kernel_scalar(const PanelJob& job) { float_panels(job, Isa::kScalar); }
void float_kernel_avx2(const PanelJob& job) { float_panels(job, Isa::kAvx2); }
void float_kernel_avx512(const PanelJob& job) { float_panels(job, Isa::kAvx512); }

PanelKernel float_kernel(Isa isa) {
  if (isa == Isa::kAvx2) return float_kernel_avx2;
  return isa == Isa::kScalar ? float_kernel_scalar : float_kernel_avx512;
}

// Runs panels [begin, end) of a segment. out: y and bias at its first column.
void run_segment(const WeightSegment& segment, int64_t begin, int64_t end, const Activations& input, const PanelOutput& out, Isa isa,
                 std::byte* scratch) {
  PanelJob job;
  job.segment = &segment;
  job.panels = segment.storage->data();
  Activations x = input;
  if (uses_remainder(segment)) x.rows = 2 * out.rows;
  job.x = &x;
  job.out = out;
  job.panel_begin = begin;
  job.panel_end = end;
  job.scratch = scratch;
  panel_kernel(segment.type, isa)(job);
}

template <class Args>
PanelOutput output_of(const Args& args) {
  return {args.y, args.y_bf16, args.rows, args.ldy, args.bias, args.accumulate};
}

// Runs panels [begin, end), counted through all segments.
void run_panels(const LinearArgs& args, const Activations& input, Isa isa, int64_t begin, int64_t end, std::byte* scratch) {
  int64_t first_panel = 0;
  int64_t column = 0;
  for (const WeightSegment& segment : args.weight->segments) {
    const int64_t panels = ceil_div(segment.rows, kPanelRows);
    const int64_t from = std::max<int64_t>(0, begin - first_panel), to = std::min(panels, end - first_panel);
    if (from < to) run_segment(segment, from, to, input, output_of(args).at(column), isa, scratch);
    first_panel += panels;
    column += segment.rows;
  }
}

// At least 16 KiB of weights or 64 Ki products per claim, of bf16 with AMX 16 Mi; an even number of panels, since kernels like pairs.
int64_t panel_grain(Isa isa, DType type, int64_t panel_size, int64_t k, int64_t rows) {
  const int64_t cost = std::max<int64_t>(1, panel_size * 4 + k * kPanelRows * rows);
  const int64_t least = type == DType::kBF16 && wants_groups(isa) && rows > kPanelRows ? 1 << 24 : 1 << 16;
  return round_up<int64_t>(std::max<int64_t>(1, least / cost), 2);
}

}  // namespace

PanelKernel panel_kernel(DType type, Isa isa) {
  if (!is_quantised(type)) {
#if defined(__x86_64__)
    if (type == DType::kBF16 && isa == Isa::kAvx512Bf16) return bf16_panels_avx512;
    if (type == DType::kBF16 && isa == Isa::kAvx512Amx) return bf16_panels_amx;
#elif defined(__aarch64__)
    if (type == DType::kBF16 && isa == Isa::kNeonBf16) return bf16_panels_neon;
#endif
    return float_kernel(isa);
  }
#if defined(__x86_64__)
  if (has_vnni(isa)) return quant_panels_avx512vnni;
  if (isa == Isa::kAvx512 || isa == Isa::kAvx2) return quant_panels_avx2;
#elif defined(__aarch64__)
  if (isa >= Isa::kNeonDot) return quant_panels_neon_dot;
  if (isa == Isa::kNeon) return quant_panels_neon;
#endif
  return quant_panels_generic;
}

bool wants_tiles(Isa isa, int64_t rows) {
  // Measured: below, unpacking costs more than it saves. AMX breaks even at a tile of its own with 8 bits, and gains a fifth with fewer.
  const int64_t from = isa == Isa::kAvx512Amx ? kWideRows : 40;
  return has_vnni(isa) && rows >= from;
}

bool wants_groups(Isa isa) { return isa == Isa::kAvx512Amx; }

// Of every block: bytes, two rows of offsets and two of scales, or one of each and one of minimums.
constexpr int64_t kUnpackedBlock = 512 + 4 * 64;

int64_t panels_in_scratch(int64_t k) {
  constexpr int64_t kBytes = 640 << 10;  // what a second cache of 1 MiB holds beside the activations of a tile
  const int64_t panels = kBytes / std::max<int64_t>(1, k / kQuantBlock * kUnpackedBlock);
  return std::clamp<int64_t>(panels / 2 * 2, 2, 8);
}

int64_t panel_scratch_bytes([[maybe_unused]] Isa isa, int64_t k) {
  const int64_t unpacked = panels_in_scratch(k) * (k / kQuantBlock) * kUnpackedBlock;
#if defined(__x86_64__)
  if (isa == Isa::kAvx512Amx) return std::max(unpacked, bf16_scratch_bytes_amx());
#endif
  return unpacked;
}

namespace {

// Gates in one segment, ups in another: what run_gated() takes.
bool gates_and_ups(const PackedWeight& weight) { return weight.segments.size() == 2 && weight.segments[0].rows == weight.segments[1].rows; }

// y = silu(gate) * up. Panels of gates and those of their ups go to memory of the thread's own, and are multiplied while they are in its
// cache: nothing waits for all of them, and no more of them is kept.
void run_gated(Context& ctx, const LinearArgs& args, const Activations& x) {
  constexpr int64_t kFloats = 1 << 16;  // of the second cache
  constexpr int64_t kLeastPanels = 8;   // that a kernel unpacks together
  const WeightSegment &gate = args.weight->segments[0], &up = args.weight->segments[1];
  const int64_t panels = ceil_div(gate.rows, kPanelRows);
  const int64_t group = std::min(panels, std::max(kLeastPanels, kFloats / (kPanelRows * args.rows)));
  const int64_t width = group * kPanelRows;
  const int64_t per_worker = panel_scratch_bytes(ctx.isa(), args.weight->k);
  std::byte* const scratch = ctx.scratch<std::byte>(per_worker * ctx.threads()).data();
  float* const sums = ctx.scratch<float>(2 * args.rows * width * ctx.threads()).data();
  const int64_t grain = panel_grain(ctx.isa(), gate.type, gate.panel_bytes + up.panel_bytes, 2 * args.weight->k, args.rows);
  ctx.pool().parallel_for(panels, grain, [&](int64_t begin, int64_t end, int worker) {
    float* const gates = sums + worker * 2 * args.rows * width;
    float* const ups = gates + args.rows * width;
    for (int64_t first = begin; first < end; first += group) {
      const int64_t last = std::min(end, first + group), column = first * kPanelRows;
      const auto run = [&](const WeightSegment& segment, float* y, const float* bias) {
        run_segment(segment, first, last, x, {y - column, nullptr, args.rows, width, bias, false}, ctx.isa(),
                    scratch + worker * per_worker);
      };
      run(gate, gates, args.bias);
      run(up, ups, args.bias ? args.bias + gate.rows : nullptr);
      const int64_t columns = std::min(gate.rows, last * kPanelRows) - column;
      const RowsView from = f32_rows(gates, args.rows, columns, width);
      const RowsView y = args.y_bf16 ? from : f32_rows(args.y + column, args.rows, columns, args.ldy);
      activation(ctx, {Activation::kSilu, from, f32_rows(ups, args.rows, columns, width), y});
      if (args.y_bf16) convert(ctx, from, even_rows(DType::kBF16, args.y_bf16 + column, args.rows, columns, args.ldy));
    }
  });
}

}  // namespace

void linear(Context& ctx, const LinearArgs& args) {
  if (args.rows == 0 || args.weight->rows == 0) return;
  const bool gated = args.swiglu && gates_and_ups(*args.weight);
  if (args.swiglu && !gated) return linear_in_parts<rms_norm, linear, activation>(ctx, args);
  const ScratchScope scope(ctx);
  const Activations x =
      round_input(ctx, {args.x, args.x_bf16, args.ldx, args.rows, args.weight->k, args.norm, args.eps}, args.weight->segments);
  if (gated) return run_gated(ctx, args, x);
  int64_t panels = 0;
  int64_t bytes = 0;
  for (const WeightSegment& segment : args.weight->segments) {
    panels += ceil_div(segment.rows, kPanelRows);
    bytes += static_cast<int64_t>(segment.storage->bytes());
  }
  const int64_t per_worker = panel_scratch_bytes(ctx.isa(), args.weight->k);
  std::byte* scratch = ctx.scratch<std::byte>(per_worker * ctx.threads()).data();
  ctx.pool().parallel_for(
      panels, panel_grain(ctx.isa(), args.weight->segments[0].type, bytes / panels, args.weight->k, args.rows),
      [&](int64_t begin, int64_t end, int worker) { run_panels(args, x, ctx.isa(), begin, end, scratch + worker * per_worker); });
}

bool takes_bf16(const PackedWeight& weight, bool swiglu) {
  return std::all_of(weight.segments.begin(), weight.segments.end(), uses_bf16) && (!swiglu || gates_and_ups(weight));
}

// Each worker packs some panels at a time into scratch of its own and multiplies them while they are in its cache.
void matmul(Context& ctx, const MatmulArgs& args) {
  // The least that keep kernels of few rows busy, and the most that those of many rows take at a time, as long as they fit the second
  // cache.
  constexpr int64_t kLeastPanels = 4, kMostPanels = 16, kPackedBytes = int64_t{512} << 10;
  if (args.rows == 0 || args.b.rows == 0) return;
  const ScratchScope scope(ctx);
  WeightSegment segment;
  segment.type = args.b.type;
  segment.rows = args.b.rows;
  segment.k = args.b.k;
  segment.panel_bytes = panel_bytes(args.b.type, args.b.k);
  std::optional<Bf16Input> narrow;
  Activations wide;
  if (args.x_bf16) {
    narrow.emplace(ctx, args.x_bf16, args.ldx, args.rows, args.b.k, args.count, args.x_step);
  } else {
    wide = round_input(ctx, {args.x, nullptr, args.ldx, args.rows, args.b.k}, {&segment, 1});
  }
  const int64_t unpacked = panel_scratch_bytes(ctx.isa(), args.b.k);
  const int64_t group = std::clamp(kPackedBytes / std::max<int64_t>(1, segment.panel_bytes) / 2 * 2, kLeastPanels, kMostPanels);
  const int64_t per_worker = unpacked + group * segment.panel_bytes;
  std::byte* scratch = ctx.scratch<std::byte>(mul_or_fail<int64_t>(per_worker, ctx.threads(), "matmul: scratch")).data();
  const int64_t panels = ceil_div(args.b.rows, kPanelRows);
  const int64_t grain = panel_grain(ctx.isa(), segment.type, segment.panel_bytes, args.b.k, args.rows);
  ctx.pool().parallel_for(args.count * panels, grain, [&](int64_t begin, int64_t end, int worker) {
    std::byte* const kernels = scratch + worker * per_worker;
    std::byte* const packed = kernels + unpacked;
    for (int64_t first = begin; first < end;) {  // panels of one product
      const int64_t matrix = first / panels, last = std::min({end, (matrix + 1) * panels, first + group});
      Activations x = narrow ? narrow->at(matrix) : wide;
      if (!narrow && args.count > 1) x.f32 += matrix * args.x_step;
      MatrixView b = args.b;
      b.data += matrix * args.b_step * traits(b.type).bytes;
      PanelJob job;
      job.segment = &segment;
      job.x = &x;
      job.out = output_of(args).at(matrix * args.y_step);
      job.out.bias = args.bias;
      job.scratch = kernels;
      job.panel_begin = first - matrix * panels;
      job.panel_end = last - matrix * panels;
      job.panels = packed - job.panel_begin * segment.panel_bytes;
      for (int64_t p = job.panel_begin; p < job.panel_end; ++p) pack_panel(b, p, packed + (p - job.panel_begin) * segment.panel_bytes);
      panel_kernel(segment.type, ctx.isa())(job);
      first = last;
    }
  });
}

}  // namespace wick::cpu
