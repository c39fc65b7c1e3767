#include "wick/kernels/linear_in_parts.h"

#include <algorithm>
#include <span>

#include "wick/base/checked.h"
#include "wick/kernels/cpu/panels.h"

namespace wick::cpu {
namespace {

bool uses_blocks(const WeightSegment& segment) { return is_quantised(segment.type); }
bool uses_remainder(const WeightSegment& segment) { return segment.precise && uses_blocks(segment); }
bool uses_bf16(const WeightSegment& segment) { return segment.type == DType::kBF16; }

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

#if defined(__x86_64__)
const ActivationTile* round_to_tiles(Context& ctx, const float* x, int64_t ldx, int64_t rows, int64_t k, bool remainders) {
  const int64_t count = ceil_div(rows, kTileRows), size = count * (k / kQuantBlock);
  ActivationTile* tiles = ctx.scratch<ActivationTile>(remainders ? 2 * size : size).data();
  ctx.pool().parallel_for(count, rounding_grain(k * kTileRows), [&](int64_t begin, int64_t end, int) {
    quantise_tiles_avx512vnni(x, ldx, rows, k, begin, end, tiles, remainders ? tiles + size : nullptr);
  });
  return tiles;
}
#else
const ActivationTile* round_to_tiles(Context&, const float*, int64_t, int64_t, int64_t, bool) { return nullptr; }  // never wanted
#endif

// Rounds x, [rows, k], in every form that some segment needs.
Activations round_input(Context& ctx, const float* x, int64_t ldx, int64_t rows, int64_t k, std::span<const WeightSegment> segments) {
  const bool quantised = std::any_of(segments.begin(), segments.end(), uses_blocks);
  const bool precise = std::any_of(segments.begin(), segments.end(), uses_remainder);
  const bool bf16 = std::any_of(segments.begin(), segments.end(), uses_bf16);
  const bool tiles = quantised && wants_tiles(ctx.isa(), precise ? 2 * rows : rows);
  const bool blocks = quantised && !tiles;
  ActivationBuffers out;
  if (blocks) out = block_buffers(ctx, precise ? 2 * rows : rows, k);
  if (bf16) {
    out.ld_bf16 = round_up<int64_t>(k, 2);
    out.bf16 = ctx.scratch<uint16_t>(rows * out.ld_bf16).data();
  }
  if (blocks || bf16) {
    ctx.pool().parallel_for(rows, rounding_grain(k), [&](int64_t begin, int64_t end, int) {
      if (blocks) quantise_rows(ctx.isa(), x, ldx, k, begin, end, out, precise ? rows : 0);
      if (bf16) round_rows_bf16(ctx.isa(), x, ldx, k, begin, end, out);
    });
  }
  Activations rounded;
  rounded.rows = rows;
  rounded.k = k;
  rounded.f32 = x;
  rounded.ld_f32 = ldx;
  rounded.bf16 = out.bf16;
  rounded.ld_bf16 = out.ld_bf16;
  rounded.q = out.q;
  rounded.scale = out.scale;
  rounded.scaled_sum = out.scaled_sum;
  rounded.minus_8_sum = out.minus_8_sum;
  rounded.minus_16_sum = out.minus_16_sum;
  rounded.minus_128_sum = out.minus_128_sum;
  rounded.minus_32_sum = out.minus_32_sum;
  if (tiles) rounded.tiles = round_to_tiles(ctx, x, ldx, rows, k, precise);
  return rounded;
}

void float_kernel_scalar(const PanelJob& job) { float_panels(job, Isa::kScalar); }
void float_kernel_avx2(const PanelJob& job) { float_panels(job, Isa::kAvx2); }
void float_kernel_avx512(const PanelJob& job) { float_panels(job, Isa::kAvx512); }

PanelKernel float_kernel(Isa isa) {
  if (isa == Isa::kAvx512 || isa == Isa::kAvx512Vnni) return float_kernel_avx512;
  return isa == Isa::kAvx2 ? float_kernel_avx2 : float_kernel_scalar;
}

// Runs panels [begin, end), counted through all segments.
void run_panels(const LinearArgs& args, const Activations& input, Isa isa, int64_t begin, int64_t end, std::byte* scratch) {
  int64_t first_panel = 0;
  int64_t column = 0;
  for (const WeightSegment& segment : args.weight->segments) {
    const int64_t panels = ceil_div(segment.rows, kPanelRows);
    PanelJob job;
    job.panel_begin = std::max<int64_t>(0, begin - first_panel);
    job.panel_end = std::min(panels, end - first_panel);
    if (job.panel_begin < job.panel_end) {
      job.segment = &segment;
      job.panels = segment.storage->data();
      Activations x = input;
      if (uses_remainder(segment)) x.rows = 2 * args.rows;
      job.x = &x;
      job.out = {args.y + column, args.rows, args.ldy, args.bias ? args.bias + column : nullptr, args.accumulate};
      job.scratch = scratch;
      panel_kernel(segment.type, isa)(job);
    }
    first_panel += panels;
    column += segment.rows;
  }
}

// At least 16 KiB of weights or 64 Ki products per claim; an even number of panels, since kernels like pairs.
int64_t panel_grain(int64_t panel_size, int64_t k, int64_t rows) {
  const int64_t cost = std::max<int64_t>(1, panel_size * 4 + k * kPanelRows * rows);
  return round_up<int64_t>(std::max<int64_t>(1, 65536 / cost), 2);
}

}  // namespace

PanelKernel panel_kernel(DType type, Isa isa) {
  if (!is_quantised(type)) {
#if defined(__x86_64__)
    if (type == DType::kBF16 && isa == Isa::kAvx512Vnni) return bf16_panels_avx512;
#elif defined(__aarch64__)
    if (type == DType::kBF16 && isa == Isa::kNeonBf16) return bf16_panels_neon;
#endif
    return float_kernel(isa);
  }
#if defined(__x86_64__)
  if (isa == Isa::kAvx512Vnni) return quant_panels_avx512vnni;
  if (isa == Isa::kAvx512 || isa == Isa::kAvx2) return quant_panels_avx2;
#elif defined(__aarch64__)
  if (isa >= Isa::kNeonDot) return quant_panels_neon_dot;
  if (isa == Isa::kNeon) return quant_panels_neon;
#endif
  return quant_panels_generic;
}

bool wants_tiles(Isa isa, int64_t rows) {
  constexpr int64_t kFrom = 40;  // measured: below, unpacking costs more than it saves
  return isa == Isa::kAvx512Vnni && rows >= kFrom;
}

// Of every block: bytes, two rows of offsets and two of scales, or one of each and one of minimums.
constexpr int64_t kUnpackedBlock = 512 + 4 * 64;

int64_t panels_in_scratch(int64_t k) {
  constexpr int64_t kBytes = 640 << 10;  // what a second cache of 1 MiB holds beside the activations of a tile
  const int64_t panels = kBytes / std::max<int64_t>(1, k / kQuantBlock * kUnpackedBlock);
  return std::clamp<int64_t>(panels / 2 * 2, 2, 8);
}

int64_t panel_scratch_bytes(int64_t k) { return panels_in_scratch(k) * (k / kQuantBlock) * kUnpackedBlock; }

void linear(Context& ctx, const LinearArgs& args) {
  if (args.rows == 0 || args.weight->rows == 0) return;
  if (args.norm || args.swiglu) return linear_in_parts<rms_norm, linear, activation>(ctx, args);
  const ScratchScope scope(ctx);
  const Activations x = round_input(ctx, args.x, args.ldx, args.rows, args.weight->k, args.weight->segments);
  int64_t panels = 0;
  int64_t bytes = 0;
  for (const WeightSegment& segment : args.weight->segments) {
    panels += ceil_div(segment.rows, kPanelRows);
    bytes += static_cast<int64_t>(segment.storage->bytes());
  }
  const int64_t per_worker = panel_scratch_bytes(args.weight->k);
  std::byte* scratch = ctx.scratch<std::byte>(per_worker * ctx.threads()).data();
  ctx.pool().parallel_for(panels, panel_grain(bytes / panels, args.weight->k, args.rows), [&](int64_t begin, int64_t end, int worker) {
    run_panels(args, x, ctx.isa(), begin, end, scratch + worker * per_worker);
  });
}

// Each worker packs a few panels at a time into scratch of its own and multiplies them while they are in its cache.
void matmul(Context& ctx, const MatmulArgs& args) {
  constexpr int64_t kPanels = 4;  // the most that a kernel takes at a time
  if (args.rows == 0 || args.b.rows == 0) return;
  const ScratchScope scope(ctx);
  WeightSegment segment;
  segment.type = args.b.type;
  segment.rows = args.b.rows;
  segment.k = args.b.k;
  segment.panel_bytes = panel_bytes(args.b.type, args.b.k);
  const Activations x = round_input(ctx, args.x, args.ldx, args.rows, args.b.k, {&segment, 1});
  const int64_t unpacked = panel_scratch_bytes(args.b.k);
  const int64_t per_worker = unpacked + kPanels * segment.panel_bytes;
  std::byte* scratch = ctx.scratch<std::byte>(mul_or_fail<int64_t>(per_worker, ctx.threads(), "matmul: scratch")).data();
  const int64_t panels = ceil_div(args.b.rows, kPanelRows);
  const int64_t grain = panel_grain(segment.panel_bytes, args.b.k, args.rows);
  ctx.pool().parallel_for(panels, grain, [&](int64_t begin, int64_t end, int worker) {
    PanelJob job;
    job.segment = &segment;
    job.x = &x;
    job.out = {args.y, args.rows, args.ldy, args.bias, args.accumulate};
    job.scratch = scratch + worker * per_worker;
    std::byte* packed = job.scratch + unpacked;
    for (job.panel_begin = begin; job.panel_begin < end; job.panel_begin = job.panel_end) {
      job.panel_end = std::min(end, job.panel_begin + kPanels);
      for (int64_t p = job.panel_begin; p < job.panel_end; ++p) pack_panel(args.b, p, packed + (p - job.panel_begin) * segment.panel_bytes);
      job.panels = packed - job.panel_begin * segment.panel_bytes;
      panel_kernel(segment.type, ctx.isa())(job);
    }
  });
}

}  // namespace wick::cpu
