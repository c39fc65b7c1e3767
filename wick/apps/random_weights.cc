#include "wick/apps/random_weights.h"

#include <cstring>

#include "wick/base/error.h"
#include "wick/base/splitmix.h"
#include "wick/kernels/block_format.h"

namespace wick::apps {
namespace {

constexpr int64_t kPieces = 4096;
constexpr int64_t kSmallPiece = 32;  // elements: whole blocks of every type, or of all but the K formats
constexpr int64_t kPiece = 256;

}  // namespace

RandomNumbers::RandomNumbers(std::string_view name, uint64_t stream) : state_(0xcbf29ce484222325u) {
  for (const char c : name) state_ = (state_ ^ static_cast<uint8_t>(c)) * 0x100000001b3u;  // FNV-1a
  state_ = splitmix_mix(state_ + splitmix_mix(stream));
}

uint64_t RandomNumbers::next() { return splitmix_mix(state_ += kSplitmixStep); }
uint64_t RandomNumbers::at(uint64_t index) const { return splitmix(state_, index); }

float RandomNumbers::normal() {
  // Twelve uniform numbers of 16 bits: their sum has a variance of 2^32 and a mean of 12 * 65535 / 2.
  int32_t sum = -12 * 65535 / 2;
  for (int draw = 0; draw < 3; ++draw) {
    for (uint64_t bits = next(), part = 0; part < 4; ++part, bits >>= 16) sum += static_cast<int32_t>(bits & 0xffffu);
  }
  return static_cast<float>(sum) * 0x1p-16f;
}

const std::string& RandomWeights::pieces(const Key& key) {
  std::string& bytes = pieces_[key];
  if (!bytes.empty()) return bytes;
  const auto& [type, elements, spread] = key;
  const uint64_t piece = dtype_bytes(type, static_cast<uint64_t>(elements));
  bytes.resize(kPieces * piece);
  pool_.parallel_for(kPieces, 1, [&, elements = elements, type = type, spread = spread](int64_t begin, int64_t end, int) {
    float values[kPiece];
    for (int64_t i = begin; i < end; ++i) {
      RandomNumbers numbers("pieces", static_cast<uint64_t>(i));
      for (int64_t e = 0; e < elements; ++e) values[e] = spread * numbers.normal();
      encode_blocks(type, values, elements, reinterpret_cast<std::byte*>(bytes.data()) + static_cast<uint64_t>(i) * piece);
    }
  });
  return bytes;
}

void RandomWeights::fill(const std::string& name, DType type, int64_t row, float spread, uint64_t offset, std::span<std::byte> out) {
  require(row % kSmallPiece == 0, "tensor '", name, "' has rows of ", row, " elements, expected a multiple of ", kSmallPiece);
  const int64_t elements = row % kPiece == 0 ? kPiece : kSmallPiece;
  const std::string& source = pieces({type, elements, spread});
  const uint64_t piece = dtype_bytes(type, static_cast<uint64_t>(elements));
  const uint64_t first = offset / piece;
  const RandomNumbers tensor(name);
  pool_.parallel_for(static_cast<int64_t>(out.size() / piece), kPieces, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) {
      const uint64_t drawn = tensor.at(first + static_cast<uint64_t>(i)) % kPieces;
      std::memcpy(out.data() + static_cast<uint64_t>(i) * piece, source.data() + drawn * piece, piece);
    }
  });
}

}  // namespace wick::apps
