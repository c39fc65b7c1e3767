// One table over all ops: misuse is an Error(kInvalidArgument) that names the op and the argument, what was found and what was expected.
#include <gtest/gtest.h>

#include <functional>

#include "tests/ops/support.h"
#include "wick/wick.h"

namespace wick {
namespace {

using namespace test;  // NOLINT(google-build-using-namespace)

Tensor f32(const Shape& shape) { return Tensor::zeros(shape, DType::kF32); }
Tensor f16(const Shape& shape) { return Tensor::zeros(shape, DType::kF16); }

// A device that this build has no kernels for.
Device foreign() {
  static const bool registered = [] {
    static const DeviceBackend backend{"stub", [](int, uint64_t bytes) { return std::malloc(bytes); }, [](int, void* data, uint64_t) { std::free(data); }, true};
    Device::register_backend(backend);
    return true;
  }();
  return registered ? Device::parse("stub") : Device::cpu();
}

TEST(Misuse, EveryOpNamesWhatIsWrong) {
  Context ctx;
  const Tensor x4 = f32({2, 3, 5, 16}), cos = f32({5, 8}), x = f32({3, 20}), w = f32({20}), q = f32({1, 4, 3, 16}), kv = f32({1, 2, 7, 16});
  const Tensor stub = Tensor::empty({3, 20}, DType::kF32, foreign());
  std::vector<int32_t> list = {1, 2};
  const Tensor ids = Tensor::from_memory(list.data(), {2}, DType::kI32);
  const struct {
    const char* what;
    std::function<void()> call;
    std::vector<std::string> texts;
  } cases[] = {
      // rank
      {"rope rank", [&] { ops::rope(ctx, f32({3, 5, 16}), cos, cos); }, {"rope: ", "x has rank 3", "expected 4"}},
      {"rope table rank", [&] { ops::rope(ctx, x4, f32({1, 1, 5, 8}), f32({1, 1, 5, 8})); }, {"rope: ", "cos", "rank 4"}},
      {"rope_i rank 3 and 2", [&] { ops::rope_i(ctx, x4, f32({2, 5, 8}), cos); }, {"rope_i: ", "sin", "[5, 8]", "[2, 5, 8]"}},
      {"softmax rank", [&] { ops::softmax(ctx, f32({}), 0); }, {"softmax: ", "x has rank 0"}},
      {"rms_norm rank", [&] { ops::rms_norm(ctx, f32({}), w, 0); }, {"rms_norm: ", "x has rank 0"}},
      {"layer_norm rank", [&] { ops::layer_norm(ctx, f32({}), w, 0); }, {"layer_norm: ", "x has rank 0"}},
      {"swiglu rank", [&] { ops::swiglu(ctx, f32({})); }, {"swiglu: ", "x has rank 0"}},
      {"linear rank", [&] { ops::linear(ctx, f32({}), x); }, {"linear: ", "x has rank 0"}},
      {"linear weight rank", [&] { ops::linear(ctx, x, w); }, {"linear: ", "weight has rank 1", "expected 2"}},
      {"matmul rank", [&] { ops::matmul(ctx, x, w); }, {"matmul: ", "b 1", "at least 2"}},
      {"embedding rank", [&] { ops::embedding(ctx, ids, w); }, {"embedding: ", "table has rank 1", "expected 2"}},
      {"attention rank", [&] { ops::attention(ctx, x, kv, kv); }, {"attention: ", "ranks 2", "expected 4"}},
      {"argmax rank", [&] { ops::argmax(ctx, f32({})); }, {"argmax: ", "x has rank 0"}},
      // shape
      {"rope table width", [&] { ops::rope(ctx, x4, f32({5, 9}), f32({5, 9})); }, {"rope: ", "cos", "9"}},
      {"rope table batch", [&] { ops::rope(ctx, x4, f32({3, 5, 8}), f32({3, 5, 8})); }, {"rope: ", "cos", "3"}},
      {"rope table too short", [&] { ops::rope_thd(ctx, x4, f32({2, 8}), f32({2, 8})); }, {"rope_thd: ", "cos", "2", "3"}},
      {"rms_norm weight", [&] { ops::rms_norm(ctx, x, f32({19}), 0); }, {"rms_norm: ", "w is [19]", "expected [20]"}},
      {"layer_norm bias", [&] { ops::layer_norm(ctx, x, w, f32({21}), 0); }, {"layer_norm: ", "b is [21]", "expected [20]"}},
      {"add_rms_norm residual", [&] { ops::add_rms_norm(ctx, x, f32({2, 20}), w, 0); }, {"add_rms_norm: ", "r is [2, 20]", "expected [3, 20]"}},
      {"silu output", [&] { ops::silu(ctx, x, f32({3, 21})); }, {"silu: ", "y is [3, 21]", "expected [3, 20]"}},
      {"swiglu odd", [&] { ops::swiglu(ctx, f32({3, 21})); }, {"swiglu: ", "21", "even"}},
      {"geglu odd", [&] { ops::geglu(ctx, f32({3, 21})); }, {"geglu: ", "21", "even"}},
      {"linear inputs", [&] { ops::linear(ctx, x, f32({6, 19})); }, {"linear: ", "x has 20", "expects 19"}},
      {"matmul inner", [&] { ops::matmul(ctx, x, x); }, {"matmul: ", "[3, 20]"}},
      {"attention kv heads", [&] { ops::attention(ctx, q, f32({1, 3, 7, 16}), f32({1, 3, 7, 16})); }, {"attention: ", "4 query heads", "3 kv heads"}},
      {"attention k and v", [&] { ops::attention(ctx, q, kv, f32({1, 2, 6, 16})); }, {"attention: ", "v is [1, 2, 6, 16]"}},
      {"copy shape", [&] { ops::copy(ctx, x, f32({20, 3})); }, {"copy: ", "y is [20, 3]", "expected [3, 20]"}},
      // dim
      {"softmax dim", [&] { ops::softmax(ctx, x, 2); }, {"softmax: ", "dim is 2", "-2 to 1"}},
      {"log_softmax dim", [&] { ops::log_softmax(ctx, x, -3); }, {"log_softmax: ", "dim is -3", "-2 to 1"}},
      // dtype
      {"rope table dtype", [&] { ops::rope(ctx, x4, f16({5, 8}), f16({5, 8})); }, {"rope: ", "cos is f16", "f32"}},
      {"rms_norm dtype", [&] { ops::rms_norm(ctx, x, f16({20}), 0); }, {"rms_norm: ", "w is f16", "expected f32"}},
      {"gelu dtype", [&] { ops::gelu(ctx, x, f16({3, 20})); }, {"gelu: ", "y is f16", "expected f32"}},
      {"geglu dtype", [&] { ops::geglu(ctx, x, f16({3, 20}), x); }, {"geglu: ", "up is f16", "expected f32"}},
      {"softmax integer", [&] { ops::softmax(ctx, Tensor::zeros({3}, DType::kI32), 0); }, {"softmax: ", "x is i32"}},
      {"matmul dtype", [&] { ops::matmul(ctx, x, f16({20, 2})); }, {"matmul: ", "b is f16", "expected f32"}},
      {"linear f64", [&] { ops::linear(ctx, x.to(DType::kF64), x); }, {"linear: ", "x is f64"}},
      {"attention dtype", [&] { ops::attention(ctx, q, f16({1, 2, 7, 16}), kv); }, {"attention: ", "k is f16", "expected f32"}},
      {"embedding ids dtype", [&] { ops::embedding(ctx, w, x); }, {"embedding: ", "ids is f32", "i32 or i64"}},
      // device
      {"silu device", [&] { ops::silu(ctx, stub, x); }, {"silu: ", "x is on device stub", "expected cpu"}},
      {"rms_norm device", [&] { ops::rms_norm(ctx, stub, w, 0); }, {"rms_norm: ", "x is on device stub"}},
      {"softmax device", [&] { ops::softmax(ctx, stub, 1); }, {"softmax: ", "x is on device stub"}},
      {"linear device", [&] { ops::linear(ctx, stub, x); }, {"linear: ", "x is on device stub"}},
      {"matmul device", [&] { ops::matmul(ctx, stub, x); }, {"matmul: ", "a is on device stub"}},
      // values and aliasing
      {"rms_norm eps", [&] { ops::rms_norm(ctx, x, w, -1); }, {"rms_norm: ", "eps is -1"}},
      {"add_rms_norm alias", [&] { ops::add_rms_norm(ctx, x, x, w, 0, f32({3, 20})); }, {"add_rms_norm: ", "r overlaps x"}},
      {"embedding id", [&] { ops::embedding(ctx, ids, f32({2, 4})); }, {"embedding: ", "id 2 at position 1", "2 rows"}},
      {"attention window", [&] { ops::attention(ctx, q, kv, kv, {.causal = true, .window = -1}); }, {"attention: ", "window -1"}},
      {"silu partial overlap", [&] { ops::silu(ctx, f32({8}).slice(0, 0, 4), Tensor()); }, {"silu: ", "y is an empty handle"}},
      {"empty handle", [&] { ops::argmax(ctx, Tensor()); }, {"argmax: ", "x is an empty handle"}},
  };
  for (const auto& c : cases) {
    SCOPED_TRACE(c.what);
    try {
      c.call();
      ADD_FAILURE() << "no error";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument) << error.what();
      for (const std::string& text : c.texts) EXPECT_THAT(error.what(), testing::HasSubstr(text));
    }
  }
}

// Outputs that overlap an input in part would read what they have written.
TEST(Misuse, PartialOverlapIsRefused) {
  Context ctx;
  const Tensor buffer = f32({400});
  const Tensor a = buffer.slice(0, 0, 60).reshape({3, 20}), shifted = buffer.slice(0, 7, 67).reshape({3, 20}), w = buffer.slice(0, 200, 220);
  const std::pair<const char*, std::function<void()>> calls[] = {
      {"silu", [&] { ops::silu(ctx, a, shifted); }},
      {"gelu", [&] { ops::gelu(ctx, a, shifted); }},
      {"swiglu", [&] { ops::swiglu(ctx, a, shifted, shifted); }},
      {"rms_norm", [&] { ops::rms_norm(ctx, a, w, 0, shifted); }},
      {"layer_norm", [&] { ops::layer_norm(ctx, a, w, w, 0, shifted); }},
      {"softmax", [&] { ops::softmax(ctx, a, 1, shifted); }},
      {"log_softmax", [&] { ops::log_softmax(ctx, a, 1, shifted); }},
      {"linear", [&] { ops::linear(ctx, a, f32({20, 20}), a); }},
      {"matmul", [&] { ops::matmul(ctx, a, f32({20, 20}), a); }},
      {"copy", [&] { ops::copy(ctx, a, shifted); }},
      {"rope", [&] { ops::rope(ctx, buffer.slice(0, 0, 64).reshape({1, 1, 4, 16}), f32({4, 8}), f32({4, 8}), buffer.slice(0, 8, 72).reshape({1, 1, 4, 16})); }},
  };
  for (const auto& [op, call] : calls) expect_error(call, std::string(op) + ": ");
}

}  // namespace
}  // namespace wick
