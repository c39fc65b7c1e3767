// Names and paths that come from files, in a form fit for a message: short, one line, valid UTF-8. Not for anything that is parsed again.
#pragma once

#include <string>
#include <string_view>

namespace wick {

// The first `max_bytes` bytes of `text`, with control characters, backslashes and invalid UTF-8 written as \xNN; "…" follows when cut.
std::string printable(std::string_view text, size_t max_bytes = 100);

}  // namespace wick
