#define PCRE2_CODE_UNIT_WIDTH 8
#include "wick/text/pre_tokenizer.h"

#include <pcre2.h>

#include "wick/base/error.h"
#include "wick/text/utf8.h"

namespace wick {
namespace {

constexpr char kGpt2[] = R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
constexpr char kLlama3[] =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr char kQwen2[] =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

struct Rule {
  const char* name;
  const char* isolate;  // characters cut out one by one before the pattern sees what is between them
  const char* pattern;
  bool ignores_merges;
};

constexpr Rule kRules[] = {
    {"gpt-2", nullptr, kGpt2, false},
    {"smollm", R"(\p{N})", kGpt2, false},
    {"llama-bpe", nullptr, kLlama3, true},
    {"qwen2", nullptr, kQwen2, false},
};

struct CodeDeleter {
  void operator()(pcre2_code* code) const { pcre2_code_free(code); }
};
using Code = std::unique_ptr<pcre2_code, CodeDeleter>;

Code compile(const char* pattern) {
  int error = 0;
  PCRE2_SIZE offset = 0;
  Code code(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern), PCRE2_ZERO_TERMINATED, PCRE2_UTF | PCRE2_UCP, &error, &offset, nullptr));
  if (!code) fail(ErrorCode::kInternal, "pre-tokenizer: pattern error ", error, " at ", offset);
  pcre2_jit_compile(code.get(), PCRE2_JIT_COMPLETE);  // where there is no JIT, the interpreter gives the same answers
  return code;
}

// Working memory of one split.
class Matcher {
 public:
  Matcher() : data_(pcre2_match_data_create(1, nullptr)), context_(pcre2_match_context_create(nullptr)), stack_(pcre2_jit_stack_create(1 << 15, 1 << 20, nullptr)) {
    if (!data_ || !context_) {
      release();
      fail(ErrorCode::kOutOfMemory, "pre-tokenizer: out of memory");
    }
    pcre2_set_match_limit(context_, 1u << 28);
    pcre2_set_heap_limit(context_, 1u << 16);  // KiB
    if (stack_) pcre2_jit_stack_assign(context_, nullptr, stack_);
  }
  ~Matcher() { release(); }
  Matcher(const Matcher&) = delete;
  Matcher& operator=(const Matcher&) = delete;

  // The first match at or after `from`; false when there is none.
  bool find(const pcre2_code* code, std::string_view text, size_t from, size_t* begin, size_t* end) {
    const int result =
        pcre2_match(code, reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), from, PCRE2_NO_UTF_CHECK, data_, context_);
    if (result == PCRE2_ERROR_NOMATCH) return false;
    if (result < 0) fail(ErrorCode::kLimitExceeded, "pre-tokenizer: the text could not be matched (error ", result, ")");
    const PCRE2_SIZE* bounds = pcre2_get_ovector_pointer(data_);
    *begin = bounds[0];
    *end = bounds[1];
    return true;
  }

 private:
  void release() {
    pcre2_match_data_free(data_);
    pcre2_match_context_free(context_);
    if (stack_) pcre2_jit_stack_free(stack_);
  }
  pcre2_match_data* data_;
  pcre2_match_context* context_;
  pcre2_jit_stack* stack_;
};

}  // namespace

struct PreTokenizer::Impl {
  Code isolate;
  Code pattern;
  bool ignores_merges = false;

  // Pieces of one run of well-formed UTF-8.
  void split_valid(Matcher& matcher, std::string_view text, FunctionRef<void(std::string_view)> word) const {
    if (!isolate) return split_part(matcher, text, word);
    size_t from = 0, begin = 0, end = 0;
    while (from < text.size() && matcher.find(isolate.get(), text, from, &begin, &end)) {
      split_part(matcher, text.substr(from, begin - from), word);
      word(text.substr(begin, end - begin));
      from = end;
    }
    split_part(matcher, text.substr(from), word);
  }

  void split_part(Matcher& matcher, std::string_view text, FunctionRef<void(std::string_view)> word) const {
    size_t from = 0, begin = 0, end = 0;
    while (from < text.size()) {
      const bool found = matcher.find(pattern.get(), text, from, &begin, &end) && end > begin;
      if (!found) begin = end = text.size();
      if (begin > from) word(text.substr(from, begin - from));
      if (end > begin) word(text.substr(begin, end - begin));
      from = end;
    }
  }
};

PreTokenizer::PreTokenizer(std::string_view name) : impl_(std::make_unique<Impl>()) {
  std::string known;
  for (const Rule& rule : kRules) {
    known += (known.empty() ? "" : ", ") + std::string(rule.name);
    if (name != rule.name) continue;
    if (rule.isolate) impl_->isolate = compile(rule.isolate);
    impl_->pattern = compile(rule.pattern);
    impl_->ignores_merges = rule.ignores_merges;
    return;
  }
  fail(ErrorCode::kUnsupported, "pre-tokenizer '", name.substr(0, 64), "' is not supported (supported: ", known, ")");
}

PreTokenizer::~PreTokenizer() = default;

bool PreTokenizer::ignores_merges() const { return impl_->ignores_merges; }

void PreTokenizer::split(std::string_view text, FunctionRef<void(std::string_view)> word) const {
  Matcher matcher;
  size_t begin = 0, at = 0;
  while (at < text.size()) {
    const Utf8Step step = utf8_step(text.substr(at));
    if (step.kind == Utf8Kind::kValid) {
      at += step.length;
      continue;
    }
    if (at > begin) impl_->split_valid(matcher, text.substr(begin, at - begin), word);
    word(text.substr(at, step.length));
    at += step.length;
    begin = at;
  }
  if (at > begin) impl_->split_valid(matcher, text.substr(begin, at - begin), word);
}

}  // namespace wick
