#include "wick/kernels/cuda/blas.h"

#include <cublasLt.h>
#include <dlfcn.h>

#include <array>
#include <map>
#include <mutex>
#include <optional>

#include "wick/tensor/cuda_device.h"

namespace wick::cuda {
namespace {

constexpr uint32_t kAlignment = 16;

// The functions of the library that are used.
struct Library {
  decltype(&cublasLtCreate) create;
  decltype(&cublasLtMatmul) matmul;
  decltype(&cublasLtMatmulAlgoGetHeuristic) choose;
  decltype(&cublasLtMatmulDescCreate) make_operation;
  decltype(&cublasLtMatmulDescDestroy) drop_operation;
  decltype(&cublasLtMatmulDescSetAttribute) set_operation;
  decltype(&cublasLtMatrixLayoutCreate) make_layout;
  decltype(&cublasLtMatrixLayoutDestroy) drop_layout;
  decltype(&cublasLtMatrixLayoutSetAttribute) set_layout;
  decltype(&cublasLtMatmulPreferenceCreate) make_preference;
  decltype(&cublasLtMatmulPreferenceDestroy) drop_preference;
  decltype(&cublasLtMatmulPreferenceSetAttribute) set_preference;
};

template <class Function>
bool find(void* opened, const char* name, Function& function) {
  function = reinterpret_cast<Function>(dlsym(opened, name));
  return function != nullptr;
}

std::optional<Library> open_library() {
  void* opened = nullptr;
  for (const char* name : {"libcublasLt.so.13", "/usr/local/cuda/lib64/libcublasLt.so.13"}) {
    if (!opened) opened = dlopen(name, RTLD_NOW | RTLD_LOCAL);
  }
  Library library;
  const bool complete =
      opened && find(opened, "cublasLtCreate", library.create) && find(opened, "cublasLtMatmul", library.matmul) &&
      find(opened, "cublasLtMatmulAlgoGetHeuristic", library.choose) && find(opened, "cublasLtMatmulDescCreate", library.make_operation) &&
      find(opened, "cublasLtMatmulDescDestroy", library.drop_operation) &&
      find(opened, "cublasLtMatmulDescSetAttribute", library.set_operation) &&
      find(opened, "cublasLtMatrixLayoutCreate", library.make_layout) && find(opened, "cublasLtMatrixLayoutDestroy", library.drop_layout) &&
      find(opened, "cublasLtMatrixLayoutSetAttribute", library.set_layout) &&
      find(opened, "cublasLtMatmulPreferenceCreate", library.make_preference) &&
      find(opened, "cublasLtMatmulPreferenceDestroy", library.drop_preference) &&
      find(opened, "cublasLtMatmulPreferenceSetAttribute", library.set_preference);
  if (!complete) return std::nullopt;
  return library;
}

const std::optional<Library>& library() {
  static const std::optional<Library> opened = open_library();  // never closed: kernels of it may be running
  return opened;
}

// What one algorithm serves: the device, and all of a product but its addresses.
using Shape = std::array<int64_t, 15>;
Shape shape_of(const Context& ctx, const BlasProduct& p) {
  return {ctx.device().index(), p.rows,      p.outputs,           p.k,         p.ldx,         p.ldw,    p.ldy, static_cast<int64_t>(p.type),
          static_cast<int64_t>(p.y_type), p.weight_rows_are_inputs, p.bias != nullptr, p.batches, p.x_step, p.weight_step, p.y_step};
}

cudaDataType_t library_type(DType type) { return type == DType::kBF16 ? CUDA_R_16BF : type == DType::kF16 ? CUDA_R_16F : CUDA_R_32F; }

// What a product is made of, in the library's terms: column-major, so y^T = W x^T.
class Plan {
 public:
  Plan(const Library& blas, const BlasProduct& product) : blas_(blas) {
    const bool by_inputs = product.weight_rows_are_inputs;
    ok_ = blas.make_operation(&operation_, CUBLAS_COMPUTE_32F, CUDA_R_32F) == CUBLAS_STATUS_SUCCESS &&
          layout(weight_, product.type, by_inputs ? product.outputs : product.k, by_inputs ? product.k : product.outputs, product.ldw) &&
          layout(x_, product.type, product.k, product.rows, product.ldx) && layout(y_, product.y_type, product.outputs, product.rows, product.ldy);
    const cublasOperation_t transposed = by_inputs ? CUBLAS_OP_N : CUBLAS_OP_T;
    ok_ = ok_ && set(CUBLASLT_MATMUL_DESC_TRANSA, transposed);
    if (product.batches > 1) {
      ok_ = ok_ && repeat(weight_, product.batches, product.weight_step) && repeat(x_, product.batches, product.x_step) &&
            repeat(y_, product.batches, product.y_step);
    }
    if (!product.bias) return;
    const cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_BIAS;
    const cudaDataType_t bias_type = CUDA_R_32F;
    ok_ = ok_ && set(CUBLASLT_MATMUL_DESC_EPILOGUE, epilogue) && set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, product.bias) &&
          set(CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, bias_type);
  }
  ~Plan() {
    if (y_) blas_.drop_layout(y_);
    if (x_) blas_.drop_layout(x_);
    if (weight_) blas_.drop_layout(weight_);
    if (operation_) blas_.drop_operation(operation_);
  }
  Plan(const Plan&) = delete;
  Plan& operator=(const Plan&) = delete;

