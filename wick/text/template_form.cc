#include "wick/text/template_form.h"

#include <cctype>
#include <utility>
#include <vector>

namespace wick {
namespace {

constexpr std::string_view kBlank = " \t\r\n\v\f";

bool is_blank(char c) { return kBlank.find(c) != std::string_view::npos; }
bool is_word(char c) { return std::isalnum(static_cast<unsigned char>(c)) || c == '_'; }

std::string quoted(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    out += c;
  }
  return out += '"';
}

std::string unescaped(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\' && i + 1 < text.size()) ++i;
    out += text[i];
  }
  return out;
}

using Tokens = std::vector<std::string>;
bool is_string(const std::string& token) { return token[0] == '"'; }

// The string literal at the front of `text`, as a token; `text` moves past it. Nothing when it does not end or has an escape beyond the usual.
std::optional<std::string> take_string(std::string_view& text) {
  const char quote = text[0];
  std::string value;
  for (size_t i = 1; i < text.size(); ++i) {
    if (text[i] == quote) {
      text.remove_prefix(i + 1);
      return quoted(value);
    }
    if (text[i] != '\\') {
      value += text[i];
      continue;
    }
    constexpr std::string_view kEscapes = "n\nt\tr\r\\\\''\"\"";  // pairs: letter, character
    size_t escape = 0;
    while (++i < text.size() && escape < kEscapes.size() && kEscapes[escape] != text[i]) escape += 2;
    if (i == text.size() || escape == kEscapes.size()) return std::nullopt;
    value += kEscapes[escape + 1];
  }
  return std::nullopt;
}

std::string take_symbol(std::string_view& text) {
  size_t length = 0;
  while (length < text.size() && is_word(text[length])) ++length;
  const std::string_view two = text.substr(0, 2);
  if (length == 0) length = two == "==" || two == "!=" || two == "<=" || two == ">=" ? 2 : 1;
  std::string symbol(text.substr(0, length));
  text.remove_prefix(length);
  return symbol;
}

// m [ "x" ]  →  m . x
void simplify_subscript(Tokens& tokens) {
  const size_t n = tokens.size();
  if (n < 4 || tokens[n - 1] != "]" || !is_string(tokens[n - 2]) || tokens[n - 3] != "[") return;
  const std::string name = tokens[n - 2].substr(1, tokens[n - 2].size() - 2);
  if (name.empty() || std::isdigit(static_cast<unsigned char>(name[0]))) return;
  for (const char c : name) {
    if (!is_word(c)) return;
  }
  const char before = tokens[n - 4][0];
  if (!is_word(before) && before != ']' && before != ')') return;
  tokens.resize(n - 3);
  tokens.push_back(".");
  tokens.push_back(name);
}

std::optional<Tokens> tokenize(std::string_view inside) {
  Tokens tokens;
  while (!inside.empty()) {
    if (is_blank(inside[0])) {
      inside.remove_prefix(1);
    } else if (inside[0] == '\'' || inside[0] == '"') {
      auto string = take_string(inside);
      if (!string) return std::nullopt;
      tokens.push_back(std::move(*string));
    } else {
      tokens.push_back(take_symbol(inside));
      simplify_subscript(tokens);
    }
  }
  return tokens;
}

// "a" + "b"  →  "ab", where nothing binds tighter to either side.
Tokens join_strings(const Tokens& tokens) {
  Tokens joined;
  for (size_t i = 0; i < tokens.size(); ++i) {
    const size_t n = joined.size();
    const bool adds = n >= 2 && joined[n - 1] == "+" && is_string(joined[n - 2]) && (n == 2 || joined[n - 3] == "+" || joined[n - 3] == "=");
    const bool ends = i + 1 == tokens.size() || tokens[i + 1] == "+";
    if (is_string(tokens[i]) && adds && ends) {
      joined.pop_back();
      joined.back().pop_back();
      joined.back() += tokens[i].substr(1);
    } else {
      joined.push_back(tokens[i]);
    }
  }
  return joined;
}

