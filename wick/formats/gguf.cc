#include "wick/formats/gguf.h"

#include <algorithm>
#include <new>
#include <numeric>

#include "wick/base/checked.h"
#include "wick/formats/gguf_cursor.h"
#include "wick/formats/gguf_types.h"
#include "wick/formats/gguf_values.h"
#include "wick/formats/printable.h"

namespace wick {
namespace {

struct Counts {
  uint64_t tensors;
  uint64_t keys;
};

void read_version(GgufCursor& in) {
  char magic[4];
  for (char& c : magic) c = static_cast<char>(in.number<uint8_t>("the magic number"));
  if (std::string_view(magic, 4) != kGgufMagic) in.refuse("not a GGUF file");
  const uint32_t version = in.number<uint32_t>("the version");
  if (version != 0 && (version & 0xffff) == 0) fail(ErrorCode::kUnsupported, in.subject(), "big-endian GGUF files are not supported");
  if (version != 2 && version != 3)
    fail(ErrorCode::kUnsupported, in.subject(), "GGUF version ", version, " is not supported (supported: 2, 3)");
}

Counts read_counts(GgufCursor& in) {
  constexpr uint64_t kMinTensorBytes = 8 + 4 + 8 + 4 + 8;  // name, rank, one dimension, type, offset
  constexpr uint64_t kMinKeyBytes = 8 + 4 + 1;             // key, type, value
  Counts counts;
  counts.tensors = in.count(kMinTensorBytes, "the number of tensors");
  counts.keys = in.count(kMinKeyBytes, "the number of keys");
  return counts;
}

Metadata read_metadata(GgufCursor& in, uint64_t keys) {
  Metadata metadata;
  for (uint64_t i = 0; i < keys; ++i) {
    std::string key = in.string("a key");
    in.about("key", key);
    if (metadata.contains(key)) in.refuse("appears twice");
    MetadataValue value = read_gguf_value(in);
    in.about_file();
    metadata.insert(std::move(key), std::move(value));
  }
  return metadata;
}

// The alignment of tensor data: any power of two up to a bound that keeps sums of offsets small.
uint64_t alignment_of(const Metadata& metadata) {
  constexpr int64_t kLargest = 1 << 20;
  const int64_t alignment = metadata.find_integer("general.alignment", 1, kLargest).value_or(kGgufDefaultAlignment);
  if ((alignment & (alignment - 1)) != 0)
    fail(ErrorCode::kInvalidFile, "key 'general.alignment' is ", alignment, ", expected a power of two");
  return static_cast<uint64_t>(alignment);
}

Shape read_shape(GgufCursor& in) {
  const uint32_t rank = in.number<uint32_t>("the number of dimensions");
  if (rank < 1 || rank > 4) in.refuse("has ", rank, " dimensions, expected 1 to 4");
  int64_t sizes[4];
  int64_t elements = 1;
  for (uint32_t i = rank; i-- > 0;) {  // the file's first dimension is the innermost
    const uint64_t size = in.number<uint64_t>("a dimension");
    if (size < 1 || size > uint64_t{INT64_MAX}) in.refuse("has a dimension of ", size);
    sizes[i] = static_cast<int64_t>(size);
    const auto product = checked_mul(elements, sizes[i]);
    if (!product) in.refuse("has more elements than fit in 63 bits");
    elements = *product;
  }
  return Shape(std::span<const int64_t>(sizes, rank));
}

uint64_t stored_bytes(const GgufCursor& in, const Shape& shape, const GgufType& type) {
  const int64_t row = shape[shape.rank() - 1];
  if (row % type.block != 0) in.refuse("has rows of ", row, " elements, but type ", type.name, " comes in blocks of ", type.block);
  const auto bytes = checked_mul<uint64_t>(static_cast<uint64_t>(element_count(shape)) / type.block, type.bytes);
  if (!bytes) in.refuse("has more bytes than fit in 64 bits");
  return *bytes;
}

// Returns the tensor's offset within the data.
uint64_t read_tensor(GgufCursor& in, TensorInfo& info) {
  info.name = in.string("a tensor's name");
  in.about("tensor", info.name);
  info.shape = read_shape(in);
  const uint32_t id = in.number<uint32_t>("the type");
  const uint64_t offset = in.number<uint64_t>("the offset");
  const GgufType* type = find_gguf_type(id);
  info.supported = type != nullptr && type->dtype.has_value();
  info.dtype = info.supported ? *type->dtype : DType::kU8;
  info.type_name = type != nullptr ? type->name : concat("type ", id);
  info.bytes = type != nullptr ? stored_bytes(in, info.shape, *type) : 0;
  in.about_file();
  return offset;
}

// A tensor of unknown size takes at least one byte.
uint64_t least_bytes(const TensorInfo& info) { return std::max<uint64_t>(info.bytes, 1); }

// Turns offsets within the data, which begins at `data`, into offsets within the file. Each tensor must lie inside the file.
void place_tensors(GgufCursor& in, const std::vector<TensorInfo>& tensors, uint64_t data, uint64_t alignment, uint64_t file_bytes,
                   std::vector<uint64_t>& offsets) {
  for (size_t i = 0; i < tensors.size(); ++i) {
    in.about("tensor", tensors[i].name);
    if (offsets[i] % alignment != 0) in.refuse("begins at ", offsets[i], " of the data, not at a multiple of ", alignment);
    const auto begin = checked_add(data, offsets[i]);
    const auto end = begin ? checked_add(*begin, least_bytes(tensors[i])) : std::nullopt;
    if (!end || *end > file_bytes) {
      in.refuse("its ", least_bytes(tensors[i]), " bytes at ", offsets[i], " of the data (which begins at ", data,
                ") end past the end of the file, ", file_bytes, ": the file is damaged or incomplete");
    }
    offsets[i] = *begin;
  }
  in.about_file();
}

void check_overlaps(const GgufCursor& in, const std::vector<TensorInfo>& tensors, const std::vector<uint64_t>& offsets) {
  std::vector<size_t> order(tensors.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) { return offsets[a] < offsets[b]; });
  for (size_t i = 1; i < order.size(); ++i) {
    const TensorInfo& before = tensors[order[i - 1]];
    if (least_bytes(before) > offsets[order[i]] - offsets[order[i - 1]]) {
      in.refuse("tensors '", printable(before.name), "' and '", printable(tensors[order[i]].name), "' overlap");
    }
  }
}

}  // namespace

