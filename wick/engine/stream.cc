#include <new>

#include "wick/base/error.h"
#include "wick/engine/stream_state.h"

namespace wick {

const char* finish_reason_name(FinishReason reason) {
  switch (reason) {
    case FinishReason::kNone: return "none";
    case FinishReason::kStop: return "stop";
    case FinishReason::kLength: return "length";
    case FinishReason::kCancelled: return "cancelled";
  }
  return "unknown";
}

Failure current_failure() {
  try {
    throw;
  } catch (const Error& error) {
    return {error.code(), error.what()};
  } catch (const std::bad_alloc&) {
    return {ErrorCode::kOutOfMemory, "out of memory"};
  } catch (const std::exception& error) {
    return {ErrorCode::kInternal, error.what()};
  } catch (...) {
    return {ErrorCode::kInternal, "unknown failure"};
  }
}

void Stream::State::add(std::string_view more_text, int32_t id) {
  {
    const std::lock_guard lock(mutex);
    text.append(more_text);
    if (id >= 0) ids.push_back(id);
  }
  changed.notify_one();
}

void Stream::State::finish(FinishReason reason, const Usage& final_usage, std::optional<Failure> why) {
  {
    const std::lock_guard lock(mutex);
    finish_reason = reason;
    usage = final_usage;
    failure = std::move(why);
    finished = true;
  }
  changed.notify_one();
}

Stream::Stream(std::shared_ptr<State> state) : state_(std::move(state)) {}
Stream::Stream(Stream&&) noexcept = default;

Stream& Stream::operator=(Stream&& other) noexcept {
  if (this != &other) {
    if (state_) cancel();
    state_ = std::move(other.state_);
  }
  return *this;
}

Stream::~Stream() {
  if (state_) cancel();
}

namespace {

constexpr auto kForever = std::chrono::milliseconds::max();

}  // namespace

std::optional<Piece> Stream::next() { return next(kForever); }

std::optional<Piece> Stream::next(std::chrono::milliseconds timeout) {
  State& state = *state_;
  std::unique_lock lock(state.mutex);
  const auto ready = [&] { return !state.text.empty() || !state.ids.empty() || state.finished; };
  if (timeout == kForever) {
    state.changed.wait(lock, ready);
  } else if (!state.changed.wait_for(lock, timeout, ready)) {
    return std::nullopt;
  }
  if (state.delivered) return std::nullopt;
  Piece piece;
  piece.text.assign(state.text);
  piece.ids.assign(state.ids.begin(), state.ids.end());
  state.text.clear();
  state.ids.clear();
  if (state.finished) {
    if (state.failure && piece.ids.empty() && piece.text.empty()) {
      state.delivered = true;
      throw Error(state.failure->code, state.failure->message);
    }
    if (!state.failure) {
      state.delivered = true;
      piece.finish_reason = state.finish_reason;
    }
  }
  return piece;
}

bool Stream::done() const {
  const std::lock_guard lock(state_->mutex);
  return state_->delivered;
}

void Stream::cancel() { state_->cancelled.store(true, std::memory_order_relaxed); }

const std::vector<int32_t>& Stream::prompt_ids() const { return state_->prompt_ids; }

Usage Stream::usage() const {
  const std::lock_guard lock(state_->mutex);
  return state_->usage;
}

}  // namespace wick
