#include "bench/op_case.h"

#include <algorithm>
#include <cmath>
#include <memory>

#include "bench/naive_ops.h"
#include "wick/kernels/attention.h"
#include "wick/kernels/linear.h"
#include "wick/ops/arguments.h"
#include "wick/wick.h"

namespace wick::bench {
namespace {

// Sizes of Llama-3.2-1B.
constexpr int64_t kHeads = 32, kKvHeads = 8, kHeadDim = 64, kModel = 2048, kHidden = 8192;
constexpr int64_t kVocab = 32768;
constexpr int64_t kScores = 512;        // of a softmax row
constexpr double kTwinOperations = 2e8;  // what a twin of a product may cost before it does a share of the rows
constexpr float kEps = 1e-5f;

// The sum of four uniform numbers, scaled to a variance of 1; a block of them repeated, since making them takes longer than the measurement.
Tensor normal(const Shape& shape, DType type, float scale = 1) {
  constexpr int64_t kBlock = (int64_t{1} << 16) - 17;
  std::vector<float> block(kBlock);
  uint64_t state = 0;
  for (float& value : block) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    float sum = -2;
    for (int shift = 0; shift < 64; shift += 16) sum += static_cast<float>(state >> shift & 0xffff) / 65536.0f;
    value = sum * 1.7320508f * scale;
  }
  const Tensor values = Tensor::from_values(block, {kBlock}).to(type);
  Tensor y = Tensor::empty(shape, type);
  for (int64_t begin = 0; begin < y.elements(); begin += kBlock) {
    const int64_t count = std::min(kBlock, y.elements() - begin);
    std::copy_n(values.raw(), static_cast<int64_t>(dtype_bytes(type, static_cast<uint64_t>(count))), y.raw() + dtype_bytes(type, static_cast<uint64_t>(begin)));
  }
  return y;
}

uint64_t bytes_of(std::initializer_list<const Tensor*> tensors) {
  uint64_t bytes = 0;
  for (const Tensor* tensor : tensors) bytes += tensor->bytes();
  return bytes;
}

// Where ctx's ops take it.
Tensor here(const Context& ctx, const Tensor& x) { return x.to(ctx.device()); }

// A share of the first dimension of x, at least one row, and what part that is.
std::pair<Tensor, double> first_rows(const Tensor& x, double part) {
  const int64_t rows = std::clamp<int64_t>(static_cast<int64_t>(static_cast<double>(x.dim(0)) * part), 1, x.dim(0));
  return {x.slice(0, 0, rows), static_cast<double>(rows) / static_cast<double>(x.dim(0))};
}

nn::RopeConfig rope_config(int64_t positions, int64_t rotary_dim) {
  nn::RopeConfig config;
  config.rotary_dim = rotary_dim;
  config.max_positions = positions;
  return config;
}

struct Angles {
  Tensor cos, sin;  // [T, R / 2] f32
};

Angles angles(Context& ctx, int64_t positions, int64_t rotary_dim) {
  nn::RopeTable table(rope_config(positions, rotary_dim));
  table.ensure(ctx, positions);
  return {table.cos(), table.sin()};
}

// An op of `in` into y, the same on f64 as its twin. Both op(in..., y) and op(in...), which makes a new output, must be there.
template <class Op, class Naive, class... Inputs>
OpSetup memory_bound(Context& ctx, nlohmann::json shape, const Tensor& y, Op op, Naive naive_way, const Inputs&... in) {
  OpSetup setup;
  setup.shape = std::move(shape);
  setup.bytes = bytes_of({&y, &in...});
  setup.wick.run = [op, out = here(ctx, y), ... own = here(ctx, in)] { op(own..., out); };
  setup.fresh.run = [op, ... own = here(ctx, in)] { op(own...); };
  setup.twin.run = [op, y64 = y.to(DType::kF64), ... in64 = in.to(DType::kF64)] { op(in64..., y64); };
  setup.naive.run = [=] { naive_way(in...); };
  return setup;
}

using RopeInto = void (*)(Context&, const Tensor&, const Tensor&, const Tensor&, const Tensor&);
using RopeFresh = Tensor (*)(Context&, const Tensor&, const Tensor&, const Tensor&);
using NaiveRope = Tensor (*)(const Tensor&, const Tensor&, const Tensor&);

template <RopeInto kInto, RopeFresh kFresh, NaiveRope kNaive, bool kPositionsFirst>
OpSetup rope_setup(Context& ctx, DType type, int64_t tokens) {
  const Tensor x = normal(kPositionsFirst ? Shape{1, tokens, kHeads, kHeadDim} : Shape{1, kHeads, tokens, kHeadDim}, type);
  const Angles table = angles(ctx, tokens, kHeadDim);
  const auto op = [&ctx](const Tensor& in, const Tensor& cos, const Tensor& sin, const auto&... y) {
    if constexpr (sizeof...(y) == 1) {
      kInto(ctx, in, cos, sin, y...);
    } else {
      kFresh(ctx, in, cos, sin);
    }
  };
  const Tensor cos = table.cos.to(Device::cpu()), sin = table.sin.to(Device::cpu());
  const auto naive_way = [cos = cos.to(type), sin = sin.to(type)](const Tensor& in, const Tensor&, const Tensor&) {
    if (kPositionsFirst) {
      naive::contiguous(kNaive(naive::contiguous(in.transpose(1, 2)), cos, sin).transpose(1, 2));
    } else {
      kNaive(in, cos, sin);
    }
  };
  return memory_bound(ctx, {{"T", tokens}, {"H", kHeads}, {"Dh", kHeadDim}}, Tensor::zeros(x.shape(), type), op, naive_way, x, cos, sin);
}

nlohmann::json rows_shape(int64_t rows, int64_t size) { return {{"rows", rows}, {"N", size}}; }

// Ops on rows of x alone.
using RowsInto = void (*)(Context&, const Tensor&, const Tensor&);
using RowsFresh = Tensor (*)(Context&, const Tensor&);
using NaiveRows = Tensor (*)(const Tensor&);

template <RowsInto kInto, RowsFresh kFresh, class Naive>
OpSetup rows_setup(Context& ctx, const Tensor& x, int64_t size, Naive naive_way) {
  const auto op = [&ctx](const Tensor& in, const auto&... y) {
    if constexpr (sizeof...(y) == 1) {
      kInto(ctx, in, y...);
    } else {
      kFresh(ctx, in);
    }
  };
  return memory_bound(ctx, rows_shape(x.dim(0), size), Tensor::zeros({x.dim(0), size}, x.dtype()), op, naive_way, x);
}

void softmax_into(Context& ctx, const Tensor& x, const Tensor& y) { ops::softmax(ctx, x, -1, y); }
Tensor softmax_fresh(Context& ctx, const Tensor& x) { return ops::softmax(ctx, x, -1); }
void log_softmax_into(Context& ctx, const Tensor& x, const Tensor& y) { ops::log_softmax(ctx, x, -1, y); }
Tensor log_softmax_fresh(Context& ctx, const Tensor& x) { return ops::log_softmax(ctx, x, -1); }

template <RowsInto kInto, RowsFresh kFresh, NaiveRows kNaive, int64_t kRowsPerToken, int64_t kSize>
OpSetup plain_setup(Context& ctx, DType type, int64_t tokens) {
  return rows_setup<kInto, kFresh>(ctx, normal({tokens * kRowsPerToken, kSize}, type), kSize, [](const Tensor& x) { kNaive(x); });
}

template <RowsInto kInto, RowsFresh kFresh, NaiveRows kNaive>
OpSetup gated_setup(Context& ctx, DType type, int64_t tokens) {
  return rows_setup<kInto, kFresh>(ctx, normal({tokens, 2 * kHidden}, type), kHidden, [](const Tensor& x) {
    naive::multiply(kNaive(naive::narrow(x, 1, 0, kHidden)), naive::narrow(x, 1, kHidden, 2 * kHidden));
  });
}

// Norms of rows of kModel.
template <class Op, class Naive, class... Inputs>
OpSetup norm_setup(Context& ctx, Op op, Naive naive_way, const Tensor& x, const Inputs&... others) {
  return memory_bound(ctx, rows_shape(x.dim(0), kModel), Tensor::zeros(x.shape(), x.dtype()), op, naive_way, x, others...);
}

OpSetup rms_norm_setup(Context& ctx, DType type, int64_t tokens) {
  return norm_setup(
      ctx, [&ctx](const Tensor& x, const Tensor& w, const auto&... y) { ops::rms_norm(ctx, x, w, kEps, y...); },
      [](const Tensor& x, const Tensor& w) { naive::rms_norm(x, w, kEps); },  //
      normal({tokens, kModel}, type), normal({kModel}, type));
}

OpSetup add_rms_norm_setup(Context& ctx, DType type, int64_t tokens) {
  const Tensor residual = normal({tokens, kModel}, type);
  OpSetup setup = norm_setup(
      ctx, [&ctx](const Tensor& x, const Tensor& r, const Tensor& w, const auto&... y) { ops::add_rms_norm(ctx, x, r, w, kEps, y...); },
      [](const Tensor& x, const Tensor& r, const Tensor& w) { naive::rms_norm(naive::add(r, x), w, kEps); },
      normal(residual.shape(), type, 1e-3f), residual, normal({kModel}, type));
  setup.bytes += residual.bytes();  // read and written
  return setup;
}

OpSetup layer_norm_setup(Context& ctx, DType type, int64_t tokens) {
  return norm_setup(
      ctx, [&ctx](const Tensor& x, const Tensor& w, const Tensor& b, const auto&... y) { ops::layer_norm(ctx, x, w, b, kEps, y...); },
      [](const Tensor& x, const Tensor& w, const Tensor& b) { naive::layer_norm(x, w, b, kEps); },
      normal({tokens, kModel}, type), normal({kModel}, type), normal({kModel}, type));
}

// Operations of a product of `rows` rows, and the share of them that a twin may take.
double product_operations(int64_t rows, int64_t k, int64_t n) { return 2.0 * static_cast<double>(rows) * static_cast<double>(k) * static_cast<double>(n); }
double twin_part(double operations) { return std::min(1.0, kTwinOperations / operations); }

Way linear_twin(Context& ctx, const Tensor& x, const Tensor& weight, double operations) {
  if (!ctx.device().is_cpu()) return {};
  const auto packed = std::make_shared<PackedWeight>(ops::pack_weight(ctx, weight));
  const auto rows = first_rows(x, twin_part(operations));
  const Tensor y = Tensor::empty({rows.first.dim(0), weight.dim(0)}, DType::kF32);
  const Tensor x32 = rows.first.to(DType::kF32);
  return {[=, &ctx] {
            LinearArgs args;
            args.x = x32.data<float>();
            args.ldx = x32.dim(1);
            args.rows = x32.dim(0);
            args.weight = packed.get();
            args.y = y.data<float>();
            args.ldy = y.dim(1);
            ref::linear(ctx, args);
          },
          rows.second};
}

// y = x W^T with W packed once, as a model does. The naive way multiplies with W as it is, a plain tensor.
OpSetup linear_setup(Context& ctx, DType type, int64_t tokens) {
  const Tensor x = normal({tokens, kModel}, type), w = normal({kHidden, kModel}, type, 0.02f), y = Tensor::zeros({tokens, kHidden}, type);
  const auto packed = std::make_shared<PackedWeight>(ops::pack_weight(ctx, w));
  OpSetup setup;
  setup.shape = {{"T", tokens}, {"K", kModel}, {"N", kHidden}};
  setup.operations = product_operations(tokens, kModel, kHidden);
  const Tensor in = here(ctx, x), out = here(ctx, y);
  setup.wick.run = [=, &ctx] { ops::linear(ctx, in, *packed, out); };
  setup.fresh.run = [=, &ctx] { ops::linear(ctx, in, *packed); };
  setup.twin = linear_twin(ctx, x, w, setup.operations);
  setup.naive.run = [=, &ctx] { ops::matmul(ctx, x, w.transpose(0, 1)); };
  return setup;
}

OpSetup matmul_setup(Context& ctx, DType type, int64_t tokens) {
  constexpr int64_t kBatch = 8, kInner = 256, kOuter = 512;
  const Tensor a = normal({kBatch, tokens, kInner}, type), b = normal({kBatch, kInner, kOuter}, type), y = Tensor::zeros({kBatch, tokens, kOuter}, type);
  OpSetup setup;
  setup.shape = {{"B", kBatch}, {"T", tokens}, {"K", kInner}, {"N", kOuter}};
  setup.operations = product_operations(kBatch * tokens, kInner, kOuter);
  const Tensor left = here(ctx, a), right = here(ctx, b), out = here(ctx, y);
  setup.wick.run = [=, &ctx] { ops::matmul(ctx, left, right, out); };
  setup.fresh.run = [=, &ctx] { ops::matmul(ctx, left, right); };
  const auto few = first_rows(a.transpose(0, 1), twin_part(setup.operations));
  const Tensor a64 = few.first.transpose(0, 1).to(DType::kF64), b64 = b.to(DType::kF64);
  setup.twin = {[=, &ctx] { ops::matmul(ctx, a64, b64); }, few.second};
  return setup;
}

OpSetup qkv_setup(Context& ctx, DType type, int64_t tokens) {
  const Tensor x = normal({1, tokens, kModel}, type);
  const Tensor q = normal({kHeads * kHeadDim, kModel}, type, 0.02f), k = normal({kKvHeads * kHeadDim, kModel}, type, 0.02f), v = normal(k.shape(), type, 0.02f);
  const auto projection = std::make_shared<nn::QkvProjection>(ctx, nn::HeadDims{kHeads, kKvHeads, kHeadDim}, q, k, v);
  std::vector<std::shared_ptr<PackedWeight>> weights;
  for (const Tensor* w : {&q, &k, &v}) weights.push_back(std::make_shared<PackedWeight>(ops::pack_weight(ctx, *w)));
  OpSetup setup;
  setup.shape = {{"T", tokens}, {"D", kModel}, {"H", kHeads}, {"K", kKvHeads}, {"Dh", kHeadDim}};
  setup.operations = product_operations(tokens, kModel, (kHeads + 2 * kKvHeads) * kHeadDim);
  const Tensor in = here(ctx, x);
  setup.wick.run = [=, &ctx] { projection->forward(ctx, in); };
  setup.naive.run = [=, &ctx] {  // three products, each transposed by a copy
    for (const auto& w : weights) {
      const Tensor y = ops::linear(ctx, x, *w);
      naive::contiguous(y.reshape({1, y.dim(1), y.dim(2) / kHeadDim, kHeadDim}).transpose(1, 2));
    }
  };
  return setup;
}

// The ids of turn `set`, no row twice until the table is used up.
Tensor some_ids(int64_t tokens, int64_t set) {
  const Tensor ids = Tensor::empty({tokens}, DType::kI32);
  for (int64_t i = 0; i < tokens; ++i) ids.data<int32_t>()[i] = static_cast<int32_t>((set * tokens + i) * 7919 % kVocab);
  return ids;
}

OpSetup embedding_setup(Context& ctx, DType type, int64_t tokens) {
  const Tensor table = here(ctx, normal({kVocab, kModel}, type)), y = here(ctx, Tensor::zeros({tokens, kModel}, type));
  OpSetup setup;
  setup.shape = {{"T", tokens}, {"V", kVocab}, {"D", kModel}};
  setup.bytes = bytes_of({&y, &y});
  const Tensor rows = here(ctx, some_ids(tokens, 0));
  setup.wick.run = [=, &ctx] { ops::embedding(ctx, rows, table, y); };
  setup.fresh.run = [=, &ctx] { ops::embedding(ctx, rows, table); };
  // A model has one table: other rows of it, not of another one.
  setup.elsewhere = [=, &ctx](int64_t set) -> std::function<void()> {
    const Tensor others = here(ctx, some_ids(tokens, set)), out = here(ctx, Tensor::zeros({tokens, kModel}, type));
    return [=, &ctx] { ops::embedding(ctx, others, table, out); };
  };
  return setup;
}

// Of some heads only, where all would take too long.
Way attention_twin(const Tensor& q, const Tensor& k, const Tensor& v, double operations) {
  const int64_t heads = std::max<int64_t>(1, static_cast<int64_t>(kKvHeads * twin_part(operations)));
  DenseAttentionArgs args;
  const Tensor y = Tensor::zeros(q.shape(), q.dtype());
  args.q = ops::heads_view(q);
  args.k = ops::heads_view(k);
  args.v = ops::heads_view(v);
  args.y = ops::heads_view(y);
  args.batch = 1;
  args.heads = args.kv_heads = heads;
  args.rows = q.dim(2);
  args.keys = k.dim(2);
  args.head_dim = kHeadDim;
  args.scale = 0.125f;
  args.causal = true;
  return {[=] {
            (void)y;
            ref::attention(args);
          },
          static_cast<double>(heads) / kHeads};
}

OpSetup attention_setup(Context& ctx, DType type, int64_t tokens) {
  constexpr int64_t kLeastKeys = 512, kMostNaive = 1024;
  const int64_t keys = std::max(tokens, kLeastKeys);
  const Tensor q = normal({1, kHeads, tokens, kHeadDim}, type), k = normal({1, kKvHeads, keys, kHeadDim}, type), v = normal(k.shape(), type);
  const Tensor y = Tensor::zeros(q.shape(), type);
  const double pairs = static_cast<double>(tokens) * (static_cast<double>(keys) - static_cast<double>(tokens - 1) / 2);
  OpSetup setup;
  setup.shape = {{"T", tokens}, {"S", keys}, {"H", kHeads}, {"K", kKvHeads}, {"Dh", kHeadDim}};
  setup.operations = 4.0 * kHeads * kHeadDim * pairs;
  const Tensor queries = here(ctx, q), keys_here = here(ctx, k), values = here(ctx, v), out = here(ctx, y);
  setup.wick.run = [=, &ctx] { ops::attention(ctx, queries, keys_here, values, {.causal = true}, out); };
  setup.fresh.run = [=, &ctx] { ops::attention(ctx, queries, keys_here, values, {.causal = true}); };
  setup.twin = attention_twin(q, k, v, setup.operations);
  const int64_t groups = tokens > kMostNaive ? 1 : kKvHeads;  // whole score matrices of all heads would not fit
  const Tensor some_q = q.slice(1, 0, groups * (kHeads / kKvHeads)), some_k = k.slice(1, 0, groups), some_v = v.slice(1, 0, groups);
  setup.naive = {[=, &ctx] { naive::attention(ctx, some_q, some_k, some_v); }, static_cast<double>(groups) / kKvHeads};
  return setup;
}

// One layer of a Llama model without its cache: norms, attention, MLP, residuals.
struct Layer {
  static constexpr int64_t kD = 576, kH = 9, kK = 3, kF = 1536;  // SmolLM2-135M
  Tensor norm, q, k, v, gate, up;
  PackedWeight qw, kw, vw, ow, gatew, upw, downw;
  nn::Attention attention;
  nn::Mlp mlp;
  Tensor cos, sin;