GgufFile::GgufFile(std::unique_ptr<ByteSource> source) : source_(std::move(source)) {
  try {
    read_header();
  } catch (const std::bad_alloc&) {
    fail(ErrorCode::kOutOfMemory, printable(source_->name(), 200), ": not enough memory to read the header");
  }
}

std::shared_ptr<const GgufFile> GgufFile::open(const std::string& path) {
  return std::make_shared<const GgufFile>(std::make_unique<FileSource>(File::open(path)));
}

std::shared_ptr<const GgufFile> GgufFile::parse(std::string bytes, std::string name) {
  return std::make_shared<const GgufFile>(std::make_unique<MemorySource>(std::move(bytes), std::move(name)));
}

void GgufFile::read_header() {
  GgufCursor in(*source_);
  read_version(in);
  const Counts counts = read_counts(in);
  metadata_ = read_metadata(in, counts.keys);
  const uint64_t alignment = alignment_of(metadata_);
  // Keys took some of the bytes that the number of tensors was checked against: grow with what is read instead of reserving for the claim.
  for (uint64_t i = 0; i < counts.tensors; ++i) offsets_.push_back(read_tensor(in, tensors_.emplace_back()));
  index_names();
  place_tensors(in, tensors_, round_up(in.position(), alignment), alignment, source_->size(), offsets_);
  check_overlaps(in, tensors_, offsets_);
}

void GgufFile::index_names() {
  by_name_.resize(tensors_.size());
  std::iota(by_name_.begin(), by_name_.end(), size_t{0});
  std::sort(by_name_.begin(), by_name_.end(), [&](size_t a, size_t b) { return tensors_[a].name < tensors_[b].name; });
  for (size_t i = 1; i < by_name_.size(); ++i) {
    const std::string& name = tensors_[by_name_[i]].name;
    if (tensors_[by_name_[i - 1]].name == name) {
      fail(ErrorCode::kInvalidFile, printable(source_->name(), 200), ": tensor '", printable(name), "' appears twice");
    }
  }
}

const TensorInfo* GgufFile::find(std::string_view name) const {
  const auto it =
      std::lower_bound(by_name_.begin(), by_name_.end(), name, [&](size_t i, std::string_view n) { return tensors_[i].name < n; });
  return it == by_name_.end() || tensors_[*it].name != name ? nullptr : &tensors_[*it];
}

void GgufFile::read(const TensorInfo& info, uint64_t offset, std::span<std::byte> out) const {
  const TensorInfo* own = find(info.name);  // `info` may be a copy
  require(own != nullptr, "tensor '", printable(info.name), "' is not in ", printable(path(), 200));
  if (!own->supported) {
    fail(ErrorCode::kUnsupported, printable(path(), 200), ": tensor '", printable(own->name), "' has type ", own->type_name,
         ", which this version cannot read");
  }
  require(offset <= own->bytes && out.size() <= own->bytes - offset, "tensor '", printable(own->name), "': ", out.size(), " bytes at ",
          offset, " were asked for, but it has ", own->bytes);
  source_->read_at(offsets_[static_cast<size_t>(own - tensors_.data())] + offset, out);
}

}  // namespace wick
