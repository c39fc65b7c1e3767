#include "wick/kernels/cuda/blas.h"

#include <cublasLt.h>
#include <dlfcn.h>

#include <map>
#include <mutex>
#include <optional>
#include <tuple>

#include "wick/tensor/cuda_device.h"

namespace wick::cuda {
namespace {

constexpr size_t kWorkspaceBytes = size_t{32} << 20;  // what the fastest algorithms of Hopper ask for
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

// Shapes that one algorithm serves: rows, outputs, k, and the distances from row to row.
using Shape = std::tuple<int, int64_t, int64_t, int64_t, int64_t, int64_t, int64_t, bool>;

// What a product is made of, in the library's terms: column-major, so y^T = W x^T.
class Plan {
 public:
  Plan(const Library& blas, const BlasProduct& product) : blas_(blas) {
    ok_ = blas.make_operation(&operation_, CUBLAS_COMPUTE_32F, CUDA_R_32F) == CUBLAS_STATUS_SUCCESS &&
          blas.make_layout(&weight_, CUDA_R_16BF, size(product.k), size(product.outputs), product.ldw) == CUBLAS_STATUS_SUCCESS &&
          blas.make_layout(&x_, CUDA_R_16BF, size(product.k), size(product.rows), product.ldx) == CUBLAS_STATUS_SUCCESS &&
          blas.make_layout(&y_, CUDA_R_32F, size(product.outputs), size(product.rows), product.ldy) == CUBLAS_STATUS_SUCCESS;
    const cublasOperation_t transposed = CUBLAS_OP_T;
    ok_ = ok_ && set(CUBLASLT_MATMUL_DESC_TRANSA, transposed);
    if (!product.bias) return;
    const cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_BIAS;
    ok_ = ok_ && set(CUBLASLT_MATMUL_DESC_EPILOGUE, epilogue) && set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, product.bias);
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
    blas_.set_preference(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &kWorkspaceBytes, sizeof kWorkspaceBytes);
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
                        workspace, kWorkspaceBytes, stream) == CUBLAS_STATUS_SUCCESS;
  }

 private:
  static uint64_t size(int64_t value) { return static_cast<uint64_t>(value); }
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
  return fits(product.x) && fits(product.weight) && fits(product.y) && fits(product.bias) && product.ldy % 4 == 0 && product.ldx % 8 == 0 &&
         product.ldw % 8 == 0;
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

bool blas_product(Context& ctx, const BlasProduct& product) {
  if (!aligned(product) || !library()) return false;
  const cudaStream_t stream = stream_of(ctx).use();
  const Plan plan(*library(), product);
  cublasLtHandle_t handle = nullptr;
  std::optional<cublasLtMatmulAlgo_t> algorithm;
  {
    const std::lock_guard lock(shared().mutex);
    cublasLtHandle_t& own = shared().handles[ctx.device().index()];
    if (!own && library()->create(&own) != CUBLAS_STATUS_SUCCESS) return false;
    handle = own;
    const Shape shape(ctx.device().index(), product.rows, product.outputs, product.k, product.ldx, product.ldw, product.ldy,
                      product.bias != nullptr);
    const auto [known, added] = shared().algorithms.try_emplace(shape);
    if (added) {
      cublasLtMatmulAlgo_t chosen;
      if (plan.choose(handle, chosen)) known->second = chosen;
    }
    algorithm = known->second;
  }
  if (!algorithm) return false;
  const ScratchScope scope(ctx);
  return plan.run(handle, product, *algorithm, ctx.scratch<std::byte>(kWorkspaceBytes).data(), stream);
}

}  // namespace wick::cuda
