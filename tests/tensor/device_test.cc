#include "wick/tensor/device.h"

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <thread>
#include <vector>

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
  EXPECT_THROW(Device::register_backend({"", far_allocate, far_release, false}), Error);
  EXPECT_THROW(Device::register_backend({"a:b", far_allocate, far_release, false}), Error);
  EXPECT_THROW(Device::register_backend({"nothing", nullptr, far_release, false}), Error);
  try {
    Device::parse("nowhere");
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(ErrorCode::kUnsupported, error.code());
    EXPECT_NE(nullptr, std::strstr(error.what(), "'nowhere'"));
    EXPECT_NE(nullptr, std::strstr(error.what(), "faraway")) << "the devices there are";
  }
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
  for (const char* name : {"cuda:100000", "", "cpu:1", "cpu:", "cpu:x", "cpu:-1", "cpu:99999999999"}) EXPECT_THROW(Device::parse(name), Error) << name;
}

TEST(Device, LargeBlocksBeginOnAHugePageAndAreCommittedWhenTouched) {
  constexpr uint64_t kBytes = (uint64_t{64} << 20) + 12345;
  const uint64_t before = peak_rss_bytes();
  const auto storage = Storage::allocate(Device::cpu(), kBytes);
  EXPECT_EQ(0u, reinterpret_cast<uintptr_t>(storage->data()) % (2 << 20));
  EXPECT_LT(peak_rss_bytes() - before, kBytes / 2);
  storage->data()[0] = std::byte{1};
  storage->data()[kBytes - 1] = std::byte{1};
  for (const uint64_t bytes : {uint64_t{0}, uint64_t{1}, (uint64_t{2} << 20) - 1, uint64_t{2} << 20, (uint64_t{2} << 20) + 1}) {
    const auto small = Storage::allocate(Device::cpu(), bytes);
    ASSERT_NE(nullptr, small->data());
    EXPECT_EQ(0u, reinterpret_cast<uintptr_t>(small->data()) % 64);
    if (bytes > 0) small->data()[bytes - 1] = std::byte{1};
  }
}

TEST(Device, LargeBlocksGivenBackAreHandedOutAgain) {
  constexpr uint64_t kPage = uint64_t{2} << 20;
  const std::byte* first = nullptr;
  {
    const auto storage = Storage::allocate(Device::cpu(), 3 * kPage);
    first = storage->data();
  }
  const auto other = Storage::allocate(Device::cpu(), 3 * kPage + 1);  // a page more
  EXPECT_NE(first, other->data());
  const auto again = Storage::allocate(Device::cpu(), 2 * kPage + 1);  // as many pages
  EXPECT_EQ(first, again->data());
  EXPECT_NE(first, Storage::allocate(Device::cpu(), 3 * kPage)->data()) << "in use";
  const Tensor zeros = Tensor::zeros({static_cast<int64_t>(kPage)}, DType::kU8);
  for (int round = 0; round < 2; ++round) {
    const Tensor tensor = Tensor::zeros({static_cast<int64_t>(kPage)}, DType::kU8);
    EXPECT_EQ(0, std::memcmp(zeros.raw(), tensor.raw(), kPage));
    std::memset(tensor.raw(), 1, kPage);
  }
}

// What is kept has a bound: blocks beyond it go back to the system.
TEST(Device, FewLargeBlocksAreKept) {
  constexpr uint64_t kBytes = uint64_t{8} << 20;
  std::vector<std::byte*> given_back;
  {
    std::vector<std::shared_ptr<Storage>> blocks;
    for (int i = 0; i < 16; ++i) blocks.push_back(Storage::allocate(Device::cpu(), kBytes));
    blocks.push_back(Storage::allocate(Device::cpu(), 5 * kBytes));
    for (const auto& block : blocks) given_back.push_back(block->data());
  }
  const auto mapped = [](std::byte* data) {
    unsigned char in_memory = 0;
    return mincore(data, 1, &in_memory) == 0;
  };
  EXPECT_LE(std::count_if(given_back.begin(), given_back.end(), mapped), 4);
  EXPECT_FALSE(mapped(given_back.back())) << "larger than all that is kept";
}

TEST(Device, BlocksAreNotHandedOutTwice) {
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([t] {
      for (int round = 0; round < 200; ++round) {
        const uint64_t bytes = (static_cast<uint64_t>(round % 3) + 1) * (uint64_t{2} << 20);
        const auto storage = Storage::allocate(Device::cpu(), bytes);
        storage->data()[0] = storage->data()[bytes - 1] = std::byte(t);
        std::this_thread::yield();
        ASSERT_TRUE(storage->data()[0] == std::byte(t) && storage->data()[bytes - 1] == std::byte(t));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST(Device, MoreThanTheMachineHasIsRefused) {
  for (const uint64_t bytes : {UINT64_MAX, UINT64_MAX - 63, uint64_t{1} << 63, uint64_t{1} << 56, 4 * memory_limit_bytes()}) {
    try {
      Storage::allocate(Device::cpu(), bytes);
      ADD_FAILURE() << bytes;
    } catch (const Error& error) {
      EXPECT_EQ(ErrorCode::kOutOfMemory, error.code()) << bytes;
    }
  }
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
