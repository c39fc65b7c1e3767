// Where the library's messages go. Silent by default: a program that wants them sets a callback on the object it creates
// (ModelOptions::log, EngineOptions::log). There is no global logger.
#pragma once

#include <functional>
#include <string_view>

namespace wick {

enum class LogLevel { kDebug, kInfo, kWarning, kError };

// Called from any thread of the library; must not throw. The text has no trailing newline.
using LogCallback = std::function<void(LogLevel, std::string_view)>;

}  // namespace wick
