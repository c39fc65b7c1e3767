#include "wick/kernels/convert.h"

#include <cstring>

#include "wick/kernels/ref/element.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "wick/kernels/cpu/convert.cc"
#include "wick/kernels/cpu/foreach_isa.h"
// After it: compiled per instruction set.
#include "wick/kernels/cpu/convert-inl.h"

HWY_BEFORE_NAMESPACE();
namespace wick::cpu {
namespace HWY_NAMESPACE {
namespace {
namespace hn = hwy::HWY_NAMESPACE;

template <class From, class To>
void copy(const From* from, To* to, int64_t n) {
  const hn::CappedTag<float, 16> d;
  constexpr int64_t kLanes = static_cast<int64_t>(hn::MaxLanes(hn::CappedTag<float, 16>()));
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) store(load(d, from + i), d, to + i);
  if (i < n) store_part(load_part(d, from + i, n - i), d, to + i, n - i);
}

template <class From>
void copy_from(const From* from, DType type, std::byte* to, int64_t n) {
  switch (type) {
    case DType::kF16: return copy(from, reinterpret_cast<F16*>(to), n);
    case DType::kBF16: return copy(from, reinterpret_cast<BF16*>(to), n);
    default: return copy(from, reinterpret_cast<float*>(to), n);
  }
}

}  // namespace

void convert_run(DType from_type, const std::byte* from, DType to_type, std::byte* to, int64_t n) {
  switch (from_type) {
    case DType::kF16: return copy_from(reinterpret_cast<const F16*>(from), to_type, to, n);
    case DType::kBF16: return copy_from(reinterpret_cast<const BF16*>(from), to_type, to, n);
    default: return copy_from(reinterpret_cast<const float*>(from), to_type, to, n);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace wick::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace wick::cpu {

void convert(Context& ctx, const RowsView& from, const RowsView& to) {
  const auto run = WICK_DISPATCH(ctx.isa(), convert_run);
  ctx.pool().parallel_for(from.count, share_grain(from.size), [&](int64_t begin, int64_t end, int) {
    for (int64_t row = begin; row < end; ++row) {
      if (from.step == 1 && to.step == 1) {
        run(from.type, from.at(row), to.type, to.at(row), from.size);
      } else {
        for (int64_t i = 0; i < from.size; ++i) ref::set(to, row, i, ref::get(from, row, i));
      }
    }
  });
}

void copy(Context& ctx, const RowsView& from, const RowsView& to) {
  const int64_t bytes = traits(from.type).bytes;
  ctx.pool().parallel_for(from.count, share_grain(from.size), [&](int64_t begin, int64_t end, int) {
    for (int64_t row = begin; row < end; ++row) {
      const std::byte* source = from.at(row);
      std::byte* target = to.at(row);
      if (from.step == 1 && to.step == 1) {
        std::memcpy(target, source, static_cast<size_t>(from.size * bytes));
        continue;
      }
      for (int64_t i = 0; i < from.size; ++i) std::memcpy(target + i * to.step * bytes, source + i * from.step * bytes, static_cast<size_t>(bytes));
    }
  });
}

}  // namespace wick::cpu
#endif
