#include "wick/apps/flags.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdlib>

#include "wick/apps/config_file.h"
#include "wick/apps/values.h"
#include "wick/base/error.h"
#include "wick/base/thread_pool.h"

namespace wick::apps {
namespace {

std::string environment_name(const std::string& long_name) {
  std::string name = "WICK_" + long_name;
  for (char& c : name) c = c == '-' ? '_' : (c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c);
  return name;
}

std::string joined(const std::vector<std::string>& items) {
  std::string out;
  for (const std::string& item : items) out.append(out.empty() ? "" : ", ").append(item);
  return out;
}

constexpr const char* kLastGroup = "Other";

class HelpFormatter : public CLI::Formatter {
 public:
  HelpFormatter() { column_width(30); }
  std::string make_help(const CLI::App* app, std::string name, CLI::AppFormatMode) const override {
    std::string text = app->get_description() + "\n\n" + make_usage(app, name);
    const auto positionals = app->get_options([](const CLI::Option* o) { return o->get_positional(); });
    if (!positionals.empty()) text += make_group("Arguments", true, positionals);
    std::vector<std::string> groups = app->get_groups();
    std::stable_partition(groups.begin(), groups.end(), [](const std::string& group) { return group != kLastGroup; });
    for (const std::string& group : groups) {
      const auto options = app->get_options([&](const CLI::Option* o) { return o->get_group() == group && o->nonpositional(); });
      if (!options.empty()) text += make_group(group, false, options);
    }
    return text + (app->get_footer().empty() ? "" : "\n" + app->get_footer() + "\n");
  }
  std::string make_usage(const CLI::App* app, std::string name) const override {
    std::string usage = "Usage: " + (name.empty() ? app->get_name() : name);
    for (const CLI::Option* option : app->get_options([](const CLI::Option* o) { return o->get_positional(); })) {
      usage += " [" + option->get_name(true) + "]";
    }
    return usage + " [FLAGS]\n";
  }
  std::string make_option_opts(const CLI::Option* option) const override {
    return option->get_type_name().empty() || option->get_positional() ? "" : " " + option->get_type_name();
  }
};

}  // namespace

struct Flags::Flag {
  CLI::Option* option;
  Apply apply;
  bool repeated = false;

  std::string name() const {
    const auto& longs = option->get_lnames();
    return !longs.empty() ? "--" + longs[0] : option->get_name(true);
  }

  void set(const std::string& text, const std::string& source) const {
    try {
      apply(text);
    } catch (const Error& error) {
      throw Error(error.code(), source + ": " + error.what());
    }
  }

  bool is_called(const std::string& long_name) const {
    const auto& longs = option->get_lnames();
    return std::find(longs.begin(), longs.end(), long_name) != longs.end();
  }

  // --max-tokens is WICK_MAX_TOKENS, and for its short form -n WICK_N.
  bool set_from_environment() const {
    std::vector<std::string> names = option->get_lnames();
    names.insert(names.end(), option->get_snames().begin(), option->get_snames().end());
    for (const std::string& name : names) {
      const std::string variable = environment_name(name);
      const char* value = std::getenv(variable.c_str());
      if (!value || !*value) continue;
      set(value, variable);
      return true;
    }
    return false;
  }

  void set_from_command_line() const {
    const std::vector<std::string>& values = option->results();
    for (size_t i = repeated ? 0 : values.size() - 1; i < values.size(); ++i) set(values[i], name());
  }
};

struct Flags::Impl {
  CLI::App app;
  std::vector<std::unique_ptr<Flag>> flags;
  std::optional<std::string> config;

