// Runs the built `wick` command in a clean environment and a folder of its own, for tests that look at it from outside.
#pragma once

#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace wick::test {

// A folder that is gone with this object.
class TemporaryFolder {
 public:
  TemporaryFolder();
  ~TemporaryFolder();
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  const std::string& path() const { return path_; }
  std::string write(const std::string& name, const std::string& content, bool executable = false) const;  // the file's path
  std::vector<std::string> files() const;  // every file and folder in it, relative, sorted

 private:
  std::string path_;
};

std::string read_all(const std::string& path);

struct WickResult {
  int exit_code = 0;  // 128 + signal when one ended it
  std::string out, err;
  double cpu_seconds = 0;
  uint64_t peak_bytes = 0;  // resident
  nlohmann::json json() const { return nlohmann::json::parse(out); }
};

struct WickOptions {
  // Beside the caller's, without HOME, XDG_CACHE_HOME, NO_COLOR and WICK_*; an empty value unsets.
  std::map<std::string, std::string> environment = {};
  std::string input = {};
  std::string out_path = {};       // a file for standard output instead of a pipe
  bool close_output = false;       // standard output is not open at all
  int interrupt_after_bytes = -1;  // SIGINT once that much has come on standard output
  int idle_milliseconds = 0;       // between input_before and input
  std::string input_before = {};
};

// The caller's environment, "NAME=value", changed as `environment` above says.
std::vector<std::string> clean_environment(const std::map<std::string, std::string>& changes);

std::vector<char*> pointers(std::vector<std::string>& texts);  // with a null at the end, as exec wants them

WickResult run_wick(const std::vector<std::string>& arguments, const WickOptions& options = {});

// A model to run for real: the file that WICK_TEST_MODEL names. Empty when there is none: skip the test.
std::string test_model();

}  // namespace wick::test

#define WICK_REQUIRE_MODEL() \
  if (wick::test::test_model().empty()) GTEST_SKIP() << "WICK_TEST_MODEL is not set"
