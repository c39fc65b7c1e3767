// Rotary position embedding: the tables of angles, and Rotary, which applies them. Not for the rotation inside the model's step, which is
// fused with the cache write and takes a RopeTable (kernels/kv_append.h).
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "wick/tensor/context.h"
#include "wick/tensor/tensor.h"

namespace wick::nn {

enum class RopeScaling {
  kNone,
  kLinear,  // every frequency divided by factor (position interpolation)
  kLlama3,  // by wavelength w = 2 pi / frequency: below original_context / high_freq_factor kept, above original_context / low_freq_factor
            // divided by factor, between blended: ((1 - s) / factor + s) * frequency, s = (original_context / w - low) / (high - low)
  kDynamic,   // dynamic NTK: theta grows with the length L = max(length, original_context):
              // theta * (factor * L / original_context - (factor - 1))^(R / (R - 2))
  kYarn,      // frequencies that turn often within original_context are kept, slow ones divided by factor, a ramp between; cos and sin
              // are scaled by attention_factor (Peng et al. 2023, arXiv:2309.00071)
  kLongRope,  // frequency i divided by short_factors[i], or by long_factors[i] when length exceeds original_context; cos and sin scaled
              // by attention_factor (Ding et al. 2024, arXiv:2402.13753)
};
// All as Hugging Face transformers defines them, except that what depends on the length is chosen once, from RopeConfig::length, and not
// anew as a sequence grows: results then do not depend on how it was cut.

struct RopeConfig {
  double theta = 10000;
  int64_t rotary_dim = 0;     // R: rotated elements of a head, even
  int64_t max_positions = 0;  // the tables never grow past this
  RopeScaling scaling = RopeScaling::kNone;
  double factor = 1;
  double low_freq_factor = 1;
  double high_freq_factor = 4;
  int64_t original_context = 8192;
  int64_t length = 0;           // kDynamic, kLongRope: the most positions the sequence may reach; 0: max_positions
  double beta_fast = 32;        // kYarn: turns within original_context above which a frequency is kept
  double beta_slow = 1;         // kYarn: and below which it is divided by factor
  double attention_factor = 0;  // kYarn, kLongRope: 0: 0.1 ln(factor) + 1, and sqrt(1 + ln(factor) / ln(original_context)); factor > 1
  Tensor short_factors;         // kLongRope: [R / 2] f32 on the CPU
  Tensor long_factors;
  Tensor frequency_factors;  // optional, [R / 2] f32 on the CPU: each frequency is divided by its own, before any scaling
                             // ("rope_freqs.weight")
};

// theta^(-2i / R), i < R / 2, scaled as the config says; in f64.
// Throws Error(kInvalidArgument) naming the field for a config that has no meaning.
std::vector<double> rope_frequencies(const RopeConfig& config);
// What cos and sin are multiplied by.
double rope_magnitude(const RopeConfig& config);

// cos and sin of position * frequency, times rope_magnitude, [positions, R / 2]: angles in f64, rounded to f32 at the end. Grows on demand, so that a long
// context costs nothing until it is used. Not safe to grow while another thread reads cos() or sin(); tensors taken earlier stay valid.
class RopeTable {
 public:
  // Builds no rows. Throws as rope_frequencies.
  explicit RopeTable(const RopeConfig& config);

  int64_t positions() const { return positions_; }
  int64_t max_positions() const { return max_positions_; }
  int64_t half() const { return static_cast<int64_t>(frequencies_.size()); }  // R / 2

  // Makes rows 0 .. positions - 1 exist, with ctx's threads. Grows at least by half, by whole kChunk. Does nothing when they are there.
  // Throws Error(kLimitExceeded) past max_positions, Error(kInvalidArgument) below 0, Error(kOutOfMemory); then nothing has changed.
  void ensure(Context& ctx, int64_t positions);

  // [positions(), R / 2] f32, contiguous, on the device of the last ensure() that grew it.
  const Tensor& cos() const { return cos_; }
  const Tensor& sin() const { return sin_; }

 private:
  static constexpr int64_t kChunk = 256;
  std::vector<double> frequencies_;
  double magnitude_;
  int64_t max_positions_;
  int64_t positions_ = 0;
  Tensor cos_;
  Tensor sin_;
};

// Rotates queries and keys, q (B, H, T, Dh) and k (B, K, T, Dh) of any dtype that ops::rope takes with f32 tables.
class Rotary {
 public:
  // interleaved: pairs (2i, 2i + 1), else (i, i + R / 2).
  explicit Rotary(const RopeConfig& config, bool interleaved = false) : table_(config), interleaved_(interleaved) {}

  // Rotated copies of q and k, whose rows stand at positions position .. position + T - 1.
  // Throws what RopeTable::ensure and ops::rope throw.
  std::pair<Tensor, Tensor> forward(Context& ctx, const Tensor& q, const Tensor& k, int64_t position);
  // The same with a position for each row: positions [T], shared by the batch, or [B, T]; i32, any view.
  std::pair<Tensor, Tensor> forward(Context& ctx, const Tensor& q, const Tensor& k, const Tensor& positions);

  const RopeTable& table() const { return table_; }

 private:
  std::pair<Tensor, Tensor> rotate(Context& ctx, const Tensor& q, const Tensor& k, const Tensor& cos, const Tensor& sin) const;

  RopeTable table_;
  bool interleaved_;
};

}  // namespace wick::nn
