#include "wick/apps/output_file.h"

#include <sys/stat.h>

#include "wick/apps/terminal.h"
#include "wick/apps/values.h"
#include "wick/base/error.h"

namespace wick::apps {
namespace {

template <class Step>
void as_output(Step&& step) {
  try {
    step();
  } catch (const Error& error) {
    if (error.code() == ErrorCode::kInvalidArgument) throw;
    throw OutputError(error.what(), false);
  }
}

}  // namespace

OutputFile::OutputFile(const std::string& path) {
  struct stat info;
  if (path.find('\0') == std::string::npos && ::stat(path.c_str(), &info) == 0 && !S_ISREG(info.st_mode)) {
    throw OutputError(concat("cannot write to '", shown(path, 300), "': it is not a regular file"), false);
  }
  as_output([&] { file_.emplace(path); });
}

void OutputFile::append(std::string_view bytes) {
  as_output([&] { file_->append(bytes); });
}

void OutputFile::commit() {
  as_output([&] { file_->commit(); });
}

}  // namespace wick::apps
