#include "wick/apps/model_flags.h"

#include <limits>

#include "wick/apps/cache.h"
#include "wick/apps/interrupt.h"
#include "wick/apps/terminal.h"
#include "wick/base/error.h"
#include "wick/engine/memory_plan.h"
#include "wick/formats/weight_types.h"

namespace wick::apps {

void ModelFlags::declare_model(Flags& flags) {
  flags.group("Model");
  flags.text("-m,--model", "MODEL", model_, "Path of a .gguf file, or a name that `wick list` shows; default: smollm2-135m");
}

void ModelFlags::declare(Flags& flags) {
  declare_model(flags);
  flags.text("--device", "DEVICE", device_, "Where to run: cpu (default), cuda, cuda:N");
  flags.threads(threads_);
  flags.integer("-c,--ctx", "N", 1, std::numeric_limits<int64_t>::max(), context_, "Context in tokens; default: the model's, capped by memory");
  flags.choice("--kv-type", "TYPE", {"f32", "bf16", "f16", "q8_0"}, kv_type_, "Cache of keys and values: f32, bf16, f16 (default), q8_0");
  flags.integer("--memory", "BYTES", 1, std::numeric_limits<int64_t>::max(), memory_,
                "Of the device, for weights, cache and all else; default: what is free");
  flags.choice("--type", "TYPE", recipe_names(), weight_type_, "Convert the weights while loading, as wick quantize does: q8_0, q4_0, q4_k_m, …");
  flags.toggle("--batch-invariant", batch_invariant_, "On a GPU, too: no token depends on what runs beside it; slower there");
  flags.toggle("--exact", exact_, "Everything in f32: the reference numerics, slow");
}

std::string ModelFlags::choose(const Flags& flags, const std::optional<std::string>& positional) const {
  if (!positional) return model_.value_or(kDefaultModel);
  require(!flags.on_command_line("--model"), "--model and MODEL both name a model: give one");
  return *positional;
}

ModelOptions ModelFlags::model_options() const {
  ModelOptions options;
  if (device_) options.device = Device::parse(*device_);
  options.threads = static_cast<int>(threads_.value_or(0));
  options.exact = exact_;
  options.weight_type = weight_type_.value_or("");
  options.memory = static_cast<uint64_t>(memory_.value_or(0));
  return options;
}

std::shared_ptr<const Model> ModelFlags::load(const std::string& chosen, const EngineOptions& engine) const {
  require(!(exact_ && kv_type_ && *kv_type_ != "f32"), "--exact keeps the cache in f32: leave --kv-type ", kv_type_.value_or(""), " out");
  const std::string path = resolve_model(chosen);
  ProgressBar bar("loading");
  ModelOptions options = model_options();
  if (counts_memory(options)) {
    options.before_loading = [&](const ModelFile& file) { require_fit(plan_memory(file, options, engine), options.device); };
  }
  options.log = [](LogLevel level, std::string_view text) { say(level, text); };
  options.on_progress = [&bar](uint64_t done, uint64_t total) {
    bar.update(done, total);
    return interrupted() == 0;
  };
  std::shared_ptr<const Model> model = Model::load(path, options);
  bar.finish();
  return model;
}

EngineOptions ModelFlags::engine_options() const {
  EngineOptions options;
  options.max_sequences = 1;
  options.context = context_.value_or(0);
  options.batch_invariant = batch_invariant_;
  options.kv_type = *dtype_from_name(kv_type_name());
  options.log = [](LogLevel level, std::string_view text) { say(level, text); };
  return options;
}

const char* ModelFlags::kv_type_name() const { return exact_ ? "f32" : kv_type_ ? kv_type_->c_str() : "f16"; }

void say_engine(const Engine& engine, const EngineOptions& options) {
  const Model& model = engine.model();
  const bool cut = options.context == 0 && engine.context() < model.context_length();
  say(cut ? LogLevel::kWarning : LogLevel::kInfo,
      concat("context of ", engine.context(), " tokens", cut ? concat(" of the model's ", model.context_length(), ": memory allows no more") : "", ", cache ",
             format_bytes(engine.kv_bytes())));
}

}  // namespace wick::apps
