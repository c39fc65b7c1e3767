// Keys and values of one sequence (or a batch in step) as plain tensors, for blocks put together from ops. Not the engine's: that pages
// its cache (kv_pool.h).
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "wick/tensor/context.h"
#include "wick/tensor/tensor.h"

namespace wick::nn {

// Grows along one axis. The first append fixes what the other axes, the dtype and the device are, for K and V each.
class KvCache {
 public:
  // dim: the axis of positions, e.g. 2 of (B, K, S, Dh).  chunk: positions that storage grows by, >= 1. Error(kInvalidArgument) else.
  KvCache(int dim, int64_t chunk);

  // Adds the positions of k and v behind those there are and returns all: views, shaped as k and v but for dim. Either may have any strides;
  // no positions are legal. Storage grows by whole chunks, past eight of them at least to 1.5 times its size, so that appends cost
  // amortised constant time; it never holds more than 1.5 times what is in use and a chunk.
  // Views taken earlier stay valid: after growth they keep the old storage, else they see what is written later (after truncate).
  // Throws Error(kInvalidArgument) when rank, dtype, device or another axis differs from what is there, or k and v do not go together,
  // Error(kOutOfMemory); nothing has changed then.
  std::pair<Tensor, Tensor> append(Context& ctx, const Tensor& k, const Tensor& v);

  // All so far. Undefined before the first append.
  Tensor k() const { return view(k_); }
  Tensor v() const { return view(v_); }
  int64_t current_seq_len() const { return length_; }

  void reset() { length_ = 0; }  // keeps the storage
  // Forgets positions n and later. Error(kInvalidArgument) unless 0 <= n <= current_seq_len().
  void truncate(int64_t n);

 private:
  Tensor view(const Tensor& storage) const;
  int64_t grown(int64_t needed) const;

  int dim_;
  int64_t chunk_;
  int64_t length_ = 0;
  int64_t capacity_ = 0;
  Tensor k_;  // capacity_ positions
  Tensor v_;
};

// Keeps what the last `window` positions need. Everything is in the order of positions, always.
class RotatingKvCache {
 public:
  // dim as KvCache.  window: positions that a row sees, its own included, >= 1.
  RotatingKvCache(int dim, int64_t window);

  // Adds positions and returns the keys and values that they may see: those of the window before the first of them, and their own. Views,
  // valid until the next append. Errors as KvCache::append.
  std::pair<Tensor, Tensor> append(Context& ctx, const Tensor& k, const Tensor& v);

  // The last `window` positions, fewer at the start. Undefined before the first append.
  Tensor k() const { return kept(k_); }
  Tensor v() const { return kept(v_); }
  // The absolute position of each slot of k() and v(), ascending.
  std::vector<int64_t> positions() const;
  int64_t current_seq_len() const { return length_; }  // of all positions so far, kept or not

  // For the coming append of `rows` positions: what to add to scores [rows, S], S the positions that append will return: 0 where the row
  // sees the key, -inf where it comes later or has left the window.   f32.
  Tensor mask(int64_t rows) const;

  void reset();

 private:
  Tensor kept(const Tensor& storage) const;
  void make_room(Context& ctx, const Tensor& k, const Tensor& v);

  int dim_;
  int64_t window_;
  int64_t length_ = 0;
  int64_t first_ = 0;  // slot of storage that holds the oldest kept position
  int64_t count_ = 0;  // kept positions
  int64_t capacity_ = 0;
  Tensor k_;
  Tensor v_;
};

}  // namespace wick::nn
