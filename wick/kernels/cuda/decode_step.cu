#include <algorithm>
#include <cmath>
#include <vector>

#include "wick/base/checked.h"
#include "wick/kernels/cuda/decode_block.cuh"
#include "wick/kernels/decode_step.h"

namespace wick::cuda {
namespace {

// Shared memory: slots, inputs or what attention needs, StepShared, the layers' addresses.
template <class Tiles, class T, int kDim>
struct SharedSizes {
  static constexpr int64_t kSlots = int64_t{kStepWarps} * Tiles::kSlots * static_cast<int64_t>(sizeof(typename Tiles::Slot));

  __host__ __device__ static int64_t inputs(int k) {
    const int64_t input = k / kUnitInputs * Tiles::kUnitWords * static_cast<int64_t>(sizeof(uint4));
    return round_up<int64_t>(std::max({input, int64_t{sizeof(GroupSpace<T, kDim>)}, int64_t{sizeof(BriefSpace<kDim>)}}), 16);
  }
  static int64_t all(int k, int layers) {
    return kSlots + inputs(k) + static_cast<int64_t>(sizeof(StepShared)) + layers * static_cast<int64_t>(sizeof(LayerWeights));
  }
};

template <class Tiles, class T, int kDim, bool kLong>
__global__ void __launch_bounds__(kStepThreads, 1) step_kernel(const __grid_constant__ StepParams params, int most_inputs) {
  extern __shared__ __align__(32) uint4 memory[];
  using Sizes = SharedSizes<Tiles, T, kDim>;
  auto* slots = reinterpret_cast<typename Tiles::Slot*>(memory);
  uint4* x = memory + Sizes::kSlots / sizeof(uint4);
  auto& shared = *reinterpret_cast<StepShared*>(x + Sizes::inputs(most_inputs) / sizeof(uint4));
  auto* layers = reinterpret_cast<LayerWeights*>(&shared + 1);
  const auto* from = reinterpret_cast<const uint64_t*>(params.layers);
  const int words = params.layer_count * static_cast<int>(sizeof(LayerWeights) / sizeof(uint64_t));
  for (int i = static_cast<int>(threadIdx.x); i < words; i += kStepThreads) reinterpret_cast<uint64_t*>(layers)[i] = from[i];
  if (threadIdx.x < kStepProducts) shared.own[threadIdx.x] = OwnTiles(params.products[threadIdx.x]);
  __syncthreads();
  DecodeBlock<Tiles, T, kDim, kLong> block(params, shared, slots, x, layers);
  block.run();
}

using Kernel = void (*)(StepParams, int);

struct Kernels {
  Kernel brief, any;  // for contexts of up to kShortContext positions, for longer ones
  int64_t shared_bytes;
};

template <class Tiles, class T>
Kernels kernels_for(int head_dim, int most_inputs, int layers) {
  if (head_dim == 64) {
    return {step_kernel<Tiles, T, 64, false>, step_kernel<Tiles, T, 64, true>, SharedSizes<Tiles, T, 64>::all(most_inputs, layers)};
  }
  return {step_kernel<Tiles, T, 128, false>, step_kernel<Tiles, T, 128, true>, SharedSizes<Tiles, T, 128>::all(most_inputs, layers)};
}

// None: null pointers.
template <class T>
Kernels kernels_for(DType type, int head_dim, int most_inputs, int layers) {
  switch (type) {
    case DType::kBF16: return kernels_for<Bf16Tiles, T>(head_dim, most_inputs, layers);
    case DType::kQ8_0: return kernels_for<BlockTiles<DType::kQ8_0>, T>(head_dim, most_inputs, layers);
    case DType::kQ4_0: return kernels_for<BlockTiles<DType::kQ4_0>, T>(head_dim, most_inputs, layers);
    case DType::kQ4_K: return kernels_for<BlockTiles<DType::kQ4_K>, T>(head_dim, most_inputs, layers);
    default: return {};
  }
}

// The same type in every segment of every weight, or nothing that there is a kernel for.
DType type_of(const DecodeModel& model) {
  const DType type = model.head->segments.front().type;
  const auto all = [&](const PackedWeight* weight, size_t parts) {
    return weight->segments.size() == parts && std::all_of(weight->segments.begin(), weight->segments.end(),
                                                           [&](const WeightSegment& segment) { return segment.type == type; });
  };
  bool same = all(model.head, 1);
  for (const DecodeLayer& layer : model.layers) {
    same = same && all(layer.qkv, 3) && all(layer.output, 1) && all(layer.gate_up, 2) && all(layer.down, 1);
  }
  return same ? type : DType::kF32;
}

// log2 of the shares of a tile. What a tile costs once is about as much as a unit. Neighbouring shares read neighbouring bytes, and memory
// gives more the longer they are in one piece: hence the most shares that cost little more than the cheapest, or, of large weights, for
// which instructions do not count, less than twice as much.
int best_split(DType type, int tiles, int units) {
  const auto cost = [&](int split) { return ceil_div(tiles, kStepWarps >> split) * (ceil_div(units, 1 << split) + 1); };
  int least = INT32_MAX, best = 0;
  for (int split = 0; 1 << split <= kStepWarps; ++split) least = std::min(least, cost(split));
  const int most_fifths = traits(type).bytes >= traits(type).block ? 10 : 6;
  for (int split = 0; 1 << split <= kStepWarps; ++split) {
    if (cost(split) * 5 < least * most_fifths) best = split;
  }
  return best;
}

ProductShape shape_of(const PackedWeight& weight, int first_weight, bool swiglu, int blocks) {
  ProductShape shape = {};
  shape.first_weight = first_weight;
  shape.k = static_cast<int>(weight.k);
  shape.swiglu = swiglu;
  for (const WeightSegment& segment : weight.segments) {
    const int part = shape.parts++;
    shape.rows[part] = static_cast<int>(segment.rows);
    if (part == 0 || !swiglu) shape.groups += static_cast<int>(ceil_div<int64_t>(segment.rows, kHalfTile));
    shape.ends[part] = shape.groups;
    if (!is_quantised(segment.type)) continue;
    const PackedBlocks planes = packed_blocks(segment.type, segment.rows, segment.k, nullptr);
    shape.planes[part] = {planes.high - planes.quants, planes.scales - planes.quants, planes.parts - planes.quants};
  }
  const int groups = ceil_div(shape.groups, blocks);
  shape.split = best_split(weight.segments.front().type, swiglu ? groups : ceil_div(groups, 2), shape.k / kUnitInputs);
  return shape;
}

// Whether rows can be taken in whole units and tiles, and every block has something that the others wait for.
bool fits(const StepParams& params, DType type, int blocks) {
  for (int i = 0; i < kStepProducts; ++i) {
    const ProductShape& shape = params.products[i];
    if (shape.k % (type == DType::kQ6_K ? 4 * kUnitInputs : kUnitInputs) != 0) return false;
    for (int part = 0; i != kHead && part < shape.parts; ++part) {
      if (shape.rows[part] % kHalfTile != 0) return false;
    }
  }
  const int own_rows = ceil_div(params.products[kOutput].groups, blocks) * kHalfTile;
  return params.products[kGateUp].groups >= blocks && own_rows <= kMostOwnRows && params.heads <= blocks && params.shares > 0;
}

}  // namespace

class DecodeKernel {
 public:
  DecodeKernel(Context& ctx, const DecodeModel& model, const StepParams& step, const Kernels& kernels) : kernels_(kernels), params_(step) {
    std::vector<LayerWeights> layers;
    for (const DecodeLayer& layer : model.layers) {
      LayerWeights& to = layers.emplace_back();
      to.norms[0] = layer.attention_norm;
      to.norms[1] = layer.mlp_norm;
      int i = 0;
      for (const PackedWeight* weight : {layer.qkv, layer.output, layer.gate_up, layer.down}) {
        for (const WeightSegment& segment : weight->segments) to.weights[i++] = segment.storage->data();
      }
    }
    const uint64_t layer_bytes = layers.size() * sizeof(LayerWeights);
    layers_ = Storage::allocate(ctx.device(), layer_bytes);
    copy_memory(ctx.device(), layers_->data(), Device::cpu(), reinterpret_cast<const std::byte*>(layers.data()), layer_bytes);
    params_.layers = reinterpret_cast<const LayerWeights*>(layers_->data());
    lay_out(ctx);
    reset(ctx);
    for (const Kernel kernel : {kernels_.brief, kernels_.any}) {
      check(cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel), cudaFuncAttributeMaxDynamicSharedMemorySize,
                                 static_cast<int>(kernels_.shared_bytes)),
            "decode_step");
    }
  }

  void run(Context& ctx, const DecodeStepArgs& args, const StepBatch& batch) {
    StepParams params = params_;
    params.x = args.x;
    params.cos = args.cos;
    params.sin = args.sin;
    params.half = args.half;
    params.position = batch.on_device.positions;
    params.page_table = batch.on_device.page_table;
    params.cache = args.cache;
    params.layer_bytes = args.layer_bytes;
    params.logits = args.logits;
    cudaLaunchAttribute together = {};  // all blocks at once: they wait for each other
    together.id = cudaLaunchAttributeCooperative;
    together.val.cooperative = 1;
    cudaLaunchConfig_t config = {};
    config.gridDim = dim3(static_cast<unsigned>(stream_of(ctx).multiprocessors()));
    config.blockDim = dim3(kStepThreads);
    config.dynamicSmemBytes = static_cast<size_t>(kernels_.shared_bytes);
    config.stream = stream_of(ctx).use();
    config.attrs = &together;
    config.numAttrs = 1;
    const bool brief = page_bucket(batch) * kPagePositions <= kShortContext;
    check(cudaLaunchKernelEx(&config, brief ? kernels_.brief : kernels_.any, params, most_inputs(params_)), "decode_step");
  }

  // After a fault nobody knows what has been written how often.
  void recover(Context& ctx) {
    if (faults_ != stream_of(ctx).faults()) reset(ctx);
  }

  static int most_inputs(const StepParams& params) {
    int most = 0;
    for (const ProductShape& shape : params.products) most = std::max(most, shape.k);
    return most;
  }

 private:
  void lay_out(Context& ctx) {
    const auto& products = params_.products;
    const int width = products[kQkv].k, attended = products[kOutput].k, hidden = products[kDown].k;
    const int64_t sizes[] = {int64_t{kCopies} * width,
                             int64_t{kCopies} * width,
                             int64_t{products[kQkv].groups} * kHalfTile,
                             int64_t{kCopies} * attended,
                             int64_t{kCopies} * hidden,
                             int64_t{params_.shares} * (attended + 2 * params_.heads),
                             2};
    uint32_t** places[] = {&params_.middle, &params_.end,     &params_.qkv,  &params_.attended,
                           &params_.hidden, &params_.partial, &params_.times};
    int64_t words = 0;
    for (const int64_t size : sizes) words += round_up<int64_t>(size, 32);
    words_ = Storage::allocate(ctx.device(), static_cast<uint64_t>(words) * sizeof(uint32_t));
    auto* at = reinterpret_cast<uint32_t*>(words_->data());
    for (size_t i = 0; i < std::size(sizes); ++i) {
      *places[i] = at;
      at += round_up<int64_t>(sizes[i], 32);
    }
  }

  // All words even, and the times odd: so that no word has been written.
  void reset(Context& ctx) {
    faults_ = stream_of(ctx).faults();
    check(cudaMemsetAsync(words_->data(), 0, words_->bytes(), stream_of(ctx).use()), "decode_step");
    check(cudaMemsetAsync(params_.times, 1, 2 * sizeof(uint32_t), stream_of(ctx).use()), "decode_step");
  }

  Kernels kernels_;
  StepParams params_;
  std::shared_ptr<Storage> layers_, words_;
  uint64_t faults_ = 0;
};

