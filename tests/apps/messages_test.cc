#include "wick/apps/messages.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "wick/base/error.h"

namespace wick::apps {
namespace {

using testing::HasSubstr;

std::string failure(const std::string& text) {
  try {
    parse_messages(text, "F");
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInvalidFile);
    return error.what();
  }
  return "";
}

TEST(Messages, RolesAndBothFormsOfContent) {
  const auto messages = parse_messages(R"([{"role":"developer","content":"be brief"},
    {"content":[{"type":"text","text":"one "},{"type":"text","text":"two"}],"role":"user"},{"role":"assistant","content":""}])",
                                       "F");
  ASSERT_EQ(messages.size(), 3u);
  EXPECT_EQ(messages[0].role, "system");
  EXPECT_EQ(messages[1].content, "one two");
  EXPECT_EQ(messages[2].role, "assistant");
}

TEST(Messages, ErrorsNameFileAndMessage) {
  EXPECT_THAT(failure(""), HasSubstr("F is not JSON"));
  EXPECT_THAT(failure("{}"), HasSubstr("list of messages"));
  EXPECT_THAT(failure("[]"), HasSubstr("list of messages"));
  EXPECT_THAT(failure(R"([{"role":"user","content":"a"},3])"), HasSubstr("F: message 1: expected an object"));
  EXPECT_THAT(failure(R"([{"role":"tool","content":"a"}])"), HasSubstr("role 'tool'"));
  EXPECT_THAT(failure(R"([{"role":"user"}])"), HasSubstr("'content'"));
  EXPECT_THAT(failure(R"([{"role":7,"content":"a"}])"), HasSubstr("'role'"));
  EXPECT_THAT(failure(R"([{"role":"user","content":null}])"), HasSubstr("'content'"));
  EXPECT_THAT(failure(R"([{"role":"user","content":"a","tool_calls":[]}])"), HasSubstr("tool_calls"));
  EXPECT_THAT(failure(R"([{"role":"user","content":[{"type":"image"}]}])"), HasSubstr("text parts"));
  EXPECT_THAT(failure("[{\"role\":\"user\",\"content\":\"\xff\"}]"), HasSubstr("not JSON"));
}

TEST(Messages, DepthIsLimited) {
  EXPECT_THAT(failure(std::string(1000000, '[')), HasSubstr("nested"));
  EXPECT_THAT(failure(std::string(1000000, '[') + std::string(1000000, ']')), HasSubstr("nested"));
}

}  // namespace
}  // namespace wick::apps
