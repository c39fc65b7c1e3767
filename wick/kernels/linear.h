// Matrix products with packed weights, and packing itself.
#pragma once

#include <cstdint>

#include "wick/kernels/packed_weight.h"
#include "wick/tensor/context.h"

namespace wick {

struct LinearArgs {
  const float* x = nullptr;  // [T, k], rows ldx apart
  int64_t ldx = 0;
  int64_t rows = 0;  // T
  const PackedWeight* weight = nullptr;
  const float* bias = nullptr;  // [weight->rows] or none
  float* y = nullptr;           // [T, weight->rows], rows ldy apart; must not overlap x
  int64_t ldy = 0;
  bool accumulate = false;  // y += instead of y =
  const float* norm = nullptr;  // [k]: x is normalised first, as kernels/norm.h says, with these weights
  double eps = 0;
  bool swiglu = false;  // y is [T, weight->rows / 2]: silu of the first half of the outputs times the second; not with accumulate
  // Where cpu::takes_bf16() or cuda::rounds_to_bf16() says so, in place of x (without norm) and of y (without accumulate): bf16, rows ldx
  // and ldy apart, x at a multiple of 16 bytes and ldx one of 8.
  const uint16_t* x_bf16 = nullptr;
  uint16_t* y_bf16 = nullptr;
  // There as well, with y: bf16 [T, weight->rows], one row after the other, y normalised with the weights next_norm and eps.
  uint16_t* normed_bf16 = nullptr;
  const float* next_norm = nullptr;
};

// y[t, n] = sum over k of round(x[t, k]) * w[n, k]  (+ bias[n]) (+ y[t, n]).  ref: without norm and swiglu.
//
// x is rounded once, by the segment's type: not at all for f32 and f16 weights, to bf16 for bf16, to 8-bit blocks of 32 with one f32
// scale (largest magnitude / 127, nearest even) for quantised types. A block with a NaN or an infinity gives NaN. A segment marked
// precise multiplies what that rounding left over as well, rounded the same way: two runs of 8 bits, about 15 together.
// Sums in f32: one chain per output in ascending k, the same for any T, so a row's result does not depend on the rows beside it, on the
// number of threads or on how the work was split.
namespace ref {
void linear(Context& ctx, const LinearArgs& args);  // plain loops, sums in f64
}
namespace cpu {
void linear(Context& ctx, const LinearArgs& args);
// Whether x may be given in bf16, and y be taken in it: all weights are bf16 and, with swiglu, gates and ups segments of their own.
bool takes_bf16(const PackedWeight& weight, bool swiglu);
}
// On ctx's stream. Few rows, up to kFewRows, as above, every quantised segment as if it were precise (its scales to a few units in the last
// place), norm and swiglu in the same kernel; with more rows, or inputs that a block has no memory for, x and quantised weights are rounded
// to bf16 for the tensor cores. The order of a sum depends on k, the number of outputs and, unless ctx is batch invariant, of rows.
namespace cuda {
inline constexpr int64_t kFewRows = 8;
void linear(Context& ctx, const LinearArgs& args);
// Rows that are not multiplied as many are. Where a row must not depend on those beside it none are few.
inline bool few_rows(const Context& ctx, int64_t rows) { return rows <= kFewRows && !ctx.batch_invariant(); }
// Whether linear() with so many rows rounds x to bf16, so that it may as well be given in it.
bool rounds_to_bf16(const Context& ctx, const PackedWeight& weight, int64_t rows);
}  // namespace cuda

// The same with a matrix that is packed panel by panel on the way: y[t, n] = sum over k of round(x[t, k]) * b[n, k] (+ bias[n]).
struct MatmulArgs {
  const float* x = nullptr;  // [T, k], rows ldx apart
  int64_t ldx = 0;
  int64_t rows = 0;           // T
  MatrixView b;               // [n, k] of any type that can be packed
  const float* bias = nullptr;
  float* y = nullptr;
  int64_t ldy = 0;
  bool accumulate = false;
  // On the CPU, where b is bf16, in place of x and of y (without accumulate): rows of bf16.
  const uint16_t* x_bf16 = nullptr;
  uint16_t* y_bf16 = nullptr;
  // There as well: several products of one shape, x of the type of b, f32 or bf16, and matrices so many elements apart.
  int64_t count = 1;
  int64_t x_step = 0, b_step = 0, y_step = 0;
};

namespace ref {
// out[t, n] = sum over k of a[t, k] * b[n, k] in f64; element (r, c) of a and out at r * strides[0] + c * strides[1].
struct MatmulArgs {
  const double* a = nullptr;
  const double* b = nullptr;
  double* y = nullptr;
  int64_t rows = 0, n = 0, k = 0;
  int64_t a_strides[2] = {}, b_strides[2] = {}, y_strides[2] = {};
};
void matmul(const MatmulArgs& args);
}  // namespace ref

namespace cuda {
// x rounded to bf16 where b is; sums in f32 in ascending k.
void matmul(Context& ctx, const MatmulArgs& args);

// Products of matrices of one type, f32, f16 or bf16, as many elements apart as `steps` say.
struct MatmulBatch {
  DType type = DType::kF32;
  int64_t batches = 1, rows = 0, n = 0, k = 0;
  struct Matrix {
    std::byte* data = nullptr;
    int64_t row_stride = 0, column_stride = 0, step = 0;  // elements
  } a, b, y;  // [rows, k], [k, n], [rows, n]
};
// y = a b by cuBLASLt, sums in f32, rounded once. False when it is not there or does not take these strides, or its sums must not depend on
// the number of rows: y is untouched then.
bool matmul_batch(Context& ctx, const MatmulBatch& args);
// As cpu::pack, on ctx's stream: rows are copied to the device as they are stored and packed there. Takes kStagingBytes of its memory
// for that, and as much of the CPU's, until the context goes; more where a single row needs more.
inline constexpr uint64_t kStagingBytes = uint64_t{32} << 20;
// Into segment.storage where there is one.
void pack(Context& ctx, const WeightSource& source, WeightSegment& segment);
uint64_t packed_bytes(DType type, int64_t rows, int64_t k);
}  // namespace cuda

namespace cpu {
void matmul(Context& ctx, const MatmulArgs& args);

// Fills what `segment` lacks but its type (the source's, or f32: rows are then expanded), rows and k, reading the source in parallel.
// Throws Error(kInvalidArgument) for a k that is not whole blocks, and what read_rows throws.
void pack(Context& ctx, const WeightSource& source, WeightSegment& segment);
// What a segment takes. Error(kInvalidArgument) when the size does not fit into 64 bits.
uint64_t packed_bytes(DType type, int64_t rows, int64_t k);
// out[0..k) = row `row` in f32, exactly the values that the format defines. 0 <= row < weight.rows.
void unpack_row(const PackedWeight& weight, int64_t row, float* out);
}  // namespace cpu

}  // namespace wick
