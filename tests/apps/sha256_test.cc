#include "wick/apps/sha256.h"

#include <gtest/gtest.h>

#include "wick/base/error.h"
#include "tests/apps/wick_process.h"

namespace wick::apps {
namespace {

TEST(Sha256, StandardVectors) {
  const test::TemporaryFolder folder;
  EXPECT_EQ(sha256_of_file(folder.write("empty", "")), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(sha256_of_file(folder.write("abc", "abc")), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  uint64_t done = 0;
  EXPECT_EQ(sha256_of_file(folder.write("a", std::string(3000000, 'a')), [&](uint64_t bytes) { done = bytes; }),
            "2a152c894398719c0570f83fac34ac03a0f6e8e474b995c2403aa5434f7b9dd4");
  EXPECT_EQ(done, 3000000u);
}

TEST(Sha256, AMissingFileIsAnError) { EXPECT_THROW(sha256_of_file("/nonexistent/file"), Error); }

}  // namespace
}  // namespace wick::apps
