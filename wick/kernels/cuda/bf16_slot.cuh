// 128 elements of each of eight rows of bf16 on their way through shared memory.
//
// They are copied as they lie together, 256 bytes of two rows at a time: memory gives a tenth more than for 64 bytes of eight rows.
#pragma once

#include "wick/kernels/cuda/tensor_core.cuh"

namespace wick::cuda {

struct alignas(32) Bf16Slot {
  static constexpr int kRows = 8;
  static constexpr int kChunks = 16;  // of 16 bytes, of a row

  // The row and the chunk that a lane copies first; the rows after it are kRowsApart further.
  static constexpr int kRowsApart = kWarp / kChunks;
  __device__ static int row_of(int lane) { return lane / kChunks; }
  __device__ static int chunk_of(int lane) { return lane % kChunks; }
  // Where that chunk is in memory, of rows from `first_row` on; `apart` as for ask().
  __device__ static const uint4* first_chunk(const std::byte* data, int first_row, int apart, int lane) {
    return reinterpret_cast<const uint4*>(data) + static_cast<int64_t>(first_row + row_of(lane)) * apart + chunk_of(lane);
  }

  // Chunks of every other row change places: so that the two rows that eight lanes read at the same time lie in different banks.
  __device__ uint4* at(int row, int chunk) { return &words[row][chunk ^ (row % 2 * 4)]; }
  __device__ const uint4* at(int row, int chunk) const { return &words[row][chunk ^ (row % 2 * 4)]; }

  // from: the lane's first chunk in memory. apart: from row to row, in chunks. last: how far the last row is from the lane's first; behind
  // it, and where a lane is not `inside`, there are zeros.
  __device__ void ask(const uint4* from, int apart, int last, bool inside, int lane, uint64_t policy) {
#pragma unroll
    for (int row = 0; row < kRows; row += kRowsApart) {
      copy16(at(row + row_of(lane), chunk_of(lane)), from + row * apart, inside && row <= last, policy);
    }
  }

  uint4 words[kRows][kChunks];
};

}  // namespace wick::cuda
