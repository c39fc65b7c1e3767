// Weights larger than what is on its way to a device at a time arrive whole and in order.
#include <cstring>

#include "tests/ops/support.h"
#include "wick/kernels/block_format.h"
#include "wick/ops/embedding.h"
#include "wick/ops/linear.h"

namespace wick {
namespace {

using namespace test;  // NOLINT(google-build-using-namespace)

class PackOnDevice : public OnDevice {};
WICK_ON_EVERY_DEVICE(PackOnDevice);

// A row that says which it is, as `type` stores it.
std::vector<std::byte> stored_row(DType type, int64_t row, int64_t k) {
  std::vector<float> values(static_cast<size_t>(k));
  for (int64_t i = 0; i < k; ++i) values[static_cast<size_t>(i)] = static_cast<float>((row * 131 + i * 7) % 255 - 127);
  std::vector<std::byte> stored(dtype_bytes(type, static_cast<uint64_t>(k)));
  encode_blocks(type, values.data(), k, stored.data());
  return stored;
}

WeightSource numbered_rows(DType type, int64_t rows, int64_t k) {
  WeightSource source;
  source.type = type;
  source.rows = rows;
  source.k = k;
  source.read_rows = [=](int64_t row, std::span<std::byte> out) {
    while (!out.empty()) {
      const std::vector<std::byte> stored = stored_row(type, row++, k);
      std::memcpy(out.data(), stored.data(), stored.size());
      out = out.subspan(stored.size());
    }
  };
  return source;
}

TEST_P(PackOnDevice, LargeWeightsArriveWhole) {
  Context ctx(Device::parse(GetParam()), {.threads = 2});
  const int64_t bytes = int64_t{ctx.device().is_cpu() ? 4 : 70} << 20;  // more than all of a device's staging memory
  const struct {
    DType type;
    int64_t k;
    bool expand;
  } cases[] = {{DType::kBF16, 4096, false}, {DType::kBF16, 4090, false}, {DType::kQ8_0, 4096, false}, {DType::kBF16, 4096, true}};
  for (const auto& c : cases) {
    const int64_t rows = bytes / static_cast<int64_t>(dtype_bytes(c.type, static_cast<uint64_t>(c.k)));
    PackedWeight weight;
    ops::append_weight(ctx, numbered_rows(c.type, rows, c.k), c.expand, weight);
    EXPECT_EQ(weight.segments[0].storage->bytes(), ops::packed_bytes(ctx.device(), weight.segments[0].type, rows, c.k));
    std::vector<int32_t> ids;
    for (int64_t row = 0; row < rows; row += 97) ids.push_back(static_cast<int32_t>(row));
    ids.push_back(static_cast<int32_t>(rows - 1));
    const Tensor list = Tensor::from_memory(ids.data(), {static_cast<int64_t>(ids.size())}, DType::kI32);
    const Tensor got = ops::embedding(ctx, on(ctx, list), weight).to(Device::cpu());
    for (size_t i = 0; i < ids.size(); ++i) {
      std::vector<float> expected(static_cast<size_t>(c.k));
      decode_blocks(c.type, stored_row(c.type, ids[i], c.k).data(), c.k, expected.data());
      ASSERT_EQ(std::memcmp(got.data<float>() + static_cast<int64_t>(i) * c.k, expected.data(), expected.size() * sizeof(float)), 0)
          << dtype_name(c.type) << " " << c.k << " row " << ids[i];
    }
  }
}

TEST_P(PackOnDevice, AFailingReadIsThrownAndTheNextWeightIsWhole) {
  Context ctx(Device::parse(GetParam()), {.threads = 2});
  WeightSource source = numbered_rows(DType::kBF16, 4096, 4096);
  const auto read = source.read_rows;
  source.read_rows = [read](int64_t row, std::span<std::byte> out) {
    if (row > 3000) fail(ErrorCode::kIo, "gone");
    read(row, out);
  };
  PackedWeight weight;
  expect_error([&] { ops::append_weight(ctx, source, false, weight); }, "gone", ErrorCode::kIo);
  source.read_rows = read;
  ops::append_weight(ctx, source, false, weight);
  EXPECT_EQ(weight.rows, 4096);
}

}  // namespace
}  // namespace wick