std::shared_ptr<DecodeKernel> make_decode_kernel(Context& ctx, const DecodeModel& model, DType cache_type) {
  const CudaStream& stream = stream_of(ctx);
  if (model.layers.empty() || (model.head_dim != 64 && model.head_dim != 128) || !stream.can_run_together()) return nullptr;
  const DType type = type_of(model);
  const int blocks = stream.multiprocessors(), layers = static_cast<int>(model.layers.size());
  const DecodeLayer& layer = model.layers.front();
  StepParams params = {};
  params.products[kQkv] = shape_of(*layer.qkv, 0, false, blocks);
  params.products[kOutput] = shape_of(*layer.output, 3, false, blocks);
  params.products[kGateUp] = shape_of(*layer.gate_up, 4, true, blocks);
  params.products[kDown] = shape_of(*layer.down, 6, false, blocks);
  params.products[kHead] = shape_of(*model.head, 0, false, blocks);
  params.layer_count = layers;
  params.final_norm = model.final_norm;
  params.head = model.head->segments.front().storage->data();
  params.eps = model.eps;
  params.heads = model.heads;
  params.kv_heads = model.kv_heads;
  params.score_scale = kLog2E / std::sqrt(static_cast<float>(model.head_dim));
  params.chunks = ceil_div(model.heads / model.kv_heads, kGroupHeads);
  params.shares = std::min(kMostShares, blocks / (model.kv_heads * params.chunks));
  params.fault = stream.fault();
  if (!fits(params, type, blocks)) return nullptr;
  const Kernels kernels =
      cache_type == DType::kF16 ? kernels_for<__half>(type, model.head_dim, DecodeKernel::most_inputs(params), layers) : Kernels();
  if (!kernels.any || kernels.shared_bytes > stream.shared_bytes()) return nullptr;
  return std::make_shared<DecodeKernel>(ctx, model, params, kernels);
}

// As the kernel lays it out; of the shares of a long context as many as there can be.
uint64_t decode_kernel_bytes(const DecodeShape& shape) {
  const int64_t attended = shape.heads * shape.head_dim;
  const int64_t words = kCopies * (2 * shape.width + attended + shape.hidden) + attended + 2 * shape.kv_heads * shape.head_dim +
                        kMostShares * (attended + 2 * shape.heads);
  return static_cast<uint64_t>(words) * sizeof(uint32_t) + static_cast<uint64_t>(shape.layers) * sizeof(LayerWeights);
}

void recover(Context& ctx, DecodeKernel& kernel) { kernel.recover(ctx); }

void decode_step(Context& ctx, DecodeKernel& kernel, const DecodeStepArgs& args, const StepBatch& batch) { kernel.run(ctx, args, batch); }

}  // namespace wick::cuda
