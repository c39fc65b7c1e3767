// Tensor: a typed, strided view of shared memory. Cheap to copy; copies see the same elements.
//
// Not a compute class: ops take tensors and write into them. A tensor never changes its shape; views do not copy.
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <iosfwd>
#include <memory>
#include <span>
#include <string>

#include "wick/tensor/device.h"
#include "wick/tensor/dtype.h"

namespace wick {

// Sizes or strides of up to kMaxRank dimensions, outermost first. Held inline: making one does not allocate.
class Dims {
 public:
  static constexpr int kMaxRank = 8;
  Dims() = default;
  Dims(std::initializer_list<int64_t> values) : Dims(std::span<const int64_t>(values.begin(), values.size())) {}
  explicit Dims(std::span<const int64_t> values);  // Error(kInvalidArgument) above kMaxRank
  int rank() const { return rank_; }
  int64_t operator[](int i) const { return values_[i]; }
  int64_t& operator[](int i) { return values_[i]; }
  const int64_t* begin() const { return values_; }
  const int64_t* end() const { return values_ + rank_; }
  bool operator==(const Dims& other) const;
  std::string to_string() const;  // "[2, 3]"

 private:
  int rank_ = 0;
  int64_t values_[kMaxRank] = {};
};

// As to_string(). Messages pass a Dims itself, so that its text is made only when the message is.
std::ostream& operator<<(std::ostream& out, const Dims& dims);

using Shape = Dims;
int64_t element_count(const Shape& shape);  // product; Error(kInvalidArgument) for a negative size, or when the product of those above 0 does not fit

// Memory on one device, freed with the last tensor that refers to it. 64-byte aligned.
class Storage {
 public:
  static std::shared_ptr<Storage> allocate(const Device& device, uint64_t bytes);  // uninitialised; Error(kOutOfMemory)
  // Memory of the CPU that `device` copies to and from without help. Error(kOutOfMemory).
  static std::shared_ptr<Storage> allocate_staging(const Device& device, uint64_t bytes);
  static std::shared_ptr<Storage> borrow(const Device& device, void* data, uint64_t bytes);  // the caller keeps it alive
  // Part of another one, which lives as long.
  static std::shared_ptr<Storage> part(const std::shared_ptr<Storage>& whole, uint64_t offset, uint64_t bytes);
  ~Storage();
  Storage(const Storage&) = delete;
  Storage& operator=(const Storage&) = delete;
  std::byte* data() const { return data_; }
  uint64_t bytes() const { return bytes_; }
  const Device& device() const { return device_; }

 private:
  using Release = void (*)(int index, void* data, uint64_t bytes);
  Storage(const Device& device, const Device& owner, void* data, uint64_t bytes, Release release)
      : device_(device), owner_(owner), data_(static_cast<std::byte*>(data)), bytes_(bytes), release_(release) {}
  Device device_;
  Device owner_;  // whose memory it is: not device_ for staging memory
  std::byte* data_;
  uint64_t bytes_;
  Release release_;  // null: borrowed
};

// Copies at once, after all work of either device. Throws Error(kUnsupported) when a device cannot copy.
void copy_memory(const Device& to_device, void* to, const Device& from_device, const void* from, uint64_t bytes);

class Tensor {
 public:
  Tensor() = default;  // rank 0, no storage: defined() is false
  // Uninitialised, contiguous. Quantised types need a last dimension of whole blocks.
  static Tensor empty(const Shape& shape, DType dtype, const Device& device = Device::cpu());
  static Tensor zeros(const Shape& shape, DType dtype, const Device& device = Device::cpu());
  // On the CPU, uninitialised, in memory that `device` copies to and from without help.
  static Tensor staging(const Shape& shape, DType dtype, const Device& device);
  // A contiguous view of the caller's memory, which must outlive it. No copy.
  static Tensor from_memory(void* data, const Shape& shape, DType dtype, const Device& device = Device::cpu());
  // A copy of f32 values.
  static Tensor from_values(std::span<const float> values, const Shape& shape, DType dtype = DType::kF32);

  bool defined() const { return storage_ != nullptr; }
  DType dtype() const { return dtype_; }
  const Device& device() const;  // Error(kInvalidArgument) when not defined()
  const Shape& shape() const { return shape_; }
  const Dims& strides() const { return strides_; }  // in elements; rows of quantised tensors are always contiguous
  int rank() const { return shape_.rank(); }
  int64_t dim(int i) const;    // negative i counts from the end; Error(kInvalidArgument) when out of range
  int64_t elements() const { return elements_; }
  uint64_t bytes() const;      // of a contiguous tensor of this shape
  bool is_contiguous() const;  // row-major without gaps
  bool rows_contiguous() const { return rank() == 0 || shape_[rank() - 1] <= 1 || strides_[rank() - 1] == 1; }

  std::byte* raw() const { return storage_ ? storage_->data() + offset_ : nullptr; }
  template <class T>
  T* data() const { return reinterpret_cast<T*>(raw()); }

  // Views. Error(kInvalidArgument) for a range or shape that does not fit.
  Tensor slice(int dim, int64_t begin, int64_t end) const;
  Tensor transpose(int a, int b) const;
  Tensor reshape(const Shape& shape) const;  // needs is_contiguous()

  // Contiguous copies. The second converts between plain types through f64 (f16 and bf16 through f32 then): floats round to nearest
  // even, integers towards zero and stop at the ends of their range, where NaN becomes 0. Error(kUnsupported) when either type is quantised, or the memory is out of the CPU's reach.
  Tensor contiguous() const;  // *this when it already is
  Tensor to(DType dtype) const;
  // The same view of a copy on another device, *this when it is there already: the memory from its first element to its last is copied as
  // it is, gaps too. Waits for all work of both devices. Error(kUnsupported) when one of them cannot copy, Error(kOutOfMemory).
  Tensor to(const Device& device) const;
  std::string to_string(int64_t max_elements = 64) const;

 private:
  static Tensor contiguous_on(std::shared_ptr<Storage> storage, const Shape& shape, DType dtype);

  std::shared_ptr<Storage> storage_;
  uint64_t offset_ = 0;  // bytes
  Shape shape_;
  Dims strides_;
  int64_t elements_ = 0;
  DType dtype_ = DType::kF32;
};

}  // namespace wick