  bool choose(cublasLtHandle_t handle, cublasLtMatmulAlgo_t& algorithm) const {
    cublasLtMatmulPreference_t preference = nullptr;
    if (!ok_ || blas_.make_preference(&preference) != CUBLAS_STATUS_SUCCESS) return false;
    blas_.set_preference(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &kBlasWorkspaceBytes, sizeof kBlasWorkspaceBytes);
    for (const auto attribute : {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
                                 CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES}) {
      blas_.set_preference(preference, attribute, &kAlignment, sizeof kAlignment);
    }
    cublasLtMatmulHeuristicResult_t result = {};
    int found = 0;
    const bool chosen =
        blas_.choose(handle, operation_, weight_, x_, y_, y_, preference, 1, &result, &found) == CUBLAS_STATUS_SUCCESS && found > 0;
    blas_.drop_preference(preference);
    algorithm = result.algo;
    return chosen;
  }

  bool run(cublasLtHandle_t handle, const BlasProduct& product, const cublasLtMatmulAlgo_t& algorithm, void* workspace,
           cudaStream_t stream) const {
    const float one = 1, keep = product.accumulate ? 1 : 0;
    return blas_.matmul(handle, operation_, &one, product.weight, weight_, product.x, x_, &keep, product.y, y_, product.y, y_, &algorithm,
                        workspace, kBlasWorkspaceBytes, stream) == CUBLAS_STATUS_SUCCESS;
  }

 private:
  bool layout(cublasLtMatrixLayout_t& made, DType type, int64_t rows, int64_t columns, int64_t ld) {
    return blas_.make_layout(&made, library_type(type), static_cast<uint64_t>(rows), static_cast<uint64_t>(columns), ld) == CUBLAS_STATUS_SUCCESS;
  }
  bool repeat(cublasLtMatrixLayout_t matrix, int64_t count, int64_t step) {
    const int32_t batches = static_cast<int32_t>(count);
    return blas_.set_layout(matrix, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &batches, sizeof batches) == CUBLAS_STATUS_SUCCESS &&
           blas_.set_layout(matrix, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, &step, sizeof step) == CUBLAS_STATUS_SUCCESS;
  }
  template <class T>
  bool set(cublasLtMatmulDescAttributes_t attribute, const T& value) {
    return blas_.set_operation(operation_, attribute, &value, sizeof value) == CUBLAS_STATUS_SUCCESS;
  }

  const Library& blas_;
  cublasLtMatmulDesc_t operation_ = nullptr;
  cublasLtMatrixLayout_t weight_ = nullptr, x_ = nullptr, y_ = nullptr;
  bool ok_ = false;
};

bool aligned(const BlasProduct& product) {
  const auto fits = [](const void* p) { return reinterpret_cast<uintptr_t>(p) % kAlignment == 0; };
  const auto steps = [](DType type, int64_t ld, int64_t step) { return ld * traits(type).bytes % kAlignment == 0 && step * traits(type).bytes % kAlignment == 0; };
  return fits(product.x) && fits(product.weight) && fits(product.y) && fits(product.bias) && steps(product.type, product.ldx, product.x_step) &&
         steps(product.type, product.ldw, product.weight_step) && steps(product.y_type, product.ldy, product.y_step);
}

// Handles and chosen algorithms, for all contexts of the process: the library's functions may be called from several threads.
struct Shared {
  std::mutex mutex;
  std::map<int, cublasLtHandle_t> handles;
  std::map<Shape, std::optional<cublasLtMatmulAlgo_t>> algorithms;
};

Shared& shared() {
  static auto* instance = new Shared;
  return *instance;
}

}  // namespace

bool has_blas(const Context& ctx) { return !ctx.batch_invariant() && library().has_value(); }

bool blas_product(Context& ctx, const BlasProduct& product) {
  if (!aligned(product) || !has_blas(ctx)) return false;
  const cudaStream_t stream = stream_of(ctx).use();
  const Plan plan(*library(), product);
  cublasLtHandle_t handle = nullptr;
  std::optional<cublasLtMatmulAlgo_t> algorithm;
  {
    const std::lock_guard lock(shared().mutex);
    cublasLtHandle_t& own = shared().handles[ctx.device().index()];
    if (!own && library()->create(&own) != CUBLAS_STATUS_SUCCESS) return false;
    handle = own;
    const auto [known, added] = shared().algorithms.try_emplace(shape_of(ctx, product));
    if (added) {
      cublasLtMatmulAlgo_t chosen;
      if (plan.choose(handle, chosen)) known->second = chosen;
    }
    algorithm = known->second;
  }
  if (!algorithm) return false;
  const ScratchScope scope(ctx);
  return plan.run(handle, product, *algorithm, ctx.scratch<std::byte>(kBlasWorkspaceBytes).data(), stream);
}

}  // namespace wick::cuda
