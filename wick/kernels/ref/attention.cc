#include "wick/kernels/attention.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "wick/base/function_ref.h"
#include "wick/kernels/kv_append.h"
#include "wick/tensor/half.h"

namespace wick::ref {
namespace {

// y = Σ_j softmax(scores)_j · value(j) over keys [begin, end), zeros when there are none. A sink is one more score, without a value.
void attend(int64_t begin, int64_t end, int64_t dim, const float* sink, FunctionRef<double(int64_t j)> score, FunctionRef<double(int64_t j, int64_t d)> value,
            FunctionRef<void(int64_t d, double y)> put) {
  std::vector<double> weights;
  double peak = -INFINITY;
  for (int64_t j = begin; j < end; ++j) {
    weights.push_back(score(j));
    peak = std::max(peak, weights.back());
  }
  if (sink) peak = std::max(peak, double{*sink});
  double sum = sink ? std::exp(*sink - peak) : 0;
  for (double& w : weights) sum += w = std::exp(w - peak);
  for (int64_t d = 0; d < dim; ++d) {
    double y = 0;
    for (int64_t j = begin; j < end; ++j) y += weights[static_cast<size_t>(j - begin)] * value(j, d);
    put(d, begin < end ? y / sum : 0);
  }
}

double capped(double score, double softcap) { return softcap > 0 ? softcap * std::tanh(score / softcap) : score; }

float get(const HeadsView& view, int64_t b, int64_t head, int64_t position, int64_t d) {
  const std::byte* p = view.at(b, head, position) + d * view.strides[3] * traits(view.type).bytes;
  if (view.type == DType::kF32) return *reinterpret_cast<const float*>(p);
  const uint16_t bits = *reinterpret_cast<const uint16_t*>(p);
  return view.type == DType::kF16 ? f16_to_f32(bits) : bf16_to_f32(bits);
}

void set(const HeadsView& view, int64_t b, int64_t head, int64_t position, int64_t d, double y) {
  std::byte* p = view.at(b, head, position) + d * view.strides[3] * traits(view.type).bytes;
  const float value = static_cast<float>(y);
  if (view.type == DType::kF32) {
    *reinterpret_cast<float*>(p) = value;
  } else {
    *reinterpret_cast<uint16_t*>(p) = view.type == DType::kF16 ? f32_to_f16(value) : f32_to_bf16(value);
  }
}

}  // namespace

void paged_attention(const AttentionArgs& args, const StepBatch& batch, const KvLayerView& cache) {
  const int64_t dim = cache.layout.head_dim;
  const int64_t group = args.heads / cache.layout.kv_heads;
  std::vector<float> q(static_cast<size_t>(dim));
  for (int32_t b = 0; b < batch.sequences; ++b) {
    const int32_t* table = batch.page_table + int64_t{b} * batch.table_stride;
    for (int64_t row = batch.first_row[b]; row < batch.first_row[b + 1]; ++row) {
      const int64_t end = batch.positions[row] + int64_t{1};
      const int64_t begin = args.window > 0 ? std::max<int64_t>(0, end - args.window) : 0;
      for (int64_t h = 0; h < args.heads; ++h) {
        std::copy_n(args.q + row * args.q_stride + h * dim, dim, q.begin());
        float* out = args.out + row * args.out_stride + h * dim;
        const auto score = [&](int64_t j) {
          double sum = 0;
          for (int64_t d = 0; d < dim; ++d) {
            sum += double{q[static_cast<size_t>(d)]} * key_at(cache, table[j / kPagePositions], h / group, j % kPagePositions, d);
          }
          return capped(sum * args.scale, args.softcap) + (args.alibi ? double{args.alibi[h]} * static_cast<double>(j - (end - 1)) : 0);
        };
        const auto value = [&](int64_t j, int64_t d) {
          return double{value_at(cache, table[j / kPagePositions], h / group, j % kPagePositions, d)};
        };
        attend(begin, end, dim, args.sinks ? args.sinks + h : nullptr, score, value, [&](int64_t d, double y) { out[d] = static_cast<float>(y); });
      }
    }
  }
}

void attention(const DenseAttentionArgs& args) {
  const int64_t group = args.heads / args.kv_heads;
  for (int64_t b = 0; b < args.batch; ++b) {
    for (int64_t h = 0; h < args.heads; ++h) {
      for (int64_t t = 0; t < args.rows; ++t) {
        const int64_t end = args.causal ? std::max<int64_t>(0, t + args.keys - args.rows + 1) : args.keys;
        const int64_t begin = args.window > 0 ? std::max<int64_t>(0, end - args.window) : 0;
        const auto score = [&](int64_t j) {
          double sum = 0;
          for (int64_t d = 0; d < args.head_dim; ++d) sum += double{get(args.q, b, h, t, d)} * get(args.k, b, h / group, j, d);
          return capped(sum * args.scale, args.softcap) + (args.alibi ? double{args.alibi[h]} * static_cast<double>(j - (end - 1)) : 0);
        };
        attend(
            begin, end, args.head_dim, args.sinks ? args.sinks + h : nullptr, score, [&](int64_t j, int64_t d) { return double{get(args.v, b, h / group, j, d)}; },
            [&](int64_t d, double y) { set(args.y, b, h, t, d, y); });
      }
    }
  }
}

}  // namespace wick::ref
