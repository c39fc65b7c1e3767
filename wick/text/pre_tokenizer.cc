#include "wick/text/pre_tokenizer.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <algorithm>
#include <cstdint>
#include <string>

#include "wick/base/error.h"
#include "wick/text/utf8.h"

namespace wick {
namespace {

// The patterns that the models were trained with, made possessive where backing off could not lead to a match, so that no run of
// characters is walked more than three times. `\s` stands for the members of a class; see with_space_class.
//
// smollm is two cuts in one: first every number character by itself, then gpt-2 on what lies between, where the next number is the end of the text.
struct Kind {
  const char* names;  // the first is the usual one
  bool whole_words_first;
  const char* pattern;
};

constexpr Kind kKinds[] = {
    {"gpt-2 phi-2", false, R"('s|'t|'re|'ve|'m|'ll|'d| ?+\p{L}++| ?+\p{N}++| ?+[^\s\p{L}\p{N}]++|[\s]+(?![^\s])|[\s]+)"},
    {"smollm starcoder refact", false, R"(\p{N}|'s|'t|'re|'ve|'m|'ll|'d| ?+\p{L}++| ?+[^\s\p{L}\p{N}]++|[\s]+(?![^\s\p{N}])|[\s]+)"},
    {"llama-bpe llama3 llama-v3", true,
     R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?+[^\s\p{L}\p{N}]++[\r\n]*+|[\s]*[\r\n]++|[\s]+(?![^\s])|[\s]+)"},
    {"qwen2 deepseek-r1-qwen", false,
     R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}| ?+[^\s\p{L}\p{N}]++[\r\n]*+|[\s]*[\r\n]++|[\s]+(?![^\s])|[\s]+)"},
};

const Kind* find_kind(std::string_view name) {
  for (const Kind& kind : kKinds) {
    std::string_view names = kind.names;
    while (!names.empty()) {
      const size_t end = std::min(names.find(' '), names.size());
      if (names.substr(0, end) == name) return &kind;
      names.remove_prefix(std::min(end + 1, names.size()));
    }
  }
  return nullptr;
}

std::string known_names() {
  std::string names;
  for (const Kind& kind : kKinds) {
    const std::string_view all = kind.names;
    if (!names.empty()) names += ", ";
    names += all.substr(0, all.find(' '));
  }
  return names;
}

// PCRE2 counts U+180E as a space, Unicode (since 6.3) and the models do not: `\s` becomes the characters of White_Space.
std::string with_space_class(std::string_view pattern) {
  constexpr std::string_view kSpaces = R"(\t-\r \x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000})";
  std::string out;
  for (size_t at = 0; at < pattern.size();) {
    if (pattern.substr(at, 2) == "\\s") {
      out += kSpaces;
      at += 2;
    } else {
      out += pattern[at++];
    }
  }
  return out;
}

std::string pcre2_message(int code) {
  PCRE2_UCHAR text[256];
  if (pcre2_get_error_message(code, text, sizeof text) < 0) return "error " + std::to_string(code);
  return reinterpret_cast<const char*>(text);
}

template <auto Free>
struct Deleter {
  template <class T>
  void operator()(T* object) const {
    Free(object);
  }
};
using Code = std::unique_ptr<pcre2_code, Deleter<pcre2_code_free>>;
using MatchData = std::unique_ptr<pcre2_match_data, Deleter<pcre2_match_data_free>>;
using MatchContext = std::unique_ptr<pcre2_match_context, Deleter<pcre2_match_context_free>>;

Code compile(const std::string& pattern) {
  int error = 0;
  PCRE2_SIZE offset = 0;
  Code code(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(), PCRE2_UTF | PCRE2_UCP | PCRE2_ANCHORED | PCRE2_NO_START_OPTIMIZE,
                          &error, &offset, nullptr));
  if (!code) fail(ErrorCode::kUnsupported, "tokenizer: PCRE2 does not accept the pattern at ", offset, ": ", pcre2_message(error));
  // Where executable memory is forbidden this fails and the interpreter takes over, several times slower.
  pcre2_jit_compile(code.get(), PCRE2_JIT_COMPLETE);
  return code;
}

}  // namespace

struct PreTokenizer::Impl {
  Code code;
  bool whole_words_first;

  void split_valid(std::string_view text, pcre2_match_data* match, pcre2_match_context* limits, FunctionRef<void(std::string_view)> word) const;
};

PreTokenizer::PreTokenizer(std::string_view name) {
  const Kind* kind = find_kind(name);
  if (!kind) fail(ErrorCode::kUnsupported, "tokenizer: unknown pre-tokenizer \"", name, "\"; known: ", known_names());
  impl_ = std::make_unique<Impl>(Impl{compile(with_space_class(kind->pattern)), kind->whole_words_first});
}

PreTokenizer::~PreTokenizer() = default;
PreTokenizer::PreTokenizer(PreTokenizer&&) noexcept = default;
PreTokenizer& PreTokenizer::operator=(PreTokenizer&&) noexcept = default;

bool PreTokenizer::whole_words_first() const { return impl_->whole_words_first; }

void PreTokenizer::Impl::split_valid(std::string_view text, pcre2_match_data* match, pcre2_match_context* limits,
                                     FunctionRef<void(std::string_view)> word) const {
  const auto* subject = reinterpret_cast<PCRE2_SPTR>(text.data());
  for (size_t at = 0; at < text.size();) {
    const int found = pcre2_match(code.get(), subject, text.size(), at, PCRE2_NO_UTF_CHECK, match, limits);
    if (found < 0 && found != PCRE2_ERROR_NOMATCH) {
      fail(ErrorCode::kLimitExceeded, "tokenizer: the pattern matcher gave up at byte ", at, ": ", pcre2_message(found));
    }
    // The patterns cover every character; should one ever not, it is a word.
    size_t end = found >= 0 ? pcre2_get_ovector_pointer(match)[1] : at;
    if (end == at) end = at + next_utf8(text, at).length;
    word(text.substr(at, end - at));
    at = end;
  }
}

void PreTokenizer::split(std::string_view text, FunctionRef<void(std::string_view)> word) const {
  const MatchData match(pcre2_match_data_create(1, nullptr));
  const MatchContext limits(pcre2_match_context_create(nullptr));
  if (!match || !limits) fail(ErrorCode::kOutOfMemory, "tokenizer: no memory for the pattern matcher");
  // One match walks a run at most three times, in memory that does not grow with the run.
  pcre2_set_match_limit(limits.get(), static_cast<uint32_t>(std::min<uint64_t>(UINT32_MAX, 1000 + 16 * uint64_t{text.size()})));
  pcre2_set_heap_limit(limits.get(), 16 * 1024);  // KiB
  while (!text.empty()) {
    const size_t valid = valid_utf8_prefix(text);
    if (valid > 0) {
      impl_->split_valid(text.substr(0, valid), match.get(), limits.get(), word);
      text.remove_prefix(valid);
    } else {
      word(text.substr(0, 1));
      text.remove_prefix(1);
    }
  }
}

}  // namespace wick
