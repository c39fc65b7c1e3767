// splitmix64 (Steele, Lea, Flood 2014): random numbers that can be had in any order.
#pragma once

#include <cstdint>

namespace wick {

inline constexpr uint64_t kSplitmixStep = 0x9e3779b97f4a7c15u;

constexpr uint64_t splitmix_mix(uint64_t z) {
  z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
  z = (z ^ z >> 27) * 0x94d049bb133111ebu;
  return z ^ z >> 31;
}

// Number `index` of the sequence that `seed` begins.
constexpr uint64_t splitmix(uint64_t seed, uint64_t index) { return splitmix_mix(seed + (index + 1) * kSplitmixStep); }

}  // namespace wick
