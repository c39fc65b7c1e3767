// The flags of every command that loads a model, and the loading.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "wick/apps/flags.h"
#include "wick/engine/engine.h"
#include "wick/engine/model.h"

namespace wick::apps {

class ModelFlags {
 public:
  void declare_model(Flags& flags);  // -m alone
  void declare(Flags& flags);        // -m and how to run it

  // What the user chose: the positional, else -m, else the default. Throws Error(kInvalidArgument) when both are on the command line.
  std::string choose(const Flags& flags, const std::optional<std::string>& positional) const;
  // Loads it, with a bar on a terminal. Ctrl-C cancels when an InterruptScope is in force.
  std::shared_ptr<const Model> load(const std::string& chosen) const { return load(chosen, engine_options()); }
  // For an engine with these options: where the two do not fit together, that is said before anything is read.
  std::shared_ptr<const Model> load(const std::string& chosen, const EngineOptions& engine) const;
  ModelOptions model_options() const;
  EngineOptions engine_options() const;
  const char* kv_type_name() const;  // "f16": what engine_options() asks for

 private:
  std::optional<std::string> model_, device_, kv_type_, weight_type_;
  std::optional<int64_t> threads_, context_, memory_;
  bool exact_ = false;
  bool batch_invariant_ = false;
};

// Says at load what was decided for the user: a context cut by memory (a warning when not asked for), the rest at level info.
void say_engine(const Engine& engine, const EngineOptions& options);

}  // namespace wick::apps
