#include "wick/apps/cache.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>

#include "wick/base/error.h"
#include "tests/apps/wick_process.h"

namespace wick::apps {
namespace {

using testing::HasSubstr;

class CacheTest : public testing::Test {
 protected:
  CacheTest() {
    ::setenv("WICK_CACHE", folder.path().c_str(), 1);
    folder.write("models/mine.gguf", "x");
  }
  ~CacheTest() override { ::unsetenv("WICK_CACHE"); }

  std::pair<ErrorCode, std::string> failure(const std::string& model) {
    try {
      resolve_model(model);
    } catch (const Error& error) {
      return {error.code(), error.what()};
    }
    return {ErrorCode::kInternal, "no failure"};
  }

  test::TemporaryFolder folder;
};

TEST_F(CacheTest, NamesAndPaths) {
  EXPECT_EQ(models_folder(), folder.path() + "/models");
  EXPECT_EQ(resolve_model("mine"), folder.path() + "/models/mine.gguf");
  const std::string file = folder.write("elsewhere.bin", "x");
  EXPECT_EQ(resolve_model(file), file);
}

TEST_F(CacheTest, ErrorsSayWhatToDo) {
  EXPECT_EQ(failure("smollm2-135m").first, ErrorCode::kNotFound);
  EXPECT_THAT(failure("smollm2-135m").second, HasSubstr("wick pull smollm2-135m"));
  EXPECT_THAT(failure("other").second, HasSubstr("wick list"));
  EXPECT_EQ(failure(folder.path()).first, ErrorCode::kIo);
  EXPECT_EQ(failure("/dev/null").first, ErrorCode::kIo);
}

TEST_F(CacheTest, NamesCannotLeaveTheFolder) {
  folder.write("secret.gguf", "x");
  for (const std::string& name : {std::string("../secret"), std::string("models/../mine"), std::string("mine\0x", 6), std::string(100000, 'a'),
                                  std::string("")}) {
    EXPECT_FALSE(is_model_name(name));
    EXPECT_EQ(failure(name).first, ErrorCode::kNotFound) << name.substr(0, 20);
  }
  EXPECT_FALSE(is_model_name(".."));
  EXPECT_EQ(failure("..").first, ErrorCode::kIo);  // a folder, named by its path
}

TEST_F(CacheTest, WhatLooksLikeAModel) {
  for (const char* model : {"mine", "smollm2-135m", "missing.gguf", "dir/model.safetensors"}) EXPECT_TRUE(looks_like_model(model)) << model;
  for (const char* prompt : {"Why is the sky blue?", "hello", "", ".gguf", "two\nlines.gguf"}) EXPECT_FALSE(looks_like_model(prompt)) << prompt;
  EXPECT_FALSE(looks_like_model(std::string(100000, 'a')));
}

TEST(Cache, FolderFollowsTheEnvironment) {
  const char* home = std::getenv("HOME");
  const std::string saved = home ? home : "";
  ::unsetenv("WICK_CACHE");
  ::unsetenv("XDG_CACHE_HOME");
  ::setenv("HOME", "/home/someone", 1);
  EXPECT_EQ(models_folder(), "/home/someone/.cache/wick/models");
  ::setenv("XDG_CACHE_HOME", "/var/cache", 1);
  EXPECT_EQ(models_folder(), "/var/cache/wick/models");
  ::setenv("XDG_CACHE_HOME", "relative", 1);
  EXPECT_EQ(models_folder(), "/home/someone/.cache/wick/models");
  ::unsetenv("XDG_CACHE_HOME");
  ::unsetenv("HOME");
  EXPECT_EQ(models_folder(), "");
  if (!saved.empty()) ::setenv("HOME", saved.c_str(), 1);
}

}  // namespace
}  // namespace wick::apps
