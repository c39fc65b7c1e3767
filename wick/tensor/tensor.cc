#include "wick/tensor/tensor.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <sstream>

#include "wick/base/checked.h"
#include "wick/base/error.h"
#include "wick/tensor/half.h"

namespace wick {
namespace {

void require_host(const Device& device, const char* what) {
  if (!device.backend().host_accessible) fail(ErrorCode::kUnsupported, what, ": memory of device ", device.name(), " is not accessible from the CPU");
}

Dims contiguous_strides(const Shape& shape) {
  Dims strides = shape;
  int64_t stride = 1;
  for (int i = shape.rank() - 1; i >= 0; --i) {
    strides[i] = stride;
    stride *= std::max<int64_t>(1, shape[i]);
  }
  return strides;
}

uint64_t contiguous_bytes(const Shape& shape, DType dtype) {
  const int64_t elements = element_count(shape);
  const int block = traits(dtype).block;
  require(block == 1 || (shape.rank() >= 1 && shape[shape.rank() - 1] % block == 0), "tensor: ", dtype_name(dtype), " of shape ", shape,
          ": the last dimension is not whole blocks of ", block);
  return dtype_bytes(dtype, static_cast<uint64_t>(elements));
}

// Calls visit(element offset) for the first `count` elements of a strided view in row-major order.
template <class Visit>
void for_each_element(const Shape& shape, const Dims& strides, int64_t count, Visit&& visit) {
  Dims index = shape;
  for (int i = 0; i < index.rank(); ++i) index[i] = 0;
  int64_t offset = 0;
  for (int64_t n = 0; n < count; ++n) {
    visit(offset);
    for (int i = shape.rank() - 1; i >= 0; --i) {
      offset += strides[i];
      if (++index[i] < shape[i]) break;
      offset -= strides[i] * shape[i];
      index[i] = 0;
    }
  }
}

double load_as_double(DType dtype, const std::byte* p) {
  const auto read = [p](auto value) {
    std::memcpy(&value, p, sizeof value);
    return value;
  };
  switch (dtype) {
    case DType::kF32: return read(float{});
    case DType::kF16: return f16_to_f32(read(uint16_t{}));
    case DType::kBF16: return bf16_to_f32(read(uint16_t{}));
    case DType::kF64: return read(double{});
    case DType::kI8: return read(int8_t{});
    case DType::kI16: return read(int16_t{});
    case DType::kI32: return read(int32_t{});
    case DType::kI64: return static_cast<double>(read(int64_t{}));
    case DType::kU8: return read(uint8_t{});
    default: fail(ErrorCode::kUnsupported, "tensor: elements of ", dtype_name(dtype), " cannot be read one by one");
  }
}

template <class Integer>
Integer saturated(double value) {
  constexpr double kEnd = 2.0 * static_cast<double>(std::numeric_limits<Integer>::max() / 2 + 1);  // the power of two above the largest
  if (std::isnan(value)) return 0;
  if (value >= kEnd) return std::numeric_limits<Integer>::max();
  if (value <= static_cast<double>(std::numeric_limits<Integer>::min())) return std::numeric_limits<Integer>::min();
  return static_cast<Integer>(value);
}

void store_from_double(DType dtype, double value, std::byte* p) {
  const auto write = [p](auto stored) { std::memcpy(p, &stored, sizeof stored); };
  switch (dtype) {
    case DType::kF32: return write(static_cast<float>(value));
    case DType::kF16: return write(f32_to_f16(static_cast<float>(value)));
    case DType::kBF16: return write(f32_to_bf16(static_cast<float>(value)));
    case DType::kF64: return write(value);
    case DType::kI8: return write(saturated<int8_t>(value));
    case DType::kI16: return write(saturated<int16_t>(value));
    case DType::kI32: return write(saturated<int32_t>(value));
    case DType::kI64: return write(saturated<int64_t>(value));
    case DType::kU8: return write(saturated<uint8_t>(value));
    default: fail(ErrorCode::kUnsupported, "tensor: conversion to ", dtype_name(dtype), " is not supported");
  }
}

}  // namespace

Dims::Dims(std::span<const int64_t> values) : rank_(static_cast<int>(values.size())) {
  require(values.size() <= kMaxRank, "tensor: rank ", values.size(), " exceeds ", kMaxRank);
  std::copy(values.begin(), values.end(), values_);
}

bool Dims::operator==(const Dims& other) const { return std::equal(begin(), end(), other.begin(), other.end()); }

std::string Dims::to_string() const { return concat(*this); }

std::ostream& operator<<(std::ostream& out, const Dims& dims) {
  out << "[";
  for (int i = 0; i < dims.rank(); ++i) out << (i ? ", " : "") << dims[i];
  return out << "]";
}

int64_t element_count(const Shape& shape) {
  int64_t count = 1;
  bool empty = false;
  for (const int64_t size : shape) {
    require(size >= 0, "tensor: shape ", shape, " has a negative size");
    empty = empty || size == 0;
    count = mul_or_fail(count, std::max<int64_t>(1, size), "tensor: number of elements");
  }
  return empty ? 0 : count;
}

std::shared_ptr<Storage> Storage::allocate(const Device& device, uint64_t bytes) {
  void* data = device.backend().allocate(device.index(), bytes);
  if (!data) fail(ErrorCode::kOutOfMemory, "cannot allocate ", bytes, " bytes on device ", device.name());
  return std::shared_ptr<Storage>(new Storage(device, device, data, bytes, device.backend().release));
}

std::shared_ptr<Storage> Storage::allocate_staging(const Device& device, uint64_t bytes) {
  const DeviceBackend& backend = device.backend();
  if (!backend.allocate_staging) return allocate(Device::cpu(), bytes);
  void* data = backend.allocate_staging(device.index(), bytes);
  if (!data) fail(ErrorCode::kOutOfMemory, "cannot allocate ", bytes, " bytes of memory shared with device ", device.name());
  return std::shared_ptr<Storage>(new Storage(Device::cpu(), device, data, bytes, backend.release_staging));
}

std::shared_ptr<Storage> Storage::borrow(const Device& device, void* data, uint64_t bytes) {
  return std::shared_ptr<Storage>(new Storage(device, device, data, bytes, nullptr));
}

std::shared_ptr<Storage> Storage::part(const std::shared_ptr<Storage>& whole, uint64_t offset, uint64_t bytes) {
  struct Both {
    std::shared_ptr<Storage> whole, part;
  };
  const auto both = std::make_shared<Both>(Both{whole, borrow(whole->device(), whole->data() + offset, bytes)});
  return {both, both->part.get()};
}

Storage::~Storage() {
  if (release_) release_(owner_.index(), data_, bytes_);
}

void copy_memory(const Device& to_device, void* to, const Device& from_device, const void* from, uint64_t bytes) {
  if (bytes == 0) return;
  if (to_device.backend().host_accessible && from_device.backend().host_accessible) {
    std::memcpy(to, from, bytes);
    return;
  }
  const Device& device = to_device.backend().host_accessible ? from_device : to_device;
  const Device& other = to_device.backend().host_accessible ? to_device : from_device;
  if (!device.backend().copy || !(other.backend().host_accessible || other == device)) {
    fail(ErrorCode::kUnsupported, "memory of device ", from_device.name(), " cannot be copied to device ", to_device.name());
  }
  device.backend().copy(device.index(), to, from, bytes);
}

Tensor Tensor::contiguous_on(std::shared_ptr<Storage> storage, const Shape& shape, DType dtype) {
  Tensor tensor;
  tensor.storage_ = std::move(storage);
  tensor.shape_ = shape;
  tensor.strides_ = contiguous_strides(shape);
  tensor.elements_ = element_count(shape);
  tensor.dtype_ = dtype;
  return tensor;
}

Tensor Tensor::empty(const Shape& shape, DType dtype, const Device& device) {
  return contiguous_on(Storage::allocate(device, contiguous_bytes(shape, dtype)), shape, dtype);
}

Tensor Tensor::staging(const Shape& shape, DType dtype, const Device& device) {
  return contiguous_on(Storage::allocate_staging(device, contiguous_bytes(shape, dtype)), shape, dtype);
}

Tensor Tensor::zeros(const Shape& shape, DType dtype, const Device& device) {
  if (!device.backend().host_accessible) return zeros(shape, dtype).to(device);
  Tensor tensor = empty(shape, dtype, device);
  std::memset(tensor.raw(), 0, tensor.bytes());
  return tensor;
}

Tensor Tensor::from_memory(void* data, const Shape& shape, DType dtype, const Device& device) {
  const uint64_t bytes = contiguous_bytes(shape, dtype);
  require(data != nullptr || bytes == 0, "Tensor::from_memory: no memory for shape ", shape);
  return contiguous_on(Storage::borrow(device, data, bytes), shape, dtype);
}

Tensor Tensor::from_values(std::span<const float> values, const Shape& shape, DType dtype) {
  Tensor tensor = empty(shape, dtype);
  require(static_cast<int64_t>(values.size()) == tensor.elements(), "Tensor::from_values: ", values.size(), " values for shape ", shape);
  const int64_t size = traits(dtype).bytes;
  for (size_t i = 0; i < values.size(); ++i) store_from_double(dtype, values[i], tensor.raw() + static_cast<int64_t>(i) * size);
  return tensor;
}

const Device& Tensor::device() const {
  require(defined(), "tensor: an undefined tensor has no device");
  return storage_->device();
}

int64_t Tensor::dim(int i) const {
  const int index = i < 0 ? i + rank() : i;
  require(index >= 0 && index < rank(), "tensor: dimension ", i, " of a tensor of rank ", rank());
  return shape_[index];
}

uint64_t Tensor::bytes() const { return contiguous_bytes(shape_, dtype_); }

bool Tensor::is_contiguous() const {
  if (elements_ == 0) return true;
  const Dims expected = contiguous_strides(shape_);
  for (int i = 0; i < rank(); ++i) {
    if (shape_[i] > 1 && strides_[i] != expected[i]) return false;
  }
  return true;
}

Tensor Tensor::slice(int dim, int64_t begin, int64_t end) const {
  const int index = dim < 0 ? dim + rank() : dim;
  require(index >= 0 && index < rank(), "slice: dimension ", dim, " of a tensor of rank ", rank());
  require(begin >= 0 && begin <= end && end <= shape_[index], "slice: ", begin, " to ", end, " of a dimension of ", shape_[index]);
  const int64_t block = traits(dtype_).block;
  require(block == 1 || index < rank() - 1, "slice: the rows of a ", dtype_name(dtype_), " tensor cannot be cut");
  Tensor view = *this;
  view.shape_[index] = end - begin;
  view.elements_ = element_count(view.shape_);
  if (view.elements_ > 0) view.offset_ += dtype_bytes(dtype_, static_cast<uint64_t>(begin * strides_[index]));
  return view;
}

Tensor Tensor::transpose(int a, int b) const {
  const int first = a < 0 ? a + rank() : a;
  const int second = b < 0 ? b + rank() : b;
  require(first >= 0 && first < rank() && second >= 0 && second < rank(), "transpose: dimensions ", a, " and ", b, " of a tensor of rank ", rank());
  require(!is_quantised(dtype_) || first == second, "transpose: a ", dtype_name(dtype_), " tensor cannot be transposed");
  Tensor view = *this;
  std::swap(view.shape_[first], view.shape_[second]);
  std::swap(view.strides_[first], view.strides_[second]);
  return view;
}

Tensor Tensor::reshape(const Shape& shape) const {
  require(defined(), "reshape: the tensor is undefined");
  require(is_contiguous(), "reshape: the tensor of shape ", shape_, " is not contiguous");
  require(element_count(shape) == elements_, "reshape: ", shape_, " has ", elements_, " elements, ", shape, " has ",
          element_count(shape));
  contiguous_bytes(shape, dtype_);  // whole blocks
  Tensor view = *this;
  view.shape_ = shape;
  view.strides_ = contiguous_strides(shape);
  return view;
}

Tensor Tensor::contiguous() const {
  if (is_contiguous()) return *this;
  require_host(device(), "contiguous");
  Tensor copy = empty(shape_, dtype_, device());
  if (is_quantised(dtype_)) {  // rows are contiguous: copy block by block
    const int64_t block = traits(dtype_).block;
    std::byte* out = copy.raw();
    Shape blocks = shape_;
    Dims strides = strides_;
    blocks[rank() - 1] /= block;
    for (int i = 0; i + 1 < rank(); ++i) strides[i] /= block;
    for_each_element(blocks, strides, elements_ / block, [&](int64_t at) {
      std::memcpy(out, raw() + at * traits(dtype_).bytes, static_cast<size_t>(traits(dtype_).bytes));
      out += traits(dtype_).bytes;
    });
    return copy;
  }
  const size_t size = static_cast<size_t>(traits(dtype_).bytes);
  std::byte* out = copy.raw();
  for_each_element(shape_, strides_, elements_, [&](int64_t at) {
    std::memcpy(out, raw() + at * static_cast<int64_t>(size), size);
    out += size;
  });
  return copy;
}

Tensor Tensor::to(DType dtype) const {
  if (dtype == dtype_) return contiguous();
  require_host(device(), "to");
  if (is_quantised(dtype_) || is_quantised(dtype)) {
    fail(ErrorCode::kUnsupported, "to: conversion from ", dtype_name(dtype_), " to ", dtype_name(dtype), " is not supported");
  }
  Tensor copy = empty(shape_, dtype, device());
  const int64_t size = traits(dtype).bytes;
  std::byte* out = copy.raw();
  for_each_element(shape_, strides_, elements_, [&](int64_t at) {
    store_from_double(dtype, load_as_double(dtype_, raw() + at * traits(dtype_).bytes), out);
    out += size;
  });
  return copy;
}

Tensor Tensor::to(const Device& target) const {
  if (device() == target) return *this;
  int64_t span = elements_ > 0 ? 1 : 0;  // elements from the first to the last
  for (int i = 0; i < rank() && elements_ > 0; ++i) span += (shape_[i] - 1) * strides_[i];
  const uint64_t length = dtype_bytes(dtype_, static_cast<uint64_t>(span));
  Tensor copy = *this;
  copy.storage_ = Storage::allocate(target, length);
  copy.offset_ = 0;
  copy_memory(target, copy.raw(), device(), raw(), length);
  return copy;
}

std::string Tensor::to_string(int64_t max_elements) const {
  if (!defined()) return "undefined";
  std::ostringstream text;
  text.imbue(std::locale::classic());
  text << dtype_name(dtype_) << " " << shape_;
  if (is_quantised(dtype_) || !device().backend().host_accessible) return text.str();
  text << " {";
  const int64_t shown = std::clamp<int64_t>(max_elements, 0, elements_);
  for_each_element(shape_, strides_, shown, [&, first = true](int64_t at) mutable {
    const std::byte* element = raw() + at * traits(dtype_).bytes;
    text << (first ? "" : ", ");
    first = false;
    if (dtype_ == DType::kI64) {
      int64_t value;
      std::memcpy(&value, element, sizeof value);
      text << value;
    } else if (traits(dtype_).floating) {
      text << load_as_double(dtype_, element);
    } else {
      text << static_cast<int64_t>(load_as_double(dtype_, element));
    }
  });
  if (shown < elements_) text << (shown > 0 ? ", …" : "…");
  text << "}";
  return text.str();
}

}  // namespace wick
