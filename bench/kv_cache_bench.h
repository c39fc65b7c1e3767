// A cache that grows against one that is concatenated anew for every token.
#pragma once

#include <cstdint>

#include "wick/tensor/context.h"

namespace wick::bench {

struct KvCacheCost {
  double seconds = 0;       // of one append, on average
  uint64_t peak_bytes = 0;  // resident memory at its highest above what there was before; 0: unknown
};

struct KvCacheComparison {
  KvCacheCost cache;
  KvCacheCost concatenation;
};

// `tokens` appends of one bf16 position of 8 heads of 64. Concatenation is timed at 64 lengths evenly apart.
KvCacheComparison compare_kv_cache(Context& ctx, int64_t tokens);

}  // namespace wick::bench
