#include "wick/apps/config_file.h"

#include <algorithm>
#include <charconv>
#include <set>
#include <utility>

#include "wick/apps/values.h"
#include "wick/base/error.h"
#include "wick/base/file.h"
#include "wick/text/utf8.h"

namespace wick::apps {
namespace {

constexpr uint64_t kMaxBytes = uint64_t{1} << 20;

bool is_word(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-'; }

class Parser {
 public:
  Parser(std::string_view text, const std::string& source) : text_(text), source_(source) {}

  std::vector<ConfigEntry> parse() {
    std::vector<ConfigEntry> entries;
    std::set<std::pair<std::string, std::string>> seen;
    std::string table;
    while (skip_lines(), at_ < text_.size()) {
      if (take('[')) {
        table = key();
        expect(take_after_spaces(']'), "']' after the name of a table");
      } else {
        entries.push_back(entry(table));
        if (!seen.emplace(table, entries.back().key).second) complain("'" + shown(entries.back().key) + "' is set twice");
      }
      skip_spaces();
      skip_comment();
      expect(at_ == text_.size() || peek() == '\n' || text_.substr(at_, 2) == "\r\n", "the end of the line");
    }
    return entries;
  }

 private:
  [[noreturn]] void complain(const std::string& what) const { fail(ErrorCode::kInvalidFile, where(), ": ", what); }
  void expect(bool condition, const char* what) const {
    if (!condition) complain(std::string("expected ") + what);
  }
  std::string where() const { return concat(shown(source_, 300), ":", line_); }
  char peek() const { return at_ < text_.size() ? text_[at_] : '\0'; }
  bool take(char c) {
    if (at_ == text_.size() || text_[at_] != c) return false;
    ++at_;
    return true;
  }
  bool take_after_spaces(char c) {
    skip_spaces();
    return take(c);
  }
  void skip_spaces() {
    while (peek() == ' ' || peek() == '\t') ++at_;
  }
  void skip_comment() {
    if (peek() == '#') at_ = std::min(text_.find('\n', at_), text_.size());
  }
  void skip_lines() {
    while (true) {
      skip_spaces();
      skip_comment();
      if (text_.substr(at_, 2) == "\r\n") ++at_;
      if (!take('\n')) return;
      ++line_;
    }
  }

  ConfigEntry entry(const std::string& table) {
    ConfigEntry out;
    out.where = where();
    out.table = table;
    out.key = key();
    expect(take_after_spaces('='), "KEY = VALUE");
    skip_spaces();
    out.list = take('[');
    if (out.list) {
      array(out.values);
    } else {
      out.values.push_back(scalar());
    }
    return out;
  }

  std::string key() {
    skip_spaces();
    if (peek() == '"' || peek() == '\'') return scalar();
    const size_t begin = at_;
    while (is_word(peek())) ++at_;
    expect(at_ > begin, "a name");
    return std::string(text_.substr(begin, at_ - begin));
  }

  void array(std::vector<std::string>& values) {
    while (true) {
      skip_lines();
      if (take(']')) return;
      values.push_back(scalar());
      skip_lines();
      if (take(']')) return;
      expect(take(','), "',' or ']' in a list");
    }
  }

  std::string scalar() {
    if (take('"')) return quoted('"');
    if (take('\'')) return quoted('\'');
    const size_t begin = at_;
    while (is_word(peek()) || peek() == '.' || peek() == '+') ++at_;
    std::string word;
    for (const char c : text_.substr(begin, at_ - begin)) {
      if (c != '_') word += c;  // 1_000
    }
    const bool number = !word.empty() && (word[0] == '+' || word[0] == '-' || (word[0] >= '0' && word[0] <= '9'));
    expect(number || word == "true" || word == "false", "a value: \"text\", a number, true, false, or a list of these");
    return word[0] == '+' ? word.substr(1) : word;
  }

  std::string quoted(char quote) {
    std::string out;
    while (true) {
      const char c = peek();
      expect(at_ < text_.size() && c != '\n', "a quote at the end of a text");
      if (static_cast<unsigned char>(c) < 0x20 && c != '\t') complain("a control character in a text: write it as \\uXXXX");
      ++at_;
      if (c == quote) return out;
      if (c == '\\' && quote == '"') {
        escape(out);
      } else {
        out += c;
      }
    }
  }

  void escape(std::string& out) {
    static constexpr std::string_view kNames = "btnfr\"\\", kValues = "\b\t\n\f\r\"\\";
    const char name = peek();
    const size_t which = at_ < text_.size() ? kNames.find(name) : std::string_view::npos;
    const size_t digits = name == 'u' ? 4 : name == 'U' ? 8 : 0;
    ++at_;
    if (which != std::string_view::npos) {
      out += kValues[which];
      return;
    }
    expect(digits > 0 && text_.size() - std::min(at_, text_.size()) >= digits,
           "\\b \\t \\n \\f \\r \\\" \\\\ \\uXXXX or \\UXXXXXXXX after a backslash");
    uint32_t code = 0;
    const char* const begin = text_.data() + at_;
    const auto [end, error] = std::from_chars(begin, begin + digits, code, 16);
    const bool whole = error == std::errc() && end == begin + digits;
    expect(whole && code <= 0x10ffff && (code < 0xd800 || code > 0xdfff), "a Unicode character in hexadecimal");
    append_utf8(code, out);
    at_ += digits;
  }

  const std::string_view text_;
  const std::string& source_;
  size_t at_ = 0;
  size_t line_ = 1;
};

}  // namespace

std::vector<ConfigEntry> parse_config(std::string_view text, const std::string& source) { return Parser(text, source).parse(); }

std::vector<ConfigEntry> read_config(const std::string& path) { return parse_config(read_file(path, kMaxBytes), path); }

}  // namespace wick::apps
