// What this program was built from and with.
#pragma once

#include <string>

namespace wick::apps {

inline std::string compiler_name() {
#ifdef __clang__
  return __VERSION__;  // begins with its name
#else
  return std::string("GCC ") + __VERSION__;
#endif
}

}  // namespace wick::apps
