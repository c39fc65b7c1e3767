#include "wick/text/special_tokens.h"

#include <gtest/gtest.h>

#include "wick/base/error.h"

namespace wick {
namespace {

constexpr TokenKind kControl = TokenKind::kControl, kUser = TokenKind::kUserDefined, kNormal = TokenKind::kNormal;

void expect_match(const std::optional<SpecialTokens::Match>& match, size_t begin, size_t length, int32_t id) {
  ASSERT_TRUE(match);
  EXPECT_EQ(match->begin, begin);
  EXPECT_EQ(match->length, length);
  EXPECT_EQ(match->id, id);
}

TEST(SpecialTokens, TheFirstAndOfThoseTheLongest) {
  const SpecialTokens special({"<a>", "<a>b", "b", "<a", "plain"}, {kControl, kControl, kControl, kUser, kNormal});
  expect_match(special.find("x<a>b", 0, true), 1, 4, 1);
  expect_match(special.find("x<a>c", 0, true), 1, 3, 0);
  expect_match(special.find("x<a>b", 0, false), 1, 2, 3);  // only user-defined ones
  expect_match(special.find("x<a>b", 2, true), 4, 1, 2);
  EXPECT_FALSE(special.find("plain", 0, true));
  EXPECT_FALSE(special.find("", 0, true));
  EXPECT_FALSE(special.find("<a>", 3, true));
}

TEST(SpecialTokens, TheFirstOfEqualSpellingsCounts) {
  const SpecialTokens special({"<x>", "<x>"}, {kControl, kControl});
  expect_match(special.find("<x>", 0, true), 0, 3, 0);
}

TEST(SpecialTokens, AnyBytesWillDo) {
  const SpecialTokens special({std::string("\0\xff", 2), "é"}, {kControl, kControl});
  expect_match(special.find(std::string_view("a\0\xff", 3), 0, true), 1, 2, 0);
  expect_match(special.find("caf\u00e9", 0, true), 3, 2, 1);
}

TEST(SpecialTokens, LongSpellingsAreRefused) {
  EXPECT_NO_THROW(SpecialTokens({std::string(SpecialTokens::kMaxLength, 'x')}, {kControl}));
  EXPECT_THROW(SpecialTokens({std::string(SpecialTokens::kMaxLength + 1, 'x')}, {kControl}), Error);
}

}  // namespace
}  // namespace wick