  static Tensor weight(int64_t rows, int64_t columns, DType type) { return normal({rows, columns}, type, 1 / std::sqrt(static_cast<float>(columns))); }

  Layer(Context& ctx, DType type, int64_t tokens)
      : norm(normal({kD}, type)), q(weight(kH * kHeadDim, kD, type)), k(weight(kK * kHeadDim, kD, type)), v(weight(kK * kHeadDim, kD, type)),
        gate(weight(kF, kD, type)), up(weight(kF, kD, type)),
        qw(ops::pack_weight(ctx, q)), kw(ops::pack_weight(ctx, k)), vw(ops::pack_weight(ctx, v)), ow(ops::pack_weight(ctx, weight(kD, kD, type))),
        gatew(ops::pack_weight(ctx, gate)), upw(ops::pack_weight(ctx, up)), downw(ops::pack_weight(ctx, weight(kD, kF, type))),
        attention(nn::QkvProjection(ctx, {kH, kK, kHeadDim}, q, k, v), nn::Linear(ctx, weight(kD, kD, type)),
                  nn::Rotary(rope_config(tokens, kHeadDim))),
        mlp(ctx, gate, up, weight(kD, kF, type)) {
    const Angles table = angles(ctx, tokens, kHeadDim);
    cos = table.cos.to(type);
    sin = table.sin.to(type);
  }

