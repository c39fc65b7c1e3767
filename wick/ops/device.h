// Which kernels an op may call. Every device but the CPU has none of its own yet, so this is where such a call ends: with an Error.
#pragma once

#include "wick/base/error.h"
#include "wick/tensor/context.h"

namespace wick::ops {

// Throws Error(kUnsupported) naming the op and the device when ctx is not on the CPU.
inline void require_cpu(const Context& ctx, const char* op) {
  if (!ctx.device().is_cpu()) fail(ErrorCode::kUnsupported, op, ": there is no kernel for device ", ctx.device().name());
}

}  // namespace wick::ops
