// What an engine and the holder of a Stream share: the text so far not taken, the outcome, and the wish to stop.
#pragma once

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "wick/base/error.h"
#include "wick/engine/engine.h"

namespace wick {

// Why a request failed. Plain values, not an exception: an exception object that two threads share is destroyed by whichever comes last.
struct Failure {
  ErrorCode code = ErrorCode::kInternal;
  std::string message;
};
// The exception that is being handled, as a Failure. For use in a catch block.
Failure current_failure();

struct Stream::State {
  const std::vector<int32_t> prompt_ids;
  std::atomic<bool> cancelled{false};

  std::mutex mutex;
  std::condition_variable changed;
  std::string text;          // produced, not yet taken. Its capacity stays: the engine's side does not allocate per token.
  std::vector<int32_t> ids;  // likewise
  FinishReason finish_reason = FinishReason::kNone;
  std::optional<Failure> failure;
  Usage usage;
  bool finished = false;   // the engine will add nothing more
  bool delivered = false;  // the reader has had the last piece or the error

  explicit State(std::vector<int32_t> ids_of_prompt) : prompt_ids(std::move(ids_of_prompt)) {
    constexpr size_t kTextReserve = 16384, kIdReserve = 4096;
    text.reserve(kTextReserve);
    ids.reserve(kIdReserve);
  }

  void add(std::string_view more_text, int32_t id);  // id < 0: text only
  void finish(FinishReason reason, const Usage& final_usage, std::optional<Failure> why = std::nullopt);
};

}  // namespace wick