class Canonical {
 public:
  void text(std::string_view text) {
    if (!text.empty()) output({quoted(text)});
  }
  void output(const Tokens& tokens) {
    if (!output_.empty()) output_.push_back("+");
    output_.insert(output_.end(), tokens.begin(), tokens.end());
  }
  void block(const Tokens& tokens) {
    flush();
    write("{%", tokens, "%}");
  }
  std::string finish() {
    flush();
    return std::move(form_);
  }

 private:
  void flush() {
    if (!output_.empty()) write("{{", output_, "}}");
    output_.clear();
  }
  void write(const char* open, const Tokens& tokens, const char* close) {
    form_ += open;
    for (const std::string& token : join_strings(tokens)) form_ += ' ' + token;
    form_ += ' ';
    form_ += close;
  }

  Tokens output_;
  std::string form_;
};

// Where the tag whose inside begins at `from` closes; strings in it may hold anything.
size_t find_close(std::string_view source, size_t from, std::string_view close, bool comment) {
  char quote = 0;
  for (size_t i = from; i < source.size(); ++i) {
    if (quote) {
      if (source[i] == '\\') ++i;
      else if (source[i] == quote) quote = 0;
    } else if (source.substr(i, 2) == close) {
      return i;
    } else if (!comment && (source[i] == '\'' || source[i] == '"')) {
      quote = source[i];
    }
  }
  return std::string_view::npos;
}

size_t find_open(std::string_view source, size_t from) {
  for (size_t i = source.find('{', from); i != std::string_view::npos; i = source.find('{', i + 1)) {
    if (i + 1 < source.size() && (source[i + 1] == '{' || source[i + 1] == '%' || source[i + 1] == '#')) return i;
  }
  return std::string_view::npos;
}

// Text before a tag: `-` cuts all blanks, a statement or comment cuts those of its own line when it is the first on it.
std::string_view cut_before(std::string_view text, bool strip, bool own_line, bool at_start) {
  if (strip) return text.substr(0, text.find_last_not_of(kBlank) + 1);
  if (!own_line) return text;
  const size_t kept = text.find_last_not_of(" \t") + 1;
  const bool first_on_line = kept == 0 ? at_start : text[kept - 1] == '\n';
  return first_on_line ? text.substr(0, kept) : text;
}

}  // namespace

std::optional<std::string> canonical_template(std::string_view source) {
  if (!source.empty() && source.back() == '\n') source.remove_suffix(1);
  Canonical canonical;
  size_t at = 0;
  for (size_t open = find_open(source, 0); open != std::string_view::npos; open = find_open(source, at)) {
    const char kind = source[open + 1];
    const bool output = kind == '{';
    size_t begin = open + 2;
    const size_t end = find_close(source, begin, kind == '{' ? "}}" : kind == '%' ? "%}" : "#}", kind == '#');
    if (end == std::string_view::npos) return std::nullopt;
    const bool strip_before = begin < end && source[begin] == '-';
    canonical.text(cut_before(source.substr(at, open - at), strip_before, !output, at == 0));
    if (strip_before) ++begin;
    const bool strip_after = begin < end && source[end - 1] == '-';
    const auto tokens = kind == '#' ? Tokens{} : tokenize(source.substr(begin, end - begin - (strip_after ? 1 : 0)));
    if (!tokens) return std::nullopt;
    if (output) {
      canonical.output(*tokens);
    } else if (kind == '%') {
      canonical.block(*tokens);
    }
    at = end + 2;
    if (strip_after) {
      while (at < source.size() && is_blank(source[at])) ++at;
    } else if (!output && at < source.size() && source[at] == '\n') {
      ++at;
    }
  }
  canonical.text(source.substr(at));
  return canonical.finish();
}

std::optional<std::string> match_with_hole(std::string_view form, std::string_view pattern, std::string_view hole) {
  const size_t at = pattern.find(hole);
  const std::string_view before = pattern.substr(0, at);
  const std::string_view after = pattern.substr(at + hole.size());
  if (form.size() < before.size() + after.size() || form.substr(0, before.size()) != before) return std::nullopt;
  if (form.substr(form.size() - after.size()) != after) return std::nullopt;
  const std::string_view text = form.substr(before.size(), form.size() - before.size() - after.size());
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '"') return std::nullopt;
    if (text[i] == '\\') ++i;
  }
  return unescaped(text);
}

}  // namespace wick
