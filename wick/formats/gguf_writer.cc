#include "wick/formats/gguf_writer.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <type_traits>

#include "wick/base/checked.h"
#include "wick/base/file.h"
#include "wick/formats/gguf.h"
#include "wick/formats/gguf_values.h"
#include "wick/formats/printable.h"

namespace wick {
namespace {

template <class T>
void put(std::string& out, T value) {
  char bytes[sizeof value];
  std::memcpy(bytes, &value, sizeof value);
  out.append(bytes, sizeof value);
}

void put_string(std::string& out, std::string_view text) {
  put(out, static_cast<uint64_t>(text.size()));
  out += text;
}

void put_type(std::string& out, GgufValueType type) { put(out, static_cast<uint32_t>(type)); }

// Whether every element keeps its value in Narrow; for floating numbers, whether none becomes infinite.
template <class Narrow, class Elements>
bool all_fit(const Elements& elements) {
  return std::all_of(elements.begin(), elements.end(), [](auto element) {
    if constexpr (std::is_same_v<Narrow, float>) {
      return !std::isfinite(element) || std::abs(element) <= std::numeric_limits<float>::max();
    } else {
      return static_cast<decltype(element)>(static_cast<Narrow>(element)) == element;
    }
  });
}

// Appends the type, for an array the count, and the elements: in the narrower type where they all fit.
template <class Narrow, class Wide>
void put_numbers(std::string& out, std::span<const Wide> elements, bool array, GgufValueType narrow, GgufValueType wide) {
  const bool fits = all_fit<Narrow>(elements);
  put_type(out, fits ? narrow : wide);
  if (array) put(out, static_cast<uint64_t>(elements.size()));
  for (const Wide element : elements) fits ? put(out, static_cast<Narrow>(element)) : put(out, element);
}

void put_elements(std::string& out, std::span<const int64_t> elements, bool array) {
  put_numbers<int32_t>(out, elements, array, GgufValueType::kI32, GgufValueType::kI64);
}
void put_elements(std::string& out, std::span<const uint64_t> elements, bool array) {
  put_numbers<uint32_t>(out, elements, array, GgufValueType::kU32, GgufValueType::kU64);
}
void put_elements(std::string& out, std::span<const double> elements, bool array) {
  put_numbers<float>(out, elements, array, GgufValueType::kF32, GgufValueType::kF64);
}

struct PutValue {
  std::string& out;

  void operator()(bool value) const {
    put_type(out, GgufValueType::kBool);
    put(out, static_cast<uint8_t>(value));
  }
  void operator()(const std::string& value) const {
    put_type(out, GgufValueType::kString);
    put_string(out, value);
  }
  void operator()(const std::vector<bool>& values) const {
    put_array(GgufValueType::kBool, values.size());
    for (const bool value : values) put(out, static_cast<uint8_t>(value));
  }
  void operator()(const std::vector<std::string>& values) const {
    put_array(GgufValueType::kString, values.size());
    for (const std::string& value : values) put_string(out, value);
  }
  template <class T>
  void operator()(const std::vector<T>& values) const {
    put_type(out, GgufValueType::kArray);
    put_elements(out, std::span<const T>(values), true);
  }
  template <class T>
  void operator()(const T& number) const {
    put_elements(out, std::span<const T>(&number, 1), false);
  }