  Tensor forward(Context& ctx, const Tensor& x) {
    const Tensor h = attention.forward(ctx, ops::rms_norm(ctx, x, norm, kEps), 0);
    const Tensor normed = ops::add_rms_norm(ctx, x, h, norm, kEps);  // h = x + attention
    return naive::add(h, mlp.forward(ctx, normed));
  }

  Tensor naive_forward(Context& ctx, const Tensor& x) const {
    const Tensor y = naive::rms_norm(x, norm, kEps);
    const auto heads = [&](const PackedWeight& w, int64_t count) {
      return naive::contiguous(ops::linear(ctx, y, w).reshape({1, x.dim(1), count, kHeadDim}).transpose(1, 2));
    };
    const Tensor rotated_q = naive::rope(heads(qw, kH), cos, sin), rotated_k = naive::rope(heads(kw, kK), cos, sin);
    const Tensor seen = naive::contiguous(naive::attention(ctx, rotated_q, rotated_k, heads(vw, kK)).transpose(1, 2));
    const Tensor h = naive::add(x, ops::linear(ctx, seen.reshape({1, x.dim(1), kD}), ow));
    const Tensor normed = naive::rms_norm(h, norm, kEps);
    return naive::add(h, ops::linear(ctx, naive::multiply(naive::silu(ops::linear(ctx, normed, gatew)), ops::linear(ctx, normed, upw)), downw));
  }
};

OpSetup layer_setup(Context& ctx, DType type, int64_t tokens) {
  const auto layer = std::make_shared<Layer>(ctx, type, tokens);
  const Tensor x = normal({1, tokens, Layer::kD}, type);
  OpSetup setup;
  setup.shape = {{"T", tokens}, {"D", Layer::kD}, {"H", Layer::kH}, {"K", Layer::kK}, {"Dh", kHeadDim}, {"F", Layer::kF}};
  setup.operations = product_operations(tokens, Layer::kD, 2 * Layer::kD + 2 * Layer::kK * kHeadDim + 3 * Layer::kF) +
                     2.0 * Layer::kD * static_cast<double>(tokens) * static_cast<double>(tokens + 1);
  setup.wick.run = [=, &ctx] { layer->forward(ctx, x); };
  setup.naive.run = [=, &ctx] { layer->naive_forward(ctx, x); };
  return setup;
}

}  // namespace

