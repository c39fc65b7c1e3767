// Cuts text into words, the pieces that byte-pair merges never cross.
//
// Each kind is one regular expression, run by PCRE2 in time linear in the text and without recursion. Classes of characters are those
// of PCRE2's Unicode version (14.0 in 10.42), so characters assigned later count as neither letter nor number.
#pragma once

#include <memory>
#include <string_view>

#include "wick/base/function_ref.h"

namespace wick {

class PreTokenizer {
 public:
  // By the name in model files: "gpt-2", "smollm", "llama-bpe", "qwen2" or an alias. Error(kUnsupported) for others, naming these.
  explicit PreTokenizer(std::string_view name);
  ~PreTokenizer();
  PreTokenizer(PreTokenizer&&) noexcept;
  PreTokenizer& operator=(PreTokenizer&&) noexcept;

  // A word that is itself a token is that token, whatever the merges say.
  bool whole_words_first() const;

  // Calls word(view) for consecutive non-empty views that together are `text`. Each byte that is not part of a valid UTF-8 character is a word.
  // Error(kLimitExceeded) when the pattern matcher gives up. Thread-safe.
  void split(std::string_view text, FunctionRef<void(std::string_view)> word) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace wick
