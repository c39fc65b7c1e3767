// Processors as the kernel lists them. Takes the root of the file system, so that tests can lay one out.
#pragma once

#include <optional>
#include <string>

namespace wick {

// "0-3,8" → 5 processors. Nothing when it is not such a list.
std::optional<int> count_cpu_list(const std::string& list);

// Cores of the processors that are online, sibling hyperthreads counted once; the number of online processors where the kernel does not
// tell the siblings, and nothing where it does not tell those either.
std::optional<int> physical_core_count(const std::string& root);

}  // namespace wick
