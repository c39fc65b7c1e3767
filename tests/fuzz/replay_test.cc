// Runs a fuzz target over its corpus, without a fuzzer: seeds and whatever was once found. Built once for each target.
#include <gtest/gtest.h>

#include <cstdint>
#include <filesystem>

#include "wick/base/file.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace {

int run(const std::string& bytes) { return LLVMFuzzerTestOneInput(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()); }

TEST(FuzzReplay, EveryFileOfTheCorpus) {
  int files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(WICK_FUZZ_CORPUS)) {
    SCOPED_TRACE(entry.path().filename());
    EXPECT_EQ(run(wick::read_file(entry.path(), 16 << 20)), 0);
    ++files;
  }
  EXPECT_GT(files, 0);
}

TEST(FuzzReplay, EveryFileOfTheCorpusCutAndChanged) {
  for (const auto& entry : std::filesystem::directory_iterator(WICK_FUZZ_CORPUS)) {
    SCOPED_TRACE(entry.path().filename());
    const std::string whole = wick::read_file(entry.path(), 16 << 20);
    const size_t step = 1 + whole.size() / 500;
    for (size_t i = 0; i < whole.size(); i += step) {
      EXPECT_EQ(run(whole.substr(0, i)), 0);
      std::string changed = whole;
      changed[i] = static_cast<char>(~changed[i]);
      EXPECT_EQ(run(changed), 0);
    }
  }
}

}  // namespace
