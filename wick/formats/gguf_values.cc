#include "wick/formats/gguf_values.h"

namespace wick {
namespace {

using Type = GgufValueType;

// Bytes that one value takes at least.
uint64_t min_bytes(Type type) {
  constexpr uint64_t kBytes[] = {1, 1, 2, 2, 4, 4, 4, 1, 8, 12, 8, 8, 8};
  return kBytes[static_cast<uint32_t>(type)];
}

Type read_type(GgufCursor& in) {
  const uint32_t type = in.number<uint32_t>("a value type");
  if (type > static_cast<uint32_t>(Type::kF64)) in.refuse("unknown value type ", type);
  return static_cast<Type>(type);
}

// Calls visit(Stored{}, Kept{}) with the type that the file has and the one that Metadata has for it.
template <class Visit>
MetadataValue with_number_type(Type type, Visit&& visit) {
  switch (type) {
    case Type::kU8: return visit(uint8_t{}, uint64_t{});
    case Type::kU16: return visit(uint16_t{}, uint64_t{});
    case Type::kU32: return visit(uint32_t{}, uint64_t{});
    case Type::kU64: return visit(uint64_t{}, uint64_t{});
    case Type::kI8: return visit(int8_t{}, int64_t{});
    case Type::kI16: return visit(int16_t{}, int64_t{});
    case Type::kI32: return visit(int32_t{}, int64_t{});
    case Type::kI64: return visit(int64_t{}, int64_t{});
    case Type::kF32: return visit(float{}, double{});
    default: return visit(double{}, double{});
  }
}

bool read_bool(GgufCursor& in) {
  const uint8_t flag = in.number<uint8_t>("a bool");
  if (flag > 1) in.refuse("a bool is ", static_cast<int>(flag), ", expected 0 or 1");
  return flag == 1;
}

template <class T, class Read>
std::vector<T> read_elements(uint64_t count, Read&& read) {
  std::vector<T> elements;
  elements.reserve(static_cast<size_t>(count));
  for (uint64_t i = 0; i < count; ++i) elements.push_back(read());
  return elements;
}

MetadataValue read_array(GgufCursor& in) {
  const Type type = read_type(in);
  if (type == Type::kArray) in.refuse("arrays of arrays are not supported");
  const uint64_t count = in.count(min_bytes(type), "the length of an array");
  if (type == Type::kString) return read_elements<std::string>(count, [&] { return in.string("a string of an array"); });
  if (type == Type::kBool) return read_elements<bool>(count, [&] { return read_bool(in); });
  return with_number_type(type, [&](auto stored, auto kept) -> MetadataValue {
    using Kept = decltype(kept);
    return read_elements<Kept>(count, [&] { return static_cast<Kept>(in.number<decltype(stored)>("an array")); });
  });
}

}  // namespace

MetadataValue read_gguf_value(GgufCursor& in) {
  const Type type = read_type(in);
  if (type == Type::kArray) return read_array(in);
  if (type == Type::kString) return in.string("a string");
  if (type == Type::kBool) return read_bool(in);
  return with_number_type(
      type, [&](auto stored, auto kept) -> MetadataValue { return static_cast<decltype(kept)>(in.number<decltype(stored)>("a number")); });
}

}  // namespace wick
