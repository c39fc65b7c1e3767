// A cache that looks as if a long prompt had been read, for speed tests: reading one takes minutes. Not for anything that looks at the answer.
#pragma once

#include <cstdint>

#include "wick/nn/kv_pool.h"
#include "wick/tensor/context.h"

namespace wick::nn {

// Adds `positions` positions to an empty `table` and writes ordinary numbers there: random in a page and the same ones in every page, each in
// memory of its own. positions >= 1. Throws as KvPool::append; Error(kOutOfMemory), too, when the pool has too few pages.
void make_up(Context& ctx, KvPool& pool, PageTable& table, int64_t positions);

}  // namespace wick::nn
