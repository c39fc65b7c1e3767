// What a device's linear does where it has no kernel for norm and swiglu on the way: its three kernels, one after the other.
#pragma once

#include "wick/kernels/activation.h"
#include "wick/kernels/linear.h"
#include "wick/kernels/norm.h"

namespace wick {

inline RowsView even_rows(DType type, const void* data, int64_t rows, int64_t size, int64_t stride) {
  RowsView view;
  view.data = static_cast<std::byte*>(const_cast<void*>(data));
  view.type = type;
  view.count = rows;
  view.size = size;
  view.leading = 1;
  view.sizes[0] = rows;
  view.strides[0] = stride;
  return view;
}
inline RowsView f32_rows(const float* data, int64_t rows, int64_t size, int64_t stride) {
  return even_rows(DType::kF32, data, rows, size, stride);
}

template <auto kNorm, auto kLinear, auto kActivation>
void linear_in_parts(Context& ctx, const LinearArgs& args) {
  const ScratchScope scope(ctx);
  const int64_t k = args.weight->k, outputs = args.weight->rows;
  LinearArgs product = args;
  product.norm = nullptr;
  product.swiglu = false;
  if (args.norm) {
    float* const normed = ctx.scratch<float>(args.rows * k).data();
    RmsNormArgs norm;
    norm.x = f32_rows(args.x, args.rows, k, args.ldx);
    norm.weight = reinterpret_cast<const std::byte*>(args.norm);
    norm.y = f32_rows(normed, args.rows, k, k);
    norm.eps = args.eps;
    kNorm(ctx, norm);
    product.x = normed;
    product.ldx = k;
  }
  if (args.swiglu) {
    product.y = ctx.scratch<float>(args.rows * outputs).data();
    product.ldy = outputs;
  }
  kLinear(ctx, product);
  if (!args.swiglu) return;
  const int64_t half = outputs / 2;
  kActivation(ctx, {Activation::kSilu, f32_rows(product.y, args.rows, half, outputs), f32_rows(product.y + half, args.rows, half, outputs),
                    f32_rows(args.y, args.rows, half, args.ldy)});
}

}  // namespace wick
