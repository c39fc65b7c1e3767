// A third backend, with memory but without kernels: every op refuses it by name.
#include "wick/ops/device.h"

#include <cstdlib>
#include <functional>

#include "tests/ops/support.h"
#include "wick/ops/activation.h"
#include "wick/ops/argmax.h"
#include "wick/ops/norm.h"
#include "wick/ops/rope.h"
#include "wick/ops/softmax.h"

namespace wick {
namespace {

void* allocate(int, uint64_t bytes) { return std::aligned_alloc(64, (bytes + 64) / 64 * 64); }
void release(int, void* data, uint64_t) { std::free(data); }

Device third_device() {
  static const bool registered = [] {
    Device::register_backend({"third", allocate, release, false});
    return true;
  }();
  (void)registered;
  return Device::parse("third");
}

TEST(Device, OpsRefuseADeviceWithoutKernels) {
  const Device third = third_device();
  Context ctx(third);
  const Tensor x = Tensor::empty({1, 1, 2, 4}, DType::kF32, third);
  const Tensor w = Tensor::empty({4}, DType::kF32, third);
  const Tensor table = Tensor::empty({2, 2}, DType::kF32, third);
  const struct {
    const char* op;
    std::function<void()> run;
  } cases[] = {
      {"rms_norm", [&] { ops::rms_norm(ctx, x, w, 0); }},
      {"add_rms_norm", [&] { ops::add_rms_norm(ctx, x, x, w, 0); }},
      {"silu", [&] { ops::silu(ctx, x); }},
      {"swiglu", [&] { ops::swiglu(ctx, x); }},
      {"swiglu", [&] { ops::swiglu(ctx, x, x, x); }},
      {"softmax", [&] { ops::softmax_last_dim(ctx, x); }},
      {"argmax", [&] { ops::argmax(ctx, x); }},
      {"rope", [&] { ops::rope(ctx, x, table, table); }},
      {"rope_i_thd", [&] { ops::rope_i_thd(ctx, x, table, table); }},
  };
  for (const auto& c : cases)
    test::expect_error(c.run, std::string(c.op) + ": there is no kernel for device " + third.name(), ErrorCode::kUnsupported);
}

TEST(Device, TensorsOfAnotherDeviceAreRefused) {
  Context ctx;
  const Tensor there = Tensor::empty({2, 4}, DType::kF32, third_device());
  const Tensor here = Tensor::zeros({2, 4}, DType::kF32);
  test::expect_error([&] { ops::silu(ctx, there, here); }, "silu: x is on device " + third_device().name() + ", expected cpu");
  test::expect_error([&] { ops::softmax_last_dim(ctx, here, there); }, "softmax: y is on device");
  test::expect_error([&] { ops::argmax(ctx, here, there); }, "argmax: y is not a tensor on device cpu");
}

}  // namespace
}  // namespace wick
