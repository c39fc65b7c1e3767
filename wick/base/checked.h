// Integer arithmetic on sizes that come from files and requests: either the exact result or an Error, never a wrapped value.
#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <type_traits>

#include "wick/base/error.h"

namespace wick {

// a + b and a * b, or nothing when the result does not fit in T.
template <class T>
std::optional<T> checked_add(T a, T b) {
  T result;
  if (__builtin_add_overflow(a, b, &result)) return std::nullopt;
  return result;
}

template <class T>
std::optional<T> checked_mul(T a, T b) {
  T result;
  if (__builtin_mul_overflow(a, b, &result)) return std::nullopt;
  return result;
}

// As above, but throws Error(code) naming `what` when the result does not fit.
template <class T>
T add_or_fail(T a, T b, const char* what, ErrorCode code = ErrorCode::kInvalidArgument) {
  if (auto result = checked_add(a, b)) return *result;
  fail(code, what, ": ", a, " + ", b, " does not fit in ", sizeof(T) * 8, " bits");
}

template <class T>
T mul_or_fail(T a, T b, const char* what, ErrorCode code = ErrorCode::kInvalidArgument) {
  if (auto result = checked_mul(a, b)) return *result;
  fail(code, what, ": ", a, " * ", b, " does not fit in ", sizeof(T) * 8, " bits");
}

// a / b rounded up; a >= 0, b > 0.
template <class T>
constexpr T ceil_div(T a, T b) {
  return a / b + (a % b != 0 ? 1 : 0);
}

// The smallest multiple of `unit` that is >= a.
template <class T>
constexpr T round_up(T a, T unit) {
  return ceil_div(a, unit) * unit;
}

}  // namespace wick
