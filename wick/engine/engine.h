// The engine: the one owner of a loaded model's run state. Takes requests from any thread, runs them together in ragged steps on a
// thread of its own, and hands the text back through streams.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "wick/engine/model.h"
#include "wick/engine/sampling.h"
#include "wick/tensor/dtype.h"
#include "wick/text/chat_template.h"

namespace wick {

enum class FinishReason { kNone, kStop, kLength, kCancelled };
const char* finish_reason_name(FinishReason reason);  // "stop", "length", "cancelled"

struct EngineOptions {
  int32_t max_sequences = 4;   // that run at the same time; further requests wait
  int32_t max_queue = 256;     // that wait; one more is Error(kLimitExceeded)
  int64_t context = 0;         // positions per sequence; 0: the model's, capped by memory
  DType kv_type = DType::kF16; // f32, f16, bf16, q8_0; Model loaded with exact: f32
  uint64_t kv_memory = 0;      // bytes for all cache pages; 0: what max_sequences x context needs, capped by the memory limit
  // Logits of a token do not depend on the sequences beside its own nor on prefill_chunk, bit for bit. The CPU's never do; on a GPU it is
  // slower.
  bool batch_invariant = false;
  int64_t prefill_chunk = 0;   // tokens of one step at most; 0: 512 on the CPU, 2048 on other devices
  LogCallback log = {};
};

// One completion to make. Exactly one of prompt, prompt_ids, messages is set.
struct Request {
  std::optional<std::string> prompt;  // text as it is
  std::vector<int32_t> prompt_ids;
  std::vector<ChatMessage> messages;  // through the model's chat template
  bool parse_special = true;          // of `prompt`
  bool add_special = true;            // of `prompt`
  int64_t max_tokens = -1;            // -1: to the end of the context; 0: only evaluate the prompt
  SamplingParams sampling;
  std::vector<std::string> stop;      // the text ends before the first of these
  bool ignore_eos = false;
  int64_t made_up_prompt = 0;         // for speed tests: so many of the prompt's first tokens are not read, their keys and values made up
  // Called on the engine's thread with the logits of each evaluated prompt position (kAll) or of the last one (kLast), in order.
  enum class Logits { kNone, kLast, kAll } prompt_logits = Logits::kNone;
  std::function<void(int64_t position, std::span<const float> logits)> on_prompt_logits;
  std::function<void(int64_t done, int64_t total)> on_prefill;  // progress of a long prompt; engine's thread
};

struct Usage {
  int64_t prompt_tokens = 0;
  int64_t completion_tokens = 0;
  uint64_t seed = 0;
  double queue_ms = 0;        // submit to first step
  double prompt_ms = 0;       // first step to the end of the prompt's last one
  double first_token_ms = 0;  // submit to first token
  double generation_ms = 0;   // first token to last one
};

// A piece of the answer: one or more tokens and the text that they made certain. The last piece has finish_reason.
struct Piece {
  std::string text;
  std::vector<int32_t> ids;
  FinishReason finish_reason = FinishReason::kNone;
};

// The answer to one request. Movable; destroying it cancels the request. next() is for one thread, cancel() for any.
class Stream {
 public:
  Stream(Stream&&) noexcept;
  Stream& operator=(Stream&&) noexcept;
  ~Stream();
  // Waits for the next piece; nothing after the last one. Throws the request's Error when it failed.
  std::optional<Piece> next();
  // As next(), but returns nothing after `timeout` with done() still false.
  std::optional<Piece> next(std::chrono::milliseconds timeout);
  bool done() const;
  void cancel();
  const std::vector<int32_t>& prompt_ids() const;
  Usage usage() const;  // final once done()

  struct State;  // the engine's side

 private:
  friend class Engine;
  explicit Stream(std::shared_ptr<State> state);
  std::shared_ptr<State> state_;
};

class Engine {
 public:
  // Shares `model`; several engines may. Error(kOutOfMemory | kInvalidArgument).
  explicit Engine(std::shared_ptr<const Model> model, EngineOptions options = {});
  ~Engine();  // cancels what runs and joins
  Engine(Engine&&) noexcept;
  Engine& operator=(Engine&&) noexcept;

  // Queues a request. Throws Error(kInvalidArgument) for a request that can never run (no prompt, prompt longer than the context,
  // sampling values out of range), Error(kLimitExceeded) when the queue is full.
  Stream submit(Request request);
  // Queues several at once, all or none: none begins before all are there.
  std::vector<Stream> submit_all(std::vector<Request> requests);

  const Model& model() const;
  int64_t context() const;       // positions per sequence that are in force
  uint64_t kv_bytes() const;     // of all cache pages
  double kv_bytes_per_position() const;  // of one sequence
  int64_t pages_in_use() const;  // 0 when nothing runs

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace wick
