#include "wick/tensor/context.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <cstdlib>
#include <vector>

#include "wick/base/error.h"

namespace wick {
namespace {

// A backend that counts, and can be told to have nothing left.
int allocations = 0;
int live = 0;
bool exhausted = false;

void* counted_allocate(int, uint64_t bytes) {
  if (exhausted) return nullptr;
  ++allocations;
  ++live;
  return std::aligned_alloc(64, (bytes + 64) / 64 * 64);
}

void counted_release(int, void* data, uint64_t) {
  --live;
  std::free(data);
}

Device counted_device() {
  static const bool registered = [] {
    Device::register_backend({"counted", counted_allocate, counted_release, true});
    return true;
  }();
  (void)registered;
  return Device::parse("counted");
}

// Nested scopes whose scratch does not fit in the first block, nor in the second.
void step(Context& ctx) {
  const ScratchScope outer(ctx);
  ctx.scratch<char>(600 << 10);
  for (int layer = 0; layer < 3; ++layer) {
    const ScratchScope inner(ctx);
    ctx.scratch<float>(200 << 10);
    const ScratchScope innermost(ctx);
    ctx.scratch<double>(700 << 10);
    ctx.scratch<char>(1);
  }
}

TEST(Context, TheSecondStepAllocatesNothing) {
  {
    Context ctx(counted_device(), {.threads = 1});
    step(ctx);
    const int before = allocations;
    EXPECT_EQ(1, live) << "the blocks of the first step were joined";
    for (int i = 0; i < 3; ++i) step(ctx);
    EXPECT_EQ(before, allocations);
  }
  EXPECT_EQ(0, live);
}

TEST(Context, InnerScopesKeepTheBlocksOfTheFirstStep) {
  Context ctx(counted_device(), {.threads = 1});
  const ScratchScope outer(ctx);
  ctx.scratch<char>(1 << 20);
  int after_first = 0;
  for (int layer = 0; layer < 4; ++layer) {
    const ScratchScope inner(ctx);
    ctx.scratch<char>(3 << 20);
    if (layer == 0) after_first = allocations;
  }
  EXPECT_EQ(after_first, allocations);
}

TEST(Context, ScratchOfOneScopeDoesNotOverlap) {
  Context ctx(Device::cpu(), {.threads = 1});
  for (int round = 0; round < 3; ++round) {
    const ScratchScope scope(ctx);
    std::vector<std::span<uint32_t>> parts;
    for (uint32_t i = 0; i < 200; ++i) {
      parts.push_back(ctx.scratch<uint32_t>(i * 977 % 30011));
      for (uint32_t& value : parts.back()) value = i;
      EXPECT_EQ(0u, reinterpret_cast<uintptr_t>(parts.back().data()) % 64);
      const ScratchScope inner(ctx);
      for (uint32_t& value : ctx.scratch<uint32_t>(i * 7919 % 60013)) value = UINT32_MAX;
    }
    for (uint32_t i = 0; i < 200; ++i) {
      for (const uint32_t value : parts[i]) ASSERT_EQ(i, value);
    }
  }
}

TEST(Context, ScratchThatCannotBeIsAnError) {
  Context ctx(Device::cpu(), {.threads = 1});
  const ScratchScope scope(ctx);
  EXPECT_THROW(ctx.scratch<float>(-1), Error);
  EXPECT_THROW(ctx.scratch<float>(INT64_MAX), Error);
  for (const int64_t bytes : {INT64_MAX, INT64_MAX - 63, int64_t{1} << 60, int64_t{1} << 50}) {
    try {
      ctx.scratch<char>(bytes);
      ADD_FAILURE() << bytes;
    } catch (const Error& error) {
      EXPECT_EQ(ErrorCode::kOutOfMemory, error.code());
    }
  }
  std::span<char> some = ctx.scratch<char>(100);
  some[99] = 1;
  EXPECT_TRUE(ctx.scratch<char>(0).empty());
}

TEST(Context, RunningOutOfMemoryWhileBlocksAreJoinedIsNoFailure) {
  Context ctx(counted_device(), {.threads = 1});
  {
    const ScratchScope scope(ctx);
    ctx.scratch<char>(1 << 20);
    ctx.scratch<char>(1 << 20);
    exhausted = true;
    EXPECT_THROW(ctx.scratch<char>(64 << 20), Error);
  }
  exhausted = false;
  EXPECT_NO_THROW(step(ctx));
}

TEST(Context, OptionsAreHonoured) {
  Context ctx(Device::cpu(), {.threads = 3, .isa = Isa::kScalar});
  EXPECT_EQ(3, ctx.threads());
  EXPECT_EQ(3, ctx.pool().size());
  EXPECT_EQ(Isa::kScalar, ctx.isa());
  EXPECT_EQ(cpu_limits().threads(), Context().threads());
  const Context elsewhere(counted_device(), {.threads = 1});
  EXPECT_TRUE(elsewhere.device() == counted_device());
  for (const Isa isa : kIsas) {
    if (isa_available(isa)) continue;
    try {
      Context(Device::cpu(), {.isa = isa});
      ADD_FAILURE() << isa_name(isa);
    } catch (const Error& error) {
      EXPECT_EQ(ErrorCode::kUnsupported, error.code());
    }
  }
}

}  // namespace
}  // namespace wick
