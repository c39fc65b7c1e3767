// A whole decode step of one sequence, from its embedding to the logits, by one kernel: for models of the Llama shape on devices that have
// such a kernel. Not checked here: ops/ does that.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "wick/kernels/kv_page.h"
#include "wick/kernels/packed_weight.h"
#include "wick/kernels/step_batch.h"
#include "wick/tensor/context.h"

namespace wick {

// x += output(attention(rope(qkv(norm(x)))));  x += down(swiglu(gate_up(norm(x)))): norms with weights, no biases.
struct DecodeLayer {
  const float* attention_norm = nullptr;  // [D]
  const PackedWeight* qkv = nullptr;      // D -> (H + 2K) Dh, three segments
  const PackedWeight* output = nullptr;   // H Dh -> D
  const float* mlp_norm = nullptr;        // [D]
  const PackedWeight* gate_up = nullptr;  // D -> 2F, two segments
  const PackedWeight* down = nullptr;     // F -> D
};

struct DecodeModel {
  int32_t heads = 0, kv_heads = 0, head_dim = 0;  // H, K, Dh
  float eps = 0;                                  // of the norms
  std::vector<DecodeLayer> layers;
  const float* final_norm = nullptr;  // [D]
  const PackedWeight* head = nullptr;  // D -> V
};

struct DecodeStepArgs {
  const float* x = nullptr;  // [D] the token's embedding
  const float* cos = nullptr;  // [positions, half]; pairs (2i, 2i + 1)
  const float* sin = nullptr;
  int32_t half = 0;
  KvLayerView cache;        // of the first layer
  int64_t layer_bytes = 0;  // from one layer's pages to the next one's
  float* logits = nullptr;  // [V]
};

struct DecodeShape {
  int64_t layers, width, heads, kv_heads, head_dim, hidden;  // L, D, H, K, Dh, F
};

namespace cuda {

// How much memory of the device a kernel for such a model takes, at most.
uint64_t decode_kernel_bytes(const DecodeShape& shape);

// What the kernel keeps from step to step; for one stream.
class DecodeKernel;
// Null where there is no kernel for the model: weights have to be of bf16 or a block format, the same in all layers, inputs whole units of 128,
// heads of 64 or 128. Weights and norms must stay where they are.
std::shared_ptr<DecodeKernel> make_decode_kernel(Context& ctx, const DecodeModel& model, DType cache_type);
// To be called before every step, also one that is replayed: puts right what a step that failed has left.
void recover(Context& ctx, DecodeKernel& kernel);
// On ctx's stream. The batch has one row; its on_device is set. Activations are rounded once a product: to bf16 for bf16 weights, to integers
// of 16 bits with a scale for every 32 for block formats; those that pass from block to block lose the last of their 24 bits. The same step
// gives the same bits.
void decode_step(Context& ctx, DecodeKernel& kernel, const DecodeStepArgs& args, const StepBatch& batch);

}  // namespace cuda
}  // namespace wick
