// A fault that the driver does not recover from: every later request is told, nothing hangs, everything can be destroyed. In processes of
// their own, which it spoils.
#include <gtest/gtest.h>

#include "tests/support/on_device.h"
#include "tests/support/tiny_model.h"
#include "wick/engine/engine.h"
#include "wick/ops/activation.h"

namespace wick {
namespace {

class FaultOnDevice : public test::OnDevice {
 protected:
  void SetUp() override {
    GTEST_FLAG_SET(death_test_style, "threadsafe");
    OnDevice::SetUp();
  }
};
WICK_ON_DEVICES(FaultOnDevice, "cuda");

// A kernel reads where there is nothing.
void spoil(const Device& device) {
  Context ctx(device, {.threads = 1});
  const Tensor nowhere = Tensor::from_memory(reinterpret_cast<void*>(uint64_t{1} << 46), {1 << 16}, DType::kF32, device);
  try {
    ops::silu(ctx, nowhere, nowhere);
    ctx.synchronize();
  } catch (const Error&) {
    return;
  }
  std::_Exit(2);
}

bool answers(Engine& engine) {
  Request request;
  request.prompt_ids = {1, 2, 3};
  request.max_tokens = 3;
  Stream stream = engine.submit(std::move(request));
  try {
    while (stream.next()) {}
    return true;
  } catch (const Error& error) {
    return std::string(error.what()).find("start it anew") == std::string::npos;
  }
}

[[noreturn]] void run(const char* device_name) {
  const test::TinyModelFile file;
  ModelOptions options;
  options.device = Device::parse(device_name);
  {
    const auto model = Model::load(file.path(), options);
    Engine engine(model, {.max_sequences = 2});
    if (!answers(engine)) std::_Exit(3);
    spoil(options.device);
    for (int i = 0; i < 3; ++i) {
      if (answers(engine)) std::_Exit(4);
    }
  }
  try {
    Model::load(file.path(), options);
    std::_Exit(5);
  } catch (const Error&) {
    std::_Exit(0);
  }
}

TEST_P(FaultOnDevice, EndsRequestsWithErrorsAndNothingElse) { EXPECT_EXIT(run(GetParam()), testing::ExitedWithCode(0), ""); }

}  // namespace
}  // namespace wick
