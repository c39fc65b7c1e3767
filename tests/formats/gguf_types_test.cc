#include "wick/formats/gguf_types.h"

#include <gtest/gtest.h>

namespace wick {
namespace {

TEST(GgufTypes, AgreeWithTheTraitsOfTheirDtype) {
  for (uint32_t id = 0; id < 64; ++id) {
    const GgufType* type = find_gguf_type(id);
    if (type == nullptr) continue;
    EXPECT_EQ(type->id, id);
    if (!type->dtype) continue;
    EXPECT_EQ(type->block, static_cast<uint32_t>(traits(*type->dtype).block)) << type->name;
    EXPECT_EQ(type->bytes, static_cast<uint32_t>(traits(*type->dtype).bytes)) << type->name;
    EXPECT_EQ(find_gguf_type(*type->dtype), type) << type->name;
  }
}

TEST(GgufTypes, BitsPerWeight) {
  const auto bits = [](uint32_t id) { return 8.0 * find_gguf_type(id)->bytes / find_gguf_type(id)->block; };
  EXPECT_EQ(bits(3), 5.0);      // Q4_1
  EXPECT_EQ(bits(12), 4.5);     // Q4_K
  EXPECT_EQ(bits(14), 6.5625);  // Q6_K
  EXPECT_EQ(bits(23), 4.25);    // IQ4_XS
  EXPECT_EQ(bits(35), 2.0625);  // TQ2_0
  EXPECT_EQ(bits(39), 4.25);    // MXFP4
}

TEST(GgufTypes, UnknownNumbersAndTypes) {
  for (const uint32_t id : {4u, 5u, 31u, 77u, 0x80000000u, 0xffffffffu}) EXPECT_EQ(find_gguf_type(id), nullptr) << id;
  EXPECT_EQ(find_gguf_type(DType::kU8), nullptr);
}

}  // namespace
}  // namespace wick
