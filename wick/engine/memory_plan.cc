#include "wick/engine/memory_plan.h"

#include <algorithm>
#include <limits>

#include "wick/base/checked.h"
#include "wick/kernels/linear.h"
#include "wick/models/registry.h"
#include "wick/ops/device.h"

namespace wick {
namespace {

constexpr int64_t kLogitRows = 64;

uint64_t staging_bytes(const Device& device) {
  if constexpr (ops::kHasCuda) {
    if (ops::is_cuda(device)) return cuda::kStagingBytes;
  }
  return 0;
}

uint64_t available_before(const ModelOptions& model) {
  const uint64_t available = model.device.memory().available;
  return model.memory ? std::min(model.memory, available) : available;
}

// What is left of it once the weights are there.
uint64_t available_beside(const NetworkOutline& network, const ModelOptions& model) {
  const uint64_t available = model.device.memory().available;
  if (model.memory == 0) return available;
  return std::min(available, model.memory - std::min(model.memory, network.weight_bytes));
}

void check(const EngineOptions& options) {
  require(options.max_sequences >= 1 && options.max_sequences <= 4096, "max_sequences is ", options.max_sequences, ", expected 1 to 4096");
  require(options.prefill_chunk >= 0 && options.prefill_chunk <= 65536, "prefill_chunk is ", options.prefill_chunk,
          ", expected 0 (automatic) to 65536");
  require(options.context >= 0, "context is ", options.context, ", expected a positive number of positions");
}

// Positions per sequence in a cache of so many bytes.
int64_t context_in(uint64_t bytes, uint64_t page_bytes, const EngineOptions& options, int64_t trained) {
  const int64_t pages = static_cast<int64_t>(std::min<uint64_t>(bytes / page_bytes, 1u << 30));
  return std::min(trained, pages / options.max_sequences * kPagePositions);
}

uint64_t minus(uint64_t a, uint64_t b) { return a - std::min(a, b); }

// Fills all but the weights' part of a plan, with `available` for the rest.
void plan_rest(const NetworkOutline& network, const ModelOptions& model, const EngineOptions& engine, uint64_t available, MemoryPlan& plan) {
  check(engine);
  const int64_t trained = network.dims.context;
  if (engine.context > trained) {
    fail(ErrorCode::kLimitExceeded, "context of ", engine.context, " positions is longer than the model's ", trained);
  }
  const uint64_t page_bytes = kv_pool_config(network.dims, model, engine).page_bytes();
  const int64_t longest = engine.context ? engine.context : trained;
  const StepMemory step = step_memory(network, model.device, step_limits(engine, model.device), longest);
  const int64_t tables = 2 * engine.max_sequences * ceil_div(longest, kPagePositions);  // of a step and the one after it
  plan.sequences = engine.max_sequences;
  plan.workspace = step.workspace + static_cast<uint64_t>(tables) * sizeof(int32_t);
  plan.scratch = step.scratch;
  const uint64_t for_cache = minus(available, plan.workspace + plan.scratch);
  const uint64_t least_context = static_cast<uint64_t>(std::min<int64_t>(trained, kPagePositions));
  plan.largest_context = context_in(engine.kv_memory ? std::min(engine.kv_memory, for_cache) : for_cache, page_bytes, engine, trained);
  plan.context = engine.context;
  if (plan.context == 0) {
    // The rest of the machine wants some of the CPU's memory, and every device a little.
    const uint64_t share = engine.kv_memory ? engine.kv_memory : counts_memory(model) ? for_cache - for_cache / 16 : available / 2;
    plan.context = std::max(static_cast<int64_t>(least_context), context_in(share, page_bytes, engine, trained));
  }
  const int64_t per_sequence = ceil_div(plan.context, kPagePositions);
  int64_t pages = std::min<int64_t>(per_sequence * engine.max_sequences, std::numeric_limits<int32_t>::max());
  if (engine.kv_memory) pages = std::min<int64_t>(pages, static_cast<int64_t>(engine.kv_memory / page_bytes));
  plan.pages = static_cast<int32_t>(pages);
  plan.cache = mul_or_fail(static_cast<uint64_t>(pages), page_bytes, "cache", ErrorCode::kOutOfMemory);
  if (pages < per_sequence) {
    fail(ErrorCode::kOutOfMemory, "a context of ", plan.context, " positions needs ", static_cast<uint64_t>(per_sequence) * page_bytes, " bytes of cache, ",
         engine.kv_memory, " are allowed; ", pages * kPagePositions, " positions would fit");
  }
}

}  // namespace

bool counts_memory(const ModelOptions& model) { return model.memory > 0 || !model.device.backend().host_accessible; }

uint64_t MemoryPlan::peak() const { return weights + std::max(staging, cache + workspace + scratch); }

LoadOptions load_options(const ModelOptions& model) {
  LoadOptions options;
  options.exact = model.exact;
  options.recipe = model.weight_type.empty() ? nullptr : &find_recipe(model.weight_type);
  return options;
}

ActivationLimits step_limits(const EngineOptions& options, const Device& device) {
  constexpr int64_t kChunkOfCpu = 512, kChunk = 2048;
  const int64_t chunk = options.prefill_chunk ? options.prefill_chunk : device.is_cpu() ? kChunkOfCpu : kChunk;
  return {std::max<int64_t>(chunk, options.max_sequences), std::max<int64_t>(kLogitRows, options.max_sequences)};
}

nn::KvPoolConfig kv_pool_config(const ModelDims& dims, const ModelOptions& model, const EngineOptions& engine) {
  nn::KvPoolConfig config;
  config.layers = static_cast<int32_t>(dims.layers);
  config.kv_heads = static_cast<int32_t>(dims.kv_heads);
  config.head_dim = static_cast<int32_t>(dims.head_dim);
  config.type = model.exact ? DType::kF32 : engine.kv_type;
  return config;
}

MemoryPlan plan_memory(const ModelFile& file, const ModelOptions& model, const EngineOptions& engine) {
  const NetworkOutline network = outline_network(file, model.device, load_options(model));
  MemoryPlan plan;
  plan.weights = network.weight_bytes;
  plan.staging = staging_bytes(model.device);
  plan.available = available_before(model);
  plan_rest(network, model, engine, minus(plan.available, plan.weights), plan);
  return plan;
}

MemoryPlan plan_engine(const NetworkOutline& network, const ModelOptions& model, const EngineOptions& engine) {
  MemoryPlan plan;
  plan.available = available_beside(network, model);
  plan_rest(network, model, engine, plan.available, plan);
  return plan;
}

void require_fit(const MemoryPlan& plan, const Device& device) {
  if (plan.fits()) return;
  const std::string hint = plan.largest_context > 0 ? concat("a context of ", plan.largest_context, " positions would fit") : "no context would fit";
  fail(ErrorCode::kOutOfMemory, plan.weights ? concat("weights of ", plan.weights, " bytes, ") : "", "the cache of ", plan.sequences, " sequences of ",
       plan.context, " positions, ", plan.cache, " bytes, and working memory need ", plan.peak(), " bytes of device ", device.name(), ", ", plan.available,
       " are available: ", plan.peak() - plan.available, " too few; ", hint);
}

void require_weights_fit(const NetworkOutline& network, const ModelOptions& model) {
  if (!counts_memory(model)) return;
  const uint64_t needed = network.weight_bytes + staging_bytes(model.device), available = available_before(model);
  if (needed <= available) return;
  fail(ErrorCode::kOutOfMemory, "the model's weights need ", needed, " bytes of device ", model.device.name(), ", ", available, " are available: ",
       needed - available, " too few");
}

}  // namespace wick
