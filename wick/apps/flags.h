// The flags of one subcommand: declared once with their type and range, filled from the command line or else from the environment
// (--kv-type: WICK_KV_TYPE) or else from a --config file. The command-line library stays behind this header.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace wick::apps {

class Flags {
 public:
  Flags(const std::string& command, const std::string& summary);  // "wick run"
  ~Flags();
  Flags(const Flags&) = delete;
  Flags& operator=(const Flags&) = delete;

  // `names`: "-t,--threads"; the targets must outlive this object and keep their value when the flag is not given.
  void group(const char* title) { group_ = title; }  // of the flags declared next, in --help
  void toggle(const char* names, bool& target, const char* help);
  void text(const char* names, const char* value, std::optional<std::string>& target, const char* help);
  void texts(const char* names, const char* value, std::vector<std::string>& target, const char* help);  // may be repeated
  void integer(const char* names, const char* value, int64_t min, int64_t max, std::optional<int64_t>& target, const char* help);
  void number(const char* names, const char* value, double min, double max, std::optional<double>& target, const char* help);
  void choice(const char* names, const char* value, std::vector<std::string> allowed, std::optional<std::string>& target, const char* help);
  // Any other type: `apply` parses the text of one occurrence and throws Error(kInvalidArgument).
  using Apply = std::function<void(const std::string&)>;
  void custom(const char* names, const char* value, Apply apply, const char* help, bool repeated = false);
  void positional(const char* name, std::optional<std::string>& target, const char* help);
  void threads(std::optional<int64_t>& target);  // -t,--threads
  void footer(const char* text);

  // False when help was asked for. Throws Error(kInvalidArgument) naming the flag or the variable that is wrong.
  bool parse(std::vector<std::string> arguments);
  std::string help() const;
  bool on_command_line(std::string_view name) const;  // "--model"

 private:
  struct Flag;
  struct Impl;
  void apply_config(const std::string& path, const std::vector<const Flag*>& open);
  Flag& add(const char* names, const char* value, const char* help, Apply apply);
  std::unique_ptr<Impl> impl_;
  std::string group_ = "Options";
};

}  // namespace wick::apps