const std::vector<OpCase>& op_cases() {
  static const std::vector<DType> kAll = {DType::kF32, DType::kF16, DType::kBF16};
  static const std::vector<OpCase> kCases = {
      {"rope", kAll, rope_setup<ops::rope, ops::rope, naive::rope, false>},
      {"rope_i", kAll, rope_setup<ops::rope_i, ops::rope_i, naive::rope_i, false>},
      {"rope_thd", kAll, rope_setup<ops::rope_thd, ops::rope_thd, naive::rope, true>},
      {"rope_i_thd", kAll, rope_setup<ops::rope_i_thd, ops::rope_i_thd, naive::rope_i, true>},
      {"softmax", kAll, plain_setup<softmax_into, softmax_fresh, naive::softmax, kHeads, kScores>},
      {"log_softmax", kAll, plain_setup<log_softmax_into, log_softmax_fresh, naive::log_softmax, kHeads, kScores>},
      {"rms_norm", kAll, rms_norm_setup},
      {"add_rms_norm", kAll, add_rms_norm_setup},
      {"layer_norm", kAll, layer_norm_setup},
      {"silu", kAll, plain_setup<ops::silu, ops::silu, naive::silu, 1, kHidden>},
      {"gelu", kAll, plain_setup<ops::gelu, ops::gelu, naive::gelu, 1, kHidden>},
      {"gelu_tanh", kAll, plain_setup<ops::gelu_tanh, ops::gelu_tanh, naive::gelu_tanh, 1, kHidden>},
      {"swiglu", kAll, gated_setup<ops::swiglu, ops::swiglu, naive::silu>},
      {"geglu", kAll, gated_setup<ops::geglu, ops::geglu, naive::gelu>},
      {"embedding", kAll, embedding_setup},
      {"linear", kAll, linear_setup},
      {"matmul", kAll, matmul_setup},
      {"qkv_projection", kAll, qkv_setup},
      {"attention", kAll, attention_setup},
      {"layer", kAll, layer_setup},
  };
  return kCases;
}

}  // namespace wick::bench