 private:
  void put_array(GgufValueType type, size_t count) const {
    put_type(out, GgufValueType::kArray);
    put_type(out, type);
    put(out, static_cast<uint64_t>(count));
  }
};

uint64_t alignment_of(const Metadata& metadata) {
  const auto alignment = static_cast<uint64_t>(metadata.find_integer("general.alignment", 1, 1 << 20).value_or(kGgufDefaultAlignment));
  require((alignment & (alignment - 1)) == 0, "key 'general.alignment' is ", alignment, ", expected a power of two");
  return alignment;
}

void write_tensor(uint64_t bytes, uint64_t row_bytes, const GgufWriter::Fill& fill, FunctionRef<void(std::string_view)> sink) {
  constexpr uint64_t kPieceBytes = 1 << 20;
  const uint64_t piece_bytes = std::min(bytes, std::max<uint64_t>(kPieceBytes / row_bytes, 1) * row_bytes);
  std::string piece(static_cast<size_t>(piece_bytes), '\0');
  for (uint64_t offset = 0; offset < bytes; offset += piece.size()) {
    piece.resize(static_cast<size_t>(std::min(piece_bytes, bytes - offset)));
    fill(offset, std::as_writable_bytes(std::span(piece.data(), piece.size())));
    sink(piece);
  }
}

}  // namespace

GgufWriter::GgufWriter(const Metadata& metadata, uint32_t version)
    : version_(version), alignment_(alignment_of(metadata)), key_count_(metadata.values().size()) {
  require(version == 2 || version == 3, "GGUF version ", version, " cannot be written (2 and 3 can)");
  for (const auto& [key, value] : metadata.values()) {
    put_string(keys_, key);
    std::visit(PutValue{keys_}, value);
  }
}

GgufWriter::Entry& GgufWriter::add_entry(const std::string& name, const Shape& shape, DType dtype) {
  const std::string shown = "tensor '" + printable(name) + "'";
  const GgufType* type = find_gguf_type(dtype);
  require(type != nullptr, shown, ": GGUF has no type for ", dtype_name(dtype));
  require(shape.rank() >= 1 && shape.rank() <= 4, shown, " has shape ", shape.to_string(), ", expected rank 1 to 4");
  require(element_count(shape) > 0, shown, " has shape ", shape.to_string(), ", expected sizes above 0");
  require(shape[shape.rank() - 1] % type->block == 0, shown, " has shape ", shape.to_string(), ", but ", type->name, " comes in blocks of ",
          type->block);
  const uint64_t bytes = dtype_bytes(dtype, static_cast<uint64_t>(element_count(shape)));
  const uint64_t end = add_or_fail(data_bytes_, bytes, "size of a GGUF file");
  add_or_fail(end, uint64_t{1} << 32, "size of a GGUF file");  // room for the header and for rounding up
  require(names_.insert(name).second, shown, " was added before");
  entries_.push_back({name, shape, type, data_bytes_, bytes, {}});
  data_bytes_ = round_up(end, alignment_);
  return entries_.back();
}

void GgufWriter::add(const std::string& name, const Shape& shape, DType dtype, Fill fill) {
  add_entry(name, shape, dtype).fill = std::move(fill);
}

void GgufWriter::add(const std::string& name, const Shape& shape, DType dtype, std::string bytes) {
  const uint64_t expected = dtype_bytes(dtype, static_cast<uint64_t>(element_count(shape)));
  require(bytes.size() == expected, "tensor '", printable(name), "': ", bytes.size(), " bytes given, ", expected, " expected");
  const auto held = std::make_shared<const std::string>(std::move(bytes));
  add(name, shape, dtype,
      [held](uint64_t offset, std::span<std::byte> out) { std::memcpy(out.data(), held->data() + offset, out.size()); });
}

std::string GgufWriter::header() const {
  std::string out(kGgufMagic);
  put(out, version_);
  put(out, static_cast<uint64_t>(entries_.size()));
  put(out, key_count_);
  out += keys_;
  for (const Entry& entry : entries_) {
    put_string(out, entry.name);
    put(out, static_cast<uint32_t>(entry.shape.rank()));
    for (int i = entry.shape.rank(); i-- > 0;) put(out, static_cast<uint64_t>(entry.shape[i]));  // innermost first
    put(out, entry.type->id);
    put(out, entry.offset);
  }
  out.resize(round_up<size_t>(out.size(), alignment_), '\0');
  return out;
}

uint64_t GgufWriter::file_bytes() const { return header().size() + data_bytes_; }

void GgufWriter::write(FunctionRef<void(std::string_view bytes)> sink) const {
  sink(header());
  const std::string padding(static_cast<size_t>(alignment_), '\0');
  for (const Entry& entry : entries_) {
    const uint64_t rows = static_cast<uint64_t>(element_count(entry.shape) / entry.shape[entry.shape.rank() - 1]);
    write_tensor(entry.bytes, entry.bytes / rows, entry.fill, sink);
    sink(std::string_view(padding).substr(0, static_cast<size_t>(round_up(entry.bytes, alignment_) - entry.bytes)));
  }
}

std::string GgufWriter::to_string() const {
  std::string out;
  write([&](std::string_view bytes) { out += bytes; });
  return out;
}

void GgufWriter::save(const std::string& path) const {
  AtomicFile file(path);
  write([&](std::string_view bytes) { file.append(bytes); });
  file.commit();
}

}  // namespace wick
