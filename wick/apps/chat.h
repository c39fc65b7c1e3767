// The interactive conversation behind `wick chat`, also `wick run` on a terminal without a prompt.
#pragma once

#include <optional>
#include <string>

#include "wick/apps/generation_flags.h"
#include "wick/engine/engine.h"

namespace wick::apps {

// Reads lines from standard input until it ends, answers each on standard output, remembers the conversation.
// Ctrl-C stops an answer. Returns the exit code.
int chat(Engine& engine, const GenerationFlags& generation, const std::optional<std::string>& system);

}  // namespace wick::apps
