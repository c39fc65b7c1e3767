// From a failure to the exit code of the process.
#pragma once

#include "wick/base/error.h"

namespace wick::apps {

inline constexpr int kExitDone = 0, kExitFailed = 1, kExitUsage = 2, kExitFile = 3, kExitUnsupported = 4, kExitLimit = 5;

int exit_code(ErrorCode code);

// Reports the exception being handled on standard error and returns the exit code for it.
int report_current_exception();

}  // namespace wick::apps
