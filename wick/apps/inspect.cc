// wick inspect: what a model file holds, whether wick can run it or not.
#include <algorithm>
#include <limits>

#include "wick/apps/cache.h"
#include "wick/apps/command.h"
#include "wick/apps/exit_code.h"
#include "wick/apps/json_output.h"
#include "wick/apps/model_flags.h"
#include "wick/apps/terminal.h"
#include "wick/apps/values.h"
#include "wick/base/checked.h"
#include "wick/base/error.h"
#include "wick/base/machine.h"
#include "wick/engine/memory_plan.h"
#include "wick/formats/model_file.h"
#include "wick/ops/linear.h"

namespace wick::apps {
namespace {

constexpr size_t kShownItems = 6;
constexpr size_t kShownText = 100;

Json to_json(const MetadataValue& value) {
  return std::visit([](const auto& held) { return Json(held); }, value);
}

std::string item_text(const std::string& value) { return concat("\"", shown(value, kShownText), "\""); }
std::string item_text(bool value) { return value ? "true" : "false"; }
template <class T>
std::string item_text(T value) {
  return concat(value);
}

template <class T>
std::string value_text(const T& value) {
  return item_text(value);
}
template <class T>
std::string value_text(const std::vector<T>& values) {
  std::string text = "[";
  for (size_t i = 0; i < values.size() && i < kShownItems; ++i) text += (i ? ", " : "") + item_text(static_cast<T>(values[i]));
  return text + (values.size() > kShownItems ? concat(", … ", values.size(), " in all]") : "]");
}

std::string padded(std::string text, size_t width) {
  text.resize(std::max(width, text.size()), ' ');
  return text;
}

// What running the model takes, as far as the metadata says it.
struct FilePlan {
  uint64_t weights = 0;
  std::optional<int64_t> context;
  std::optional<uint64_t> kv_per_token;  // f16
};

// A key of the architecture; nothing when it is missing or not a sensible number: this is a look at a file, not its loading.
std::optional<int64_t> hyper_parameter(const ModelFile& file, const std::string& key) {
  try {
    const std::string* architecture = file.metadata().find_string("general.architecture");
    return architecture ? file.metadata().find_integer(*architecture + "." + key, 1, int64_t{1} << 31) : std::nullopt;
  } catch (const Error&) {
    return std::nullopt;
  }
}

FilePlan plan_of(const ModelFile& file) {
  FilePlan plan;
  for (const TensorInfo& tensor : file.tensors()) plan.weights += tensor.bytes;
  plan.context = hyper_parameter(file, "context_length");
  const auto layers = hyper_parameter(file, "block_count");
  const auto heads = hyper_parameter(file, "attention.head_count");
  const auto kv_heads = hyper_parameter(file, "attention.head_count_kv");
  const auto width = hyper_parameter(file, "embedding_length");
  auto key = hyper_parameter(file, "attention.key_length");
  if (!key && heads && width) key = *width / *heads;
  if (!layers || !heads || !key) return plan;
  const auto values = hyper_parameter(file, "attention.value_length").value_or(*key);
  const auto row = checked_mul<uint64_t>(kv_heads.value_or(*heads), (*key + values) * 2);
  plan.kv_per_token = row ? checked_mul<uint64_t>(*row, *layers) : std::nullopt;
  return plan;
}

Json plan_json(const FilePlan& plan) {
  Json json = {{"weight_bytes", plan.weights}, {"memory_limit_bytes", memory_limit_bytes()}, {"memory_available_bytes", memory_available_bytes()}};
  if (plan.context) json["context"] = *plan.context;
  if (plan.kv_per_token) json["kv_bytes_per_token_f16"] = *plan.kv_per_token;
  return json;
}

// What running the model on a device takes; the reason when it cannot be said.
struct DevicePlan {
  std::optional<MemoryPlan> memory;
  std::string why_not;
};

DevicePlan device_plan_of(const ModelFile& file, const ModelOptions& model, const EngineOptions& engine) {
  try {
    return {plan_memory(file, model, engine), {}};
  } catch (const Error& error) {
    return {std::nullopt, error.what()};  // a look at a file shows the rest of it all the same
  }
}

Json device_plan_json(const DevicePlan& plan, const Device& device) {
  if (!plan.memory) return {{"device", device.name()}, {"error", plan.why_not}};
  const MemoryPlan& memory = *plan.memory;
  const DeviceMemory there = device.memory();
  return {{"device", device.name()},
          {"context", memory.context},
          {"weight_bytes", memory.weights},
          {"cache_bytes", memory.cache},
          {"workspace_bytes", memory.workspace},
          {"scratch_bytes", memory.scratch},
          {"staging_bytes", memory.staging},
          {"peak_bytes", memory.peak()},
          {"available_bytes", memory.available},
          {"in_use_bytes", there.limit - std::min(there.limit, there.available)},
          {"fits", memory.fits()},
          {"largest_context", memory.largest_context}};
}

std::string device_plan_text(const DevicePlan& plan, const Device& device) {
  std::string text = "\nOn " + device.name();
  if (!plan.memory) return text + "\n  " + shown(plan.why_not, 1000) + "\n";
  const MemoryPlan& memory = *plan.memory;
  const DeviceMemory there = device.memory();
  const auto line = [](const char* label, uint64_t bytes) { return padded(label, 13) + format_bytes(bytes) + "\n"; };
  text += concat(", one sequence of ", memory.context, " tokens\n") + line("  weights", memory.weights) + line("  cache", memory.cache) +
          line("  workspace", memory.workspace) + line("  scratch", memory.scratch) + line("  staging", memory.staging) + line("  at most", memory.peak()) +
          line("  available", memory.available);
  if (!device.is_cpu()) text += line("  in use", there.limit - std::min(there.limit, there.available));  // by the driver for this process, and by others
  if (memory.fits()) return text;
  return text + (memory.largest_context > 0 ? concat("  does not fit; a context of ", memory.largest_context, " would\n") : "  does not fit with any context\n");
}

class InspectCommand : public Command {
 public:
  void declare(Flags& flags) override {
    flags.positional("MODEL", positional_, "As --model");
    model_.declare(flags);
    flags.group("Output");
    flags.toggle("--json", json_, "One JSON object with everything; the text form shortens long values");
    flags.footer("Nothing is loaded. The memory plan is for one sequence of --ctx tokens on --device.");
  }

