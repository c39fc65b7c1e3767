// Which kernels an op runs: those of its context's device. A device without any gets an Error.
#pragma once

#include <string_view>

#include "wick/base/error.h"
#include "wick/tensor/context.h"

namespace wick::ops {

#ifdef WICK_CUDA
inline constexpr bool kHasCuda = true;
#else
inline constexpr bool kHasCuda = false;
#endif

inline bool is_cuda(const Device& device) {
  if constexpr (kHasCuda) return std::string_view(device.backend().name) == "cuda";
  return false;
}
inline bool on_cuda(const Context& ctx) { return is_cuda(ctx.device()); }

// Throws Error(kUnsupported) naming the op and the device when ctx is on a device without kernels, or not on the CPU.
inline void require_kernels(const Context& ctx, const char* op) {
  if (!ctx.device().is_cpu() && !on_cuda(ctx)) fail(ErrorCode::kUnsupported, op, ": there is no kernel for device ", ctx.device().name());
}
inline void require_cpu(const Context& ctx, const char* op) {
  if (!ctx.device().is_cpu()) fail(ErrorCode::kUnsupported, op, ": there is no kernel for device ", ctx.device().name());
}

// Calls the kernel of ctx's device: run_kernel<cpu::rope, cuda::rope>(ctx, args).
template <auto kCpu, auto kCuda, class... Args>
void run_kernel(Context& ctx, Args&&... args) {
  if constexpr (kHasCuda) {
    if (on_cuda(ctx)) return kCuda(ctx, args...);
  }
  kCpu(ctx, args...);
}

}  // namespace wick::ops
