#include "wick/apps/npy.h"

#include <bit>

namespace wick::apps {

std::string npy_header_f32(std::span<const int64_t> shape) {
  static_assert(std::endian::native == std::endian::little, "elements are written as they lie in memory");
  constexpr size_t kPreamble = 10, kAlignment = 64;
  std::string dictionary = "{'descr': '<f4', 'fortran_order': False, 'shape': (";
  for (const int64_t size : shape) dictionary += std::to_string(size) + ",";
  dictionary += "), }";
  while ((kPreamble + dictionary.size() + 1) % kAlignment != 0) dictionary += ' ';
  dictionary += '\n';
  std::string header("\x93NUMPY\x01\x00", 8);
  header += static_cast<char>(dictionary.size() & 0xff);
  header += static_cast<char>(dictionary.size() >> 8);
  return header + dictionary;
}

void append_f32(std::string& out, std::span<const float> values) {
  out.append(reinterpret_cast<const char*>(values.data()), values.size_bytes());
}

}  // namespace wick::apps
