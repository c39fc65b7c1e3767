#include "wick/tensor/device.h"

#include <gtest/gtest.h>

#include <cstdlib>

#include "wick/base/error.h"
#include "wick/tensor/context.h"
#include "wick/tensor/tensor.h"

namespace wick {
namespace {

void* far_allocate(int, uint64_t bytes) { return bytes > 1 << 20 ? nullptr : std::malloc(bytes + 1); }
void far_release(int, void* data, uint64_t) { std::free(data); }

// A third backend is one registration; what it cannot do is an Error.
TEST(Device, ABackendCanBeAdded) {
  EXPECT_THROW(Device::parse("faraway"), Error);
  Device::register_backend({"faraway", far_allocate, far_release, false});
  EXPECT_THROW(Device::register_backend({"faraway", far_allocate, far_release, false}), Error);
  EXPECT_THROW(Device::register_backend({"cpu", far_allocate, far_release, false}), Error);
  const Device device = Device::parse("faraway:3");
  EXPECT_EQ("faraway:3", device.name());
  EXPECT_EQ(3, device.index());
  EXPECT_FALSE(device.is_cpu());
  EXPECT_FALSE(device == Device::parse("faraway"));
  const Tensor tensor = Tensor::empty({4}, DType::kF32, device);
  EXPECT_TRUE(tensor.device() == device);
  EXPECT_THROW(Tensor::zeros({4}, DType::kF32, device), Error);
  EXPECT_THROW(tensor.to(DType::kF16), Error);
  EXPECT_EQ("f32 [4]", tensor.to_string());
  try {
    Tensor::empty({1 << 20}, DType::kF32, device);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(ErrorCode::kOutOfMemory, error.code());
  }
}

TEST(Device, Names) {
  EXPECT_TRUE(Device::parse("cpu") == Device::cpu());
  for (const char* name : {"cuda", "", "cpu:1", "cpu:", "cpu:x", "cpu:-1", "cpu:99999999999"}) EXPECT_THROW(Device::parse(name), Error) << name;
}

TEST(Context, ScratchIsAlignedNestedAndKept) {
  Context ctx(Device::cpu(), {.threads = 1});
  float* first = nullptr;
  for (int round = 0; round < 3; ++round) {
    const ScratchScope outer(ctx);
    float* a = ctx.scratch<float>(1000).data();
    EXPECT_EQ(0u, reinterpret_cast<uintptr_t>(a) % 64);
    a[999] = 1;
    {
      const ScratchScope inner(ctx);
      char* b = ctx.scratch<char>(3 << 20).data();  // more than the first block holds
      b[(3 << 20) - 1] = 1;
      char* c = ctx.scratch<char>(1).data();
      EXPECT_EQ(0u, reinterpret_cast<uintptr_t>(c) % 64);
      EXPECT_TRUE(c < b || c >= b + (3 << 20));
    }
    EXPECT_EQ(1, a[999]);
    if (round == 1) first = a;
    if (round == 2) {
      EXPECT_EQ(first, a) << "the second round and the third use the same memory";
    }
  }
}

TEST(Context, RefusesWhatThisMachineCannotRun) {
  EXPECT_THROW(Context(Device::cpu(), {.threads = -1}), Error);
#if defined(__x86_64__)
  EXPECT_THROW(Context(Device::cpu(), {.isa = Isa::kNeon}), Error);
#endif
}

}  // namespace
}  // namespace wick
