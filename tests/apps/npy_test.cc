#include "wick/apps/npy.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cstring>

namespace wick::apps {
namespace {

using testing::HasSubstr;

TEST(Npy, HeaderOfAVector) {
  const std::array<int64_t, 1> shape = {49152};
  const std::string header = npy_header_f32(shape);
  EXPECT_EQ(header.substr(0, 8), std::string("\x93NUMPY\x01\x00", 8));
  EXPECT_EQ(header.size() % 64, 0u);
  const size_t length = static_cast<unsigned char>(header[8]) | static_cast<size_t>(static_cast<unsigned char>(header[9])) << 8;
  EXPECT_EQ(length + 10, header.size());
  EXPECT_EQ(header.back(), '\n');
  EXPECT_THAT(header, HasSubstr("{'descr': '<f4', 'fortran_order': False, 'shape': (49152,), }"));
}

TEST(Npy, HeaderOfAMatrixAndElements) {
  const std::array<int64_t, 2> shape = {1, 3};
  std::string file = npy_header_f32(shape);
  EXPECT_THAT(file, HasSubstr("'shape': (1,3,)"));
  const size_t start = file.size();
  const std::array<float, 3> values = {1.5f, -2.0f, 0.0f};
  append_f32(file, values);
  ASSERT_EQ(file.size(), start + 12);
  float back = 0;
  std::memcpy(&back, file.data() + start + 4, 4);
  EXPECT_EQ(back, -2.0f);
}

}  // namespace
}  // namespace wick::apps