  int run(const Flags& flags) override {
    const auto file = open_model_file(resolve_model(model_.choose(flags, positional_)));
    const ModelOptions options = model_.model_options();
    const DevicePlan device_plan = device_plan_of(*file, options, model_.engine_options());
    if (json_) {
      Json json = as_json(*file);
      json["device_plan"] = device_plan_json(device_plan, options.device);
      print_json(json);
    } else {
      write_output(as_text(*file) + device_plan_text(device_plan, options.device));
    }
    return kExitDone;
  }

 private:
  static Json as_json(const ModelFile& file) {
    Json metadata = Json::object();
    for (const auto& [key, value] : file.metadata().values()) metadata[key] = to_json(value);
    Json tensors = Json::array();
    for (const TensorInfo& tensor : file.tensors()) {
      Json shape = Json::array();
      for (const int64_t size : tensor.shape) shape.push_back(size);
      tensors.push_back({{"name", tensor.name}, {"shape", std::move(shape)}, {"type", tensor.type_name}, {"bytes", tensor.bytes}});
    }
    const std::string* architecture = string_value(file, "general.architecture");
    return {{"path", file.path()},
            {"file_bytes", file.file_bytes()},
            {"architecture", architecture ? Json(*architecture) : Json(nullptr)},
            {"memory_plan", plan_json(plan_of(file))},
            {"metadata", std::move(metadata)},
            {"tensors", std::move(tensors)}};
  }

  static const std::string* string_value(const ModelFile& file, const char* key) {
    const auto found = file.metadata().values().find(key);
    return found == file.metadata().values().end() ? nullptr : std::get_if<std::string>(&found->second);
  }

  static std::string as_text(const ModelFile& file) {
    const std::string* architecture = string_value(file, "general.architecture");
    std::string text = concat(shown(file.path(), 1000), ": ", architecture ? shown(*architecture) : "no architecture named", ", ", format_bytes(file.file_bytes()),
                              "\n\nMetadata\n");
    for (const auto& [key, value] : file.metadata().values()) {
      text += "  " + padded(shown(key, kShownText), 40) + "  " + std::visit([](const auto& held) { return value_text(held); }, value) + "\n";
    }
    return text + tensors_text(file) + plan_text(plan_of(file));
  }

  static std::string tensors_text(const ModelFile& file) {
    struct Total {
      int64_t count = 0;
      uint64_t bytes = 0;
      bool supported = true;
    };
    std::map<std::string, Total> totals;
    std::string text = "\nTensors\n";
    for (const TensorInfo& tensor : file.tensors()) {
      text += "  " + padded(shown(tensor.name, kShownText), 40) + "  " + padded(shown(tensor.type_name), 6) + "  " + padded(tensor.shape.to_string(), 16) + "  " +
              format_bytes(tensor.bytes) + "\n";
      Total& total = totals[tensor.type_name];
      ++total.count;
      total.bytes += tensor.bytes;
      total.supported = tensor.supported && ops::can_pack(tensor.dtype);
    }
    text += "\nTypes\n";
    for (const auto& [name, total] : totals) {
      text += concat("  ", padded(shown(name), 6), "  ", total.count, " tensors, ", format_bytes(total.bytes), total.supported ? "" : ", wick cannot compute with it",
                     "\n");
    }
    return text;
  }

  static std::string plan_text(const FilePlan& plan) {
    std::string text = "\nMemory\n  weights    " + format_bytes(plan.weights) + "\n";
    if (plan.kv_per_token) {
      text += concat("  cache      ", format_bytes(*plan.kv_per_token), " per token in f16");
      const auto full = plan.context ? checked_mul(*plan.kv_per_token, static_cast<uint64_t>(*plan.context)) : std::nullopt;
      text += full ? concat(", ", format_bytes(*full), " for the context of ", *plan.context, "\n") : "\n";
    }
    return text + concat("  available  ", format_bytes(memory_available_bytes()), " of ", format_bytes(memory_limit_bytes()), "\n");
  }

  std::optional<std::string> positional_;
  ModelFlags model_;
  bool json_ = false;
};

}  // namespace

std::unique_ptr<Command> make_inspect() { return std::make_unique<InspectCommand>(); }

}  // namespace wick::apps
