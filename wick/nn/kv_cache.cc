#include "wick/nn/kv_cache.h"

#include <algorithm>
#include <limits>

#include "wick/base/checked.h"
#include "wick/base/error.h"
#include "wick/ops/copy.h"

namespace wick::nn {
namespace {

constexpr int64_t kManyChunks = 8;

void require_axis(const char* cache, int dim) {
  require(dim >= 0 && dim < Dims::kMaxRank, cache, ": dim is ", dim, ", expected 0 to ", Dims::kMaxRank - 1);
}

void check_pair(const Context& ctx, const char* cache, int dim, const Tensor& k, const Tensor& v) {
  require(k.defined() && v.defined(), cache, ": k or v is an empty handle, expected tensors");
  require(k.rank() == v.rank(), cache, ": k has rank ", k.rank(), " and v ", v.rank(), ", expected the same");
  require(dim < k.rank(), cache, ": k has rank ", k.rank(), ", expected more than dim, ", dim);
  require(k.dim(dim) == v.dim(dim), cache, ": k is ", k.shape(), " and v ", v.shape(), ": they differ in dimension ", dim);
  require(k.device() == ctx.device() && v.device() == ctx.device(), cache, ": k is on ", k.device().name(), ", v on ", v.device().name(),
          ", expected ", ctx.device().name());
}

void check_fits(const char* cache, const char* name, int dim, const Tensor& storage, const Tensor& added) {
  if (!storage.defined()) return;
  require(added.dtype() == storage.dtype(), cache, ": ", name, " is ", dtype_name(added.dtype()), ", the cache holds ", dtype_name(storage.dtype()));
  bool same = added.rank() == storage.rank();
  for (int i = 0; same && i < added.rank(); ++i) same = i == dim || added.shape()[i] == storage.shape()[i];
  require(same, cache, ": ", name, " is ", added.shape(), ", the cache holds ", storage.shape(), ": more than dimension ", dim, " differs");
}

// Room for `capacity` positions of tensors like `model`, the first of them those of `from`.
Tensor grow(Context& ctx, const Tensor& model, int dim, int64_t capacity, const Tensor& from) {
  Shape shape = model.shape();
  shape[dim] = capacity;
  Tensor storage = Tensor::empty(shape, model.dtype(), ctx.device());
  if (from.defined()) ops::copy(ctx, from, storage.slice(dim, 0, from.dim(dim)));
  return storage;
}

}  // namespace

KvCache::KvCache(int dim, int64_t chunk) : dim_(dim), chunk_(chunk) {
  require_axis("KvCache", dim);
  require(chunk >= 1, "KvCache: chunk is ", chunk, ", expected 1 or more");
}

Tensor KvCache::view(const Tensor& storage) const { return storage.defined() ? storage.slice(dim_, 0, length_) : Tensor(); }

int64_t KvCache::grown(int64_t needed) const {
  const int64_t target = capacity_ > kManyChunks * chunk_ ? std::max(needed, capacity_ + capacity_ / 2) : needed;
  return mul_or_fail(ceil_div(target, chunk_), chunk_, "KvCache: positions");
}

std::pair<Tensor, Tensor> KvCache::append(Context& ctx, const Tensor& k, const Tensor& v) {
  check_pair(ctx, "KvCache", dim_, k, v);
  check_fits("KvCache", "k", dim_, k_, k);
  check_fits("KvCache", "v", dim_, v_, v);
  const int64_t rows = k.dim(dim_);
  const int64_t needed = add_or_fail(length_, rows, "KvCache: positions");
  if (needed > capacity_ || !k_.defined()) {
    const int64_t capacity = grown(std::max<int64_t>(1, needed));
    Tensor keys = grow(ctx, k, dim_, capacity, this->k());
    Tensor values = grow(ctx, v, dim_, capacity, this->v());
    k_ = std::move(keys);
    v_ = std::move(values);
    capacity_ = capacity;
  }
  ops::copy(ctx, k, k_.slice(dim_, length_, needed));
  ops::copy(ctx, v, v_.slice(dim_, length_, needed));
  length_ = needed;
  return {this->k(), this->v()};
}

void KvCache::truncate(int64_t n) {
  require(n >= 0 && n <= length_, "KvCache: truncate to ", n, ", expected 0 to ", length_);
  length_ = n;
}

RotatingKvCache::RotatingKvCache(int dim, int64_t window) : dim_(dim), window_(window) {
  require_axis("RotatingKvCache", dim);
  require(window >= 1 && window <= std::numeric_limits<int64_t>::max() / 4, "RotatingKvCache: window is ", window, ", expected 1 or more");
}

Tensor RotatingKvCache::kept(const Tensor& storage) const {
  if (!storage.defined()) return {};
  const int64_t shown = std::min(count_, window_);
  return storage.slice(dim_, first_ + count_ - shown, first_ + count_);
}

std::vector<int64_t> RotatingKvCache::positions() const {
  const int64_t shown = std::min(count_, window_);
  std::vector<int64_t> result(static_cast<size_t>(shown));
  for (int64_t i = 0; i < shown; ++i) result[static_cast<size_t>(i)] = length_ - shown + i;
  return result;
}

// Forgets what no coming row sees, and makes room for the rows of k and v. Storage is twice the window: what is kept moves to the front
// of a new one once in a window of appends, so that keeping order costs amortised constant time.
void RotatingKvCache::make_room(Context& ctx, const Tensor& k, const Tensor& v) {
  const int64_t rows = k.dim(dim_);
  const int64_t kept_rows = std::min(count_, window_ - 1);
  const int64_t begin = first_ + count_ - kept_rows;
  if (!k_.defined() || begin + kept_rows > capacity_ - rows) {
    const int64_t capacity = std::max(capacity_, add_or_fail(2 * window_, rows, "RotatingKvCache: positions"));
    const auto moved = [&](const Tensor& model, const Tensor& storage) {
      return grow(ctx, model, dim_, capacity, storage.defined() ? storage.slice(dim_, begin, begin + kept_rows) : Tensor());
    };
    Tensor keys = moved(k, k_);
    Tensor values = moved(v, v_);
    k_ = std::move(keys);
    v_ = std::move(values);
    first_ = 0;
    capacity_ = capacity;
  } else {
    first_ = begin;
  }
  count_ = kept_rows;
}

std::pair<Tensor, Tensor> RotatingKvCache::append(Context& ctx, const Tensor& k, const Tensor& v) {
  check_pair(ctx, "RotatingKvCache", dim_, k, v);
  check_fits("RotatingKvCache", "k", dim_, k_, k);
  check_fits("RotatingKvCache", "v", dim_, v_, v);
  const int64_t rows = k.dim(dim_);
  if (rows == 0 && k_.defined()) return {this->k(), this->v()};
  make_room(ctx, k, v);
  const int64_t begin = first_ + count_;
  ops::copy(ctx, k, k_.slice(dim_, begin, begin + rows));
  ops::copy(ctx, v, v_.slice(dim_, begin, begin + rows));
  count_ += rows;
  length_ += rows;
  return {k_.slice(dim_, first_, first_ + count_), v_.slice(dim_, first_, first_ + count_)};
}

Tensor RotatingKvCache::mask(int64_t rows) const {
  require(rows >= 0, "RotatingKvCache: a mask of ", rows, " rows, expected 0 or more");
  const int64_t before = std::min(count_, window_ - 1);
  const int64_t keys = before + rows;
  Tensor mask = Tensor::empty({rows, keys}, DType::kF32);
  for (int64_t t = 0; t < rows; ++t) {
    for (int64_t j = 0; j < keys; ++j) {
      const int64_t distance = before + t - j;
      mask.data<float>()[t * keys + j] = distance >= 0 && distance < window_ ? 0.0f : -std::numeric_limits<float>::infinity();
    }
  }
  return mask;
}

void RotatingKvCache::reset() {
  length_ = 0;
  first_ = 0;
  count_ = 0;
}

}  // namespace wick::nn
