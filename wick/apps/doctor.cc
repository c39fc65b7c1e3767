// wick doctor: what wick sees of this machine, for a bug report.
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <set>
#include <sstream>

#include "wick/apps/bandwidth.h"
#include "wick/apps/build_info.h"
#include "wick/apps/cache.h"
#include "wick/apps/command.h"
#include "wick/apps/exit_code.h"
#include "wick/apps/json_output.h"
#include "wick/apps/terminal.h"
#include "wick/apps/values.h"
#include "wick/base/error.h"
#include "wick/base/file.h"
#include "wick/base/machine.h"
#include "wick/tensor/device.h"

extern char** environ;

namespace wick::apps {
namespace {

// The instruction set extensions that matter to inference, of those that the kernel reports for the first processor.
std::vector<std::string> cpu_features() {
  const char* const prefixes[] = {"avx", "amx", "fma", "f16c", "sse4", "asimd", "sve", "i8mm", "bf16"};
  std::string info;
  try {
    info = read_file("/proc/cpuinfo", uint64_t{64} << 20);
  } catch (const Error&) {
    return {};
  }
  std::istringstream lines(info);
  for (std::string line; std::getline(lines, line);) {
    if (line.rfind("flags", 0) != 0 && line.rfind("Features", 0) != 0) continue;
    std::istringstream words(line.substr(std::min(line.find(':'), line.size() - 1) + 1));
    std::vector<std::string> features;
    for (std::string word; words >> word;) {
      if (std::any_of(std::begin(prefixes), std::end(prefixes), [&](const char* prefix) { return word.rfind(prefix, 0) == 0; })) features.push_back(word);
    }
    return features;
  }
  return {};
}

Json instruction_sets() {
  Json available = Json::array();
  for (const Isa isa : kIsas) {
    if (isa_available(isa)) available.push_back(isa_name(isa));
  }
  return available;
}

Json device_names() {
  Json names = Json::array();
  for (const Device& device : Device::available()) names.push_back(device.name());
  return names;
}

// What default_isa() gives, or why it gives nothing.
std::string instruction_set_in_use() {
  try {
    return isa_name(default_isa());
  } catch (const Error& error) {
    return error.what();
  }
}

Json cache_report() {
  const std::string folder = models_folder();
  if (folder.empty()) return {{"models", nullptr}, {"note", "HOME is not set: set WICK_CACHE"}};
  // A folder that does not exist yet is writable when its nearest existing parent is.
  std::string nearest = folder;
  while (::access(nearest.c_str(), F_OK) != 0 && nearest.find('/') != std::string::npos && nearest != "/") {
    nearest.resize(std::max<size_t>(nearest.rfind('/'), 1));
    if (nearest.rfind('/') == 0 && nearest.size() > 1 && ::access(nearest.c_str(), F_OK) != 0) nearest = "/";
  }
  return {{"models", folder}, {"writable", ::access(nearest.c_str(), W_OK) == 0}};
}

// The variables that change what wick does; only their names and values, none of them is a secret.
Json wick_environment() {
  Json variables = Json::object();
  for (char** variable = environ; *variable; ++variable) {
    const std::string text = *variable;
    if (text.rfind("WICK_", 0) == 0) variables[text.substr(0, text.find('='))] = text.substr(std::min(text.find('=') + 1, text.size()));
  }
  return variables;
}

Json bandwidth_report(const Device& device, int threads) {
  constexpr int kPasses = 3;
  try {
    ReadBandwidth bandwidth(device, threads);
    double best = 0;
    for (int i = 0; i < kPasses; ++i) best = std::max(best, bandwidth.measure());
    return best;
  } catch (const Error&) {
    return nullptr;
  }
}

// Of the devices but the CPU.
Json device_report(int threads) {
  Json devices = Json::object();
  for (const Device& device : Device::available()) {
    if (device.is_cpu()) continue;
    try {
      const DeviceMemory memory = device.memory();
      devices[device.name()] = {{"description", device.description()},
                                {"memory_limit_bytes", memory.limit},
                                {"memory_available_bytes", memory.available},
                                {"read_gb_s", bandwidth_report(device, threads)}};
    } catch (const Error& error) {
      devices[device.name()] = {{"error", error.what()}};
    }
  }
  return devices;
}

Json report() {
  const CpuLimits limits = cpu_limits();
  struct utsname system = {};
  ::uname(&system);
  Json json = {{"version", WICK_VERSION},
               {"compiler", compiler_name()},
               {"system", concat(system.sysname, " ", system.release, " ", system.machine)},
               {"cpu", cpu_model_name()},
               {"features", cpu_features()},
               {"instruction_sets", instruction_sets()},
               {"instruction_set", instruction_set_in_use()},
               {"physical_cores", limits.physical_cores},
               {"affinity", limits.affinity},
               {"quota", limits.quota ? Json(*limits.quota) : Json(nullptr)},
               {"threads", limits.threads()},
               {"memory_limit_bytes", memory_limit_bytes()},
               {"memory_available_bytes", memory_available_bytes()},
               {"read_gb_s", bandwidth_report(Device::cpu(), limits.threads())},
               {"devices", device_names()},
               {"device_details", device_report(limits.threads())},
               {"cache", cache_report()},
               {"environment", wick_environment()}};
  return json;
}

std::string value_text(const std::string& key, const Json& value) {
  if (value.is_null()) return key == "quota" ? "none" : "unknown";
  if (value.is_string()) return shown(value.get_ref<const std::string&>(), 1000);
  if (value.is_array() || value.is_object()) {
    std::string text;
    for (const auto& item : value.items()) {
      text += (text.empty() ? "" : " ") + (value.is_object() ? shown(item.key()) + "=" : std::string()) + value_text(item.key(), item.value());
    }
    return text.empty() ? "none" : text;
  }
  if (key.size() > 6 && key.rfind("_bytes") == key.size() - 6) return format_bytes(value.get<uint64_t>());
  return value.is_number_float() ? format_fixed(value.get<double>(), 1) : value.dump();
}

class DoctorCommand : public Command {
 public:
  void declare(Flags& flags) override {
    flags.group("Output");
    flags.toggle("--json", json_, "One JSON object");
  }

  int run(const Flags&) override {
    const Json all = report();
    if (json_) {
      print_json(all);
      return kExitDone;
    }
    std::string text;
    for (const auto& item : all.items()) text += item.key() + std::string(item.key().size() < 24 ? 24 - item.key().size() : 1, ' ') + value_text(item.key(), item.value()) + "\n";
    write_output(text);
    return kExitDone;
  }

 private:
  bool json_ = false;
};

}  // namespace

std::unique_ptr<Command> make_doctor() { return std::make_unique<DoctorCommand>(); }

}  // namespace wick::apps
