// Memory is counted before it is taken. The limit is one of the user's, or a device's that has little.
#include "wick/engine/memory_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>

#include "tests/support/on_device.h"
#include "tests/support/tiny_model.h"

namespace wick {
namespace {

using test::TinyModel;
using test::TinyModelFile;

int allocations = 0;
void* allocate(int, uint64_t bytes) {
  ++allocations;
  return std::aligned_alloc(64, (bytes + 64) / 64 * 64);
}
void release(int, void* data, uint64_t) { std::free(data); }
DeviceMemory memory(int) { return {100'000, 200'000, 0}; }

Device small_device() {
  static const bool registered = [] {
    DeviceBackend backend = {"small", allocate, release, false};
    backend.memory = memory;
    Device::register_backend(backend);
    return true;
  }();
  (void)registered;
  return Device::parse("small");
}

template <class Call>
std::string message_of(const Call& call) {
  try {
    call();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kOutOfMemory) << error.what();
    return error.what();
  }
  return "no error";
}

TEST(MemoryPlan, AModelThatDoesNotFitIsRefusedBeforeAnythingIsAllocated) {
  const TinyModelFile file;
  const Device device = small_device();
  EXPECT_THAT(message_of([&] { Model::load(file.path(), {.device = device}); }),
              testing::AllOf(testing::HasSubstr("weights need "), testing::HasSubstr("100000 are available"), testing::HasSubstr(" too few")));
  EXPECT_EQ(allocations, 0);
}

TEST(MemoryPlan, NamesTheShortfallAndTheContextThatWouldFit) {
  const TinyModelFile file;
  const auto model = open_model_file(file.path());
  EngineOptions engine = {.max_sequences = 2, .context = 512, .prefill_chunk = 8};
  ModelOptions options;
  const MemoryPlan whole = plan_memory(*model, options, engine);
  EXPECT_EQ(whole.cache, 2u * 8 * 2 * (2 * 2 * 16 * 64 * 2)) << "sequences, pages, layers; keys and values of two heads of 16 in f16";
  options.memory = whole.peak();
  EXPECT_TRUE(plan_memory(*model, options, engine).fits());
  options.memory = whole.peak() - whole.cache / 4;
  const MemoryPlan plan = plan_memory(*model, options, engine);
  EXPECT_FALSE(plan.fits());
  EXPECT_EQ(plan.largest_context, 384);
  const std::string message = message_of([&] { require_fit(plan, options.device); });
  EXPECT_THAT(message, testing::HasSubstr(concat(whole.cache / 4, " too few")));
  EXPECT_THAT(message, testing::HasSubstr("a context of 384 positions would fit"));
  engine.context = plan.largest_context;
  EXPECT_TRUE(plan_memory(*model, options, engine).fits());
  engine.context = 0;
  const MemoryPlan chosen = plan_memory(*model, options, engine);
  EXPECT_TRUE(chosen.fits());
  EXPECT_GT(chosen.context, 0);
  options.memory = 1000;
  engine.context = 512;
  EXPECT_THAT(message_of([&] { require_fit(plan_memory(*model, options, engine), options.device); }), testing::HasSubstr("no context would fit"));
}

TEST(MemoryPlan, AnEngineKeepsToTheLimit) {
  const TinyModelFile file;
  EngineOptions engine = {.max_sequences = 2, .context = 512, .prefill_chunk = 8};
  ModelOptions options;
  options.memory = plan_memory(*open_model_file(file.path()), options, engine).peak();
  const auto model = Model::load(file.path(), options);
  EXPECT_EQ(Engine(model, engine).context(), 512);
  engine.max_sequences = 3;
  EXPECT_THAT(message_of([&] { Engine(model, engine); }), testing::HasSubstr("positions would fit"));
}

class MemoryOnDevice : public test::OnDevice {};
WICK_ON_DEVICES(MemoryOnDevice, "cuda");

// The prediction holds for a model large enough for the driver's own granules not to count.
TEST_P(MemoryOnDevice, PeakIsAsPredicted) {
  for (const DType type : {DType::kBF16, DType::kQ8_0, DType::kQ4_K}) {
    TinyModel tiny;
    tiny.layers = 8;
    tiny.d_model = 1024;
    tiny.heads = 16;
    tiny.kv_heads = 4;
    tiny.d_ff = 4096;
    tiny.context = 8192;
    tiny.type = type;
    const TinyModelFile file(tiny);
    ModelOptions options;
    options.device = Device::parse(GetParam());
    const EngineOptions engine = {.max_sequences = 4, .context = 8192};
    const uint64_t before = options.device.memory().peak;  // of other tests
    const MemoryPlan plan = plan_memory(*open_model_file(file.path()), options, engine);
    const auto model = Model::load(file.path(), options);
    Engine running(model, engine);
    Request request;
    request.prompt_ids.assign(2000, 7);
    request.max_tokens = 20;
    request.ignore_eos = true;
    Stream stream = running.submit(std::move(request));
    while (stream.next()) {}
    const double peak = static_cast<double>(options.device.memory().peak);
    if (plan.peak() > before) {
      EXPECT_NEAR(peak, static_cast<double>(plan.peak()), 0.05 * peak) << dtype_name(type);
    }
  }
}

}  // namespace
}  // namespace wick
