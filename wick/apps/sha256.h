// SHA-256 of a file, as 64 lower-case hexadecimal digits.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

namespace wick::apps {

// Calls on_progress(bytes done) now and then. Error(kNotFound | kIo).
std::string sha256_of_file(const std::string& path, const std::function<void(uint64_t)>& on_progress = nullptr);

}  // namespace wick::apps
