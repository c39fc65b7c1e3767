#include "wick/apps/exit_code.h"

#include <new>
#include <system_error>

#include "wick/apps/interrupt.h"
#include "wick/apps/terminal.h"

namespace wick::apps {

int exit_code(ErrorCode code) {
  switch (code) {
    case ErrorCode::kInvalidArgument: return kExitUsage;
    case ErrorCode::kNotFound:
    case ErrorCode::kInvalidFile:
    case ErrorCode::kIo: return kExitFile;
    case ErrorCode::kUnsupported: return kExitUnsupported;
    case ErrorCode::kOutOfMemory:
    case ErrorCode::kLimitExceeded: return kExitLimit;
    case ErrorCode::kCancelled: return kExitInterrupted;
    case ErrorCode::kInternal: return kExitFailed;
  }
  return kExitFailed;
}

int report_current_exception() {
  try {
    throw;
  } catch (const Error& error) {
    if (error.code() == ErrorCode::kCancelled && interrupted()) return 128 + interrupted();
    print_error(error.what());
    return exit_code(error.code());
  } catch (const OutputError& error) {
    if (!error.quiet) print_error(error.what());
    return kExitFailed;
  } catch (const std::bad_alloc&) {
    print_error("out of memory");
    return kExitLimit;
  } catch (const std::system_error& error) {
    print_error(error.what());
    return error.code() == std::errc::resource_unavailable_try_again ? kExitLimit : kExitFailed;
  } catch (const std::exception& error) {
    print_error(error.what());
    return kExitFailed;
  }
}

}  // namespace wick::apps
