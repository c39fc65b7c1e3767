#include "wick/ops/draw.h"

#include "wick/ops/arguments.h"
#include "wick/ops/device.h"

namespace wick::ops {
namespace {

void check_ids(Context& ctx, const Tensor& logits, const Argument& ids) {
  const Tensor& tensor = ids.tensor;
  if (tensor.defined() && tensor.device() == ctx.device() && tensor.dtype() == DType::kI32 && tensor.rank() == 1 &&
      tensor.dim(0) == logits.dim(0) && tensor.is_contiguous()) {
    return;
  }
  fail(ErrorCode::kInvalidArgument, "draw_tokens: ", ids.name, " is not contiguous i32 [", logits.dim(0), "] on device ",
       ctx.device().name());
}

}  // namespace

void draw_tokens(Context& ctx, const Tensor& logits, const TokenDraw* draws, const Tensor& y, const Tensor& next) {
  require_kernels(ctx, "draw_tokens");
  require_floating(ctx, "draw_tokens", {{"logits", logits}});
  require(logits.rank() == 2 && logits.dtype() == DType::kF32 && logits.is_contiguous(), "draw_tokens: logits are ",
          dtype_name(logits.dtype()), " ", logits.shape().to_string(), ", expected contiguous f32 [N, V]");
  require(logits.dim(1) >= 1 && logits.dim(1) <= kMostDrawTokens, "draw_tokens: a row of logits has ", logits.dim(1),
          " elements, expected 1 to ", kMostDrawTokens);
  check_ids(ctx, logits, {"y", y});
  check_ids(ctx, logits, {"next", next});
  if (logits.dim(0) == 0) return;
  run_kernel<cpu::draw_tokens, cuda::draw_tokens>(ctx, DrawArgs{rows_of(logits), draws, y.data<int32_t>(), next.data<int32_t>()});
}

}  // namespace wick::ops
