// Embedding: a table of rows by token id, which a tied output head may share.
#pragma once

#include <memory>
#include <utility>

#include "wick/nn/linear.h"
#include "wick/ops/embedding.h"
#include "wick/ops/linear.h"

namespace wick::nn {

class Embedding {
 public:
  // table: [V, D], plain or quantised; packed, so that as_linear() costs no second copy.
  Embedding(Context& ctx, const Tensor& table) : table_(std::make_shared<const PackedWeight>(ops::pack_weight(ctx, table))) {}
  explicit Embedding(std::shared_ptr<const PackedWeight> table) : table_(std::move(table)) {}

  // ids: [...] i32 or i64 → [..., D] f32. Errors as ops::embedding.
  Tensor forward(Context& ctx, const Tensor& ids) const { return ops::embedding(ctx, ids, *table_); }
  void forward(Context& ctx, const Tensor& ids, const Tensor& y) const { ops::embedding(ctx, ids, *table_, y); }
  // The tied output head: x [..., D] → [..., V].
  Linear as_linear() const { return Linear(table_); }

 private:
  std::shared_ptr<const PackedWeight> table_;
};

}  // namespace wick::nn
