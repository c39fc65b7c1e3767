// Cuts text into the words that BPE merges within. Which cuts, the model's training decided: patterns by name.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "wick/base/function_ref.h"

namespace wick {

class PreTokenizer {
 public:
  // "gpt-2", "smollm", "llama-bpe", "qwen2". Throws Error(kUnsupported) naming the known ones.
  explicit PreTokenizer(std::string_view name);
  ~PreTokenizer();
  PreTokenizer(const PreTokenizer&) = delete;
  PreTokenizer& operator=(const PreTokenizer&) = delete;

  // Calls word(piece) for consecutive pieces that together are the text. Bytes that are no UTF-8 are pieces of their own.
  // Linear time, flat stack. Error(kLimitExceeded) should the pattern matcher give up all the same.
  void split(std::string_view text, FunctionRef<void(std::string_view)> word) const;
  // A word that is a token as a whole stays whole, whatever the merges say.
  bool ignores_merges() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace wick
