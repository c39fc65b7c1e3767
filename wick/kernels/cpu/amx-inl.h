// AMX: the tiles of a thread, eight registers of up to 16 rows of 64 bytes.
#pragma once

#include <cstdint>

// Tiles by number, which has to be in the instruction. g++ 12's own intrinsics do not say what memory they read.
#define WICK_TILE_ZERO(tile) asm volatile("tilezero %%tmm" #tile : :)
#define WICK_TILE_LOAD(tile, from, stride) asm volatile("tileloadd (%0,%1,1), %%tmm" #tile : : "r"(from), "r"(stride) : "memory")
#define WICK_TILE_STORE(tile, to, stride) asm volatile("tilestored %%tmm" #tile ", (%0,%1,1)" : : "r"(to), "r"(stride) : "memory")
#define WICK_TILE_MULTIPLY(sums, x, w) asm volatile("tdpbf16ps %%tmm" #w ", %%tmm" #x ", %%tmm" #sums : :)
#define WICK_TILE_MULTIPLY_BYTES(sums, x, w) asm volatile("tdpbssd %%tmm" #w ", %%tmm" #x ", %%tmm" #sums : :)

namespace wick::cpu {
namespace {

constexpr int64_t kTileBytes = 1024;

// The shapes of the tiles; LDTILECFG reads it.
struct alignas(64) TileShapes {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t row_bytes[16] = {};
  uint8_t rows[16] = {};

  void set(int tile, int64_t tile_rows, int64_t bytes = 64) {
    rows[tile] = static_cast<uint8_t>(tile_rows);
    row_bytes[tile] = static_cast<uint16_t>(bytes);
  }
  void load() const { asm volatile("ldtilecfg %0" : : "m"(*this)); }
};

// After which a switch of threads has nothing of them to save.
inline void release_tiles() { asm volatile("tilerelease" : :); }

}  // namespace
}  // namespace wick::cpu
