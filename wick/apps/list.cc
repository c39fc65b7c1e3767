// wick list: the models that have a name: those in the cache folder and those that `wick pull` can get.
#include <algorithm>
#include <filesystem>

#include "wick/apps/cache.h"
#include "wick/apps/command.h"
#include "wick/apps/exit_code.h"
#include "wick/apps/json_output.h"
#include "wick/apps/terminal.h"
#include "wick/apps/values.h"

namespace wick::apps {
namespace {

struct NamedModel {
  std::string name;
  std::string path;  // empty: not here
  uint64_t bytes = 0;
};

std::vector<NamedModel> named_models() {
  namespace fs = std::filesystem;
  std::vector<NamedModel> models;
  std::error_code error;
  // A folder that is missing or unreadable holds no models.
  fs::directory_iterator entry(models_folder(), error);
  for (; !error && entry != fs::directory_iterator(); entry.increment(error)) {
    const std::string name = entry->path().stem().string();
    std::error_code unreadable;
    if (entry->path().extension() != ".gguf" || !is_model_name(name) || !entry->is_regular_file(unreadable)) continue;
    const uint64_t bytes = entry->file_size(unreadable);
    if (!unreadable) models.push_back({name, entry->path().string(), bytes});
  }
  for (const PullableModel& pullable : pullable_models()) {
    const auto same = [&](const NamedModel& model) { return model.name == pullable.name; };
    if (std::none_of(models.begin(), models.end(), same)) models.push_back({pullable.name, "", pullable.bytes});
  }
  std::sort(models.begin(), models.end(), [](const NamedModel& a, const NamedModel& b) { return a.name < b.name; });
  return models;
}

class ListCommand : public Command {
 public:
  void declare(Flags& flags) override {
    flags.group("Output");
    flags.toggle("--json", json_, "One JSON object: folder, models [{name, bytes, state, path}]");
  }

  int run(const Flags&) override {
    const std::vector<NamedModel> models = named_models();
    if (json_) {
      Json list = Json::array();
      for (const NamedModel& model : models) {
        list.push_back({{"name", model.name}, {"bytes", model.bytes}, {"state", model.path.empty() ? "available" : "cached"}});
        list.back()["path"] = model.path.empty() ? Json(nullptr) : Json(model.path);
      }
      const std::string folder = models_folder();
      print_json({{"folder", folder.empty() ? Json(nullptr) : Json(folder)}, {"models", std::move(list)}});
      return kExitDone;
    }
    std::string text;
    for (const NamedModel& model : models) {
      text += model.name + std::string(model.name.size() < 24 ? 24 - model.name.size() : 1, ' ') + format_bytes(model.bytes) + "  " +
              (model.path.empty() ? "not here yet: wick pull " + model.name : shown(model.path, 1000)) + "\n";
    }
    write_output(text);
    return kExitDone;
  }

 private:
  bool json_ = false;
};

}  // namespace

std::unique_ptr<Command> make_list() { return std::make_unique<ListCommand>(); }

}  // namespace wick::apps