  Flag* find(const std::string& long_name) const {
    for (const auto& flag : flags) {
      if (flag->is_called(long_name)) return flag.get();
    }
    return nullptr;
  }
};

Flags::Flags(const std::string& command, const std::string& summary) : impl_(std::make_unique<Impl>()) {
  CLI::App& app = impl_->app;
  app.name(command);
  app.description(summary);
  app.formatter(std::make_shared<HelpFormatter>());
  app.set_help_flag("-h,--help", "Show this")->group(kLastGroup);
  group(kLastGroup);
  text("--config", "FILE", impl_->config, "TOML file of flags: ctx = 4096; those under [run] for that command only");
  group("Options");
}

Flags::~Flags() = default;

Flags::Flag& Flags::add(const char* names, const char* value, const char* help, Apply apply) {
  CLI::Option* option = impl_->app.add_option(names, CLI::callback_t([](const CLI::results_t&) { return true; }), help);
  // Repeated scalars are not an error here: the last one wins, so that a script's defaults can be overridden.
  option->multi_option_policy(CLI::MultiOptionPolicy::TakeAll)->allow_extra_args(false)->type_name(value)->group(group_);
  impl_->flags.push_back(std::make_unique<Flag>(Flag{option, std::move(apply)}));
  return *impl_->flags.back();
}

void Flags::toggle(const char* names, bool& target, const char* help) {
  const std::string description = help;  // const picks the overload that takes a description
  CLI::Option* option = impl_->app.add_flag(names, description)->multi_option_policy(CLI::MultiOptionPolicy::TakeLast)->group(group_);
  impl_->flags.push_back(std::make_unique<Flag>(Flag{option, [&target](const std::string& text) { target = parse_switch(text); }}));
}

void Flags::text(const char* names, const char* value, std::optional<std::string>& target, const char* help) {
  add(names, value, help, [&target](const std::string& text) { target = text; });
}

void Flags::texts(const char* names, const char* value, std::vector<std::string>& target, const char* help) {
  add(names, value, help, [&target](const std::string& text) { target.push_back(text); }).repeated = true;
}

void Flags::integer(const char* names, const char* value, int64_t min, int64_t max, std::optional<int64_t>& target, const char* help) {
  add(names, value, help, [&target, min, max](const std::string& text) { target = parse_integer(text, min, max); });
}

void Flags::number(const char* names, const char* value, double min, double max, std::optional<double>& target, const char* help) {
  add(names, value, help, [&target, min, max](const std::string& text) { target = parse_number(text, min, max); });
}

void Flags::choice(const char* names, const char* value, std::vector<std::string> allowed, std::optional<std::string>& target, const char* help) {
  add(names, value, help, [&target, allowed = std::move(allowed)](const std::string& text) {
    require(std::find(allowed.begin(), allowed.end(), text) != allowed.end(), "'", shown(text), "' is not one of ", joined(allowed));
    target = text;
  });
}

void Flags::custom(const char* names, const char* value, Apply apply, const char* help, bool repeated) {
  add(names, value, help, std::move(apply)).repeated = repeated;
}

void Flags::positional(const char* name, std::optional<std::string>& target, const char* help) {
  add(name, "", help, [&target](const std::string& text) { target = text; }).option->expected(1);
}

void Flags::threads(std::optional<int64_t>& target) {
  integer("-t,--threads", "N", 1, ThreadPool::kMaxThreads, target, "Threads; default: physical cores, affinity or CPU quota, the smallest");
}

void Flags::footer(const char* text) { impl_->app.footer(text); }

bool Flags::parse(std::vector<std::string> arguments) {
  std::reverse(arguments.begin(), arguments.end());  // as App::parse wants them
  try {
    impl_->app.parse(std::move(arguments));
  } catch (const CLI::CallForHelp&) {
    return false;
  } catch (const CLI::ParseError& error) {
    fail(ErrorCode::kInvalidArgument, shown(error.what(), 300), " (", impl_->app.get_name(), " --help shows the flags)");
  }
  std::vector<const Flag*> open;  // that neither the command line nor the environment has set
  for (const auto& flag : impl_->flags) {
    if (flag->option->count() > 0) {
      flag->set_from_command_line();
    } else if (!flag->set_from_environment()) {
      open.push_back(flag.get());
    }
  }
  if (impl_->config) apply_config(*impl_->config, open);
  return true;
}

// Keys outside sections are for every command that has such a flag; in the section of this command each must be one of its flags.
void Flags::apply_config(const std::string& path, const std::vector<const Flag*>& open) {
  const std::string command = impl_->app.get_name().substr(impl_->app.get_name().find(' ') + 1);
  for (const ConfigEntry& entry : read_config(path)) {
    const bool own_section = entry.table == command;
    if (!entry.table.empty() && !own_section) continue;
    std::string name = entry.key;
    std::replace(name.begin(), name.end(), '_', '-');
    const Flag* flag = impl_->find(name);
    require(flag || !own_section, entry.where, ": ", command, " has no flag --", shown(name));
    if (!flag || std::find(open.begin(), open.end(), flag) == open.end()) continue;
    require(!entry.list || flag->repeated, entry.where, ": ", shown(name), " takes one value, not a list");
    for (const std::string& value : entry.values) flag->set(value, entry.where + ": " + shown(name));
  }
}

std::string Flags::help() const { return impl_->app.help(); }

bool Flags::on_command_line(std::string_view name) const {
  const CLI::Option* option = impl_->app.get_option_no_throw(std::string(name));
  return option && option->count() > 0;
}

}  // namespace wick::apps
