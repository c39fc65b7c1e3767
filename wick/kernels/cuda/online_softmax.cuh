// Attention of one row and head in parts: the state of a softmax that is merged part by part, in base 2.
#pragma once

#include "wick/kernels/cuda/device.cuh"

namespace wick::cuda {

inline constexpr float kLog2E = 1.4426950408889634f;

// What makes a score of q·k, and which keys a row sees: the same for attention over pages and over plain tensors.
struct ScoreRule {
  float scale;    // log2 e included, unless there is a soft cap
  float softcap;  // 0: none
  const float* alibi;
  const float* sinks;

  // In base 2; `distance` is the key's position less the row's. What few models need stands apart: a kernel of a decode step waits for
  // every cache line of its code.
  __device__ float score(float product, int head, int64_t distance) const {
    const float s = product * scale;
    return softcap > 0 || alibi ? changed(s, head, distance) : s;
  }
  __device__ __noinline__ float changed(float s, int head, int64_t distance) const {
    if (softcap > 0) s = softcap * tanhf(s / softcap) * kLog2E;
    if (alibi) s += alibi[head] * kLog2E * static_cast<float>(distance);
    return s;
  }
};

inline ScoreRule make_score_rule(float scale, float softcap, const float* alibi, const float* sinks) {
  return {softcap > 0 ? scale : scale * kLog2E, softcap, alibi, sinks};
}

// A peak to subtract from scores: -infinity, of rows that have seen nothing yet, is no number to subtract.
__device__ inline float finite_peak(float peak) { return peak == -INFINITY ? 0 : peak; }

// Factor for what was summed under an older peak.
__device__ inline float rescale(float old_peak, float peak) { return old_peak == -INFINITY ? 0 : exp2f(old_peak - peak); }

// 1 / sum with the sink's share in it. 0 where no key was seen.
__device__ inline float final_factor(float peak, float sum, const float* sinks, int head) {
  if (sum == 0) return 0;
  if (!sinks) return 1 / sum;
  const float sink = sinks[head] * kLog2E;
  const float top = fmaxf(peak, sink);
  return rescale(peak, top) / (sum * rescale(peak, top) + exp2f(sink - top));
}

}  // namespace wick::cuda
