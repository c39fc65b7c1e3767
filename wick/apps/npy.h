// NumPy's file format, version 1.0: a header of one Python dictionary and the elements in C order.
#pragma once

#include <cstdint>
#include <span>
#include <string>

namespace wick::apps {

// What precedes the elements of a little-endian f32 array.
std::string npy_header_f32(std::span<const int64_t> shape);
void append_f32(std::string& out, std::span<const float> values);

}  // namespace wick::apps
