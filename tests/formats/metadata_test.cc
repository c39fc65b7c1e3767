#include "wick/formats/metadata.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "gguf_bytes.h"

namespace wick {
namespace {

using test::Outcome;
using test::outcome_of;
using testing::HasSubstr;

Metadata example() {
  Metadata metadata;
  metadata.insert("flag", true);
  metadata.insert("minus", int64_t{-5});
  metadata.insert("count", uint64_t{30});
  metadata.insert("huge", std::numeric_limits<uint64_t>::max());
  metadata.insert("eps", 1e-5);
  metadata.insert("nan", std::numeric_limits<double>::quiet_NaN());
  metadata.insert("name", std::string("wick"));
  metadata.insert("flags", std::vector<bool>{true, false});
  metadata.insert("signed", std::vector<int64_t>{-1, 2});
  metadata.insert("unsigned", std::vector<uint64_t>{1, 2});
  metadata.insert("too large", std::vector<uint64_t>{1, uint64_t{1} << 63});
  metadata.insert("numbers", std::vector<double>{0.5, -1});
  metadata.insert("infinite", std::vector<double>{std::numeric_limits<double>::infinity()});
  metadata.insert("words", std::vector<std::string>{"a", "b"});
  return metadata;
}

TEST(Metadata, FindsEachTypeInTheFormsItIsStoredIn) {
  const Metadata metadata = example();
  EXPECT_EQ(metadata.find_bool("flag"), true);
  EXPECT_EQ(metadata.integer("minus", -5, 0), -5);
  EXPECT_EQ(metadata.integer("count", 1, 30), 30);
  EXPECT_EQ(metadata.find_number("eps"), 1e-5);
  EXPECT_EQ(metadata.find_number("minus"), -5.0);
  EXPECT_EQ(metadata.find_number("count"), 30.0);
  EXPECT_EQ(metadata.string("name"), "wick");
  EXPECT_EQ(*metadata.find_integers("signed"), (std::vector<int64_t>{-1, 2}));
  EXPECT_EQ(*metadata.find_integers("unsigned"), (std::vector<int64_t>{1, 2}));
  EXPECT_EQ(*metadata.find_numbers("numbers"), (std::vector<double>{0.5, -1}));
  EXPECT_EQ(*metadata.find_numbers("signed"), (std::vector<double>{-1, 2}));
  EXPECT_EQ(*metadata.find_strings("words"), (std::vector<std::string>{"a", "b"}));
  EXPECT_TRUE(metadata.contains("flags"));
}

TEST(Metadata, MissingKeysAreNothingOrAnError) {
  const Metadata metadata = example();
  EXPECT_FALSE(metadata.contains("x"));
  EXPECT_EQ(metadata.find("x"), nullptr);
  EXPECT_EQ(metadata.find_integer("x", 0, 1), std::nullopt);
  EXPECT_EQ(metadata.find_number("x"), std::nullopt);
  EXPECT_EQ(metadata.find_bool("x"), std::nullopt);
  EXPECT_EQ(metadata.find_string("x"), nullptr);
  EXPECT_EQ(metadata.find_strings("x"), nullptr);
  EXPECT_EQ(metadata.find_integers("x"), std::nullopt);
  EXPECT_EQ(metadata.find_numbers("x"), std::nullopt);
  EXPECT_EQ(outcome_of([&] { metadata.integer("x", 0, 7); }).message, "key 'x' is missing, expected an integer from 0 to 7");
  EXPECT_EQ(outcome_of([&] { metadata.string("x"); }).message, "key 'x' is missing, expected a string");
}

TEST(Metadata, KeepsTheFirstOfTwoEqualKeys) {
  Metadata metadata;
  EXPECT_TRUE(metadata.insert("key", uint64_t{1}));
  EXPECT_FALSE(metadata.insert("key", uint64_t{2}));
  EXPECT_EQ(metadata.integer("key", 0, 9), 1);
}

TEST(Metadata, ErrorsNameTheKeyWhatWasFoundAndWhatWasExpected) {
  const Metadata metadata = example();
  const struct {
    Outcome outcome;
    const char* message;
  } cases[] = {
      {outcome_of([&] { metadata.integer("name", 1, 9); }), "key 'name' is a string, expected an integer from 1 to 9"},
      {outcome_of([&] { metadata.integer("eps", 1, 9); }), "key 'eps' is a floating number, expected an integer from 1 to 9"},
      {outcome_of([&] { metadata.integer("flag", 0, 1); }), "key 'flag' is a bool, expected an integer from 0 to 1"},
      {outcome_of([&] { metadata.integer("count", 31, 99); }), "key 'count' is 30, expected an integer from 31 to 99"},
      {outcome_of([&] { metadata.integer("count", 0, 29); }), "key 'count' is 30, expected an integer from 0 to 29"},
      {outcome_of([&] { metadata.integer("minus", 0, 9); }), "key 'minus' is -5, expected an integer from 0 to 9"},
      {outcome_of([&] { metadata.integer("huge", -1, INT64_MAX); }), "key 'huge' is 18446744073709551615, expected an integer from -1 to"},
      {outcome_of([&] { metadata.find_number("words"); }), "key 'words' is an array of strings, expected a number"},
      {outcome_of([&] { metadata.find_number("nan"); }), "key 'nan' holds nan, expected a finite number"},
      {outcome_of([&] { metadata.find_bool("count"); }), "key 'count' is an integer, expected a bool"},
      {outcome_of([&] { metadata.string("words"); }), "key 'words' is an array of strings, expected a string"},
      {outcome_of([&] { metadata.find_strings("name"); }), "key 'name' is a string, expected an array of strings"},
      {outcome_of([&] { metadata.find_integers("numbers"); }),
       "key 'numbers' is an array of floating numbers, expected an array of integers"},
      {outcome_of([&] { metadata.find_integers("flags"); }), "key 'flags' is an array of bools, expected an array of integers"},
      {outcome_of([&] { metadata.find_integers("too large"); }), "key 'too large' holds 9223372036854775808, expected integers up to"},
      {outcome_of([&] { metadata.find_numbers("flags"); }), "key 'flags' is an array of bools, expected an array of numbers"},
      {outcome_of([&] { metadata.find_numbers("count"); }), "key 'count' is an integer, expected an array of numbers"},
      {outcome_of([&] { metadata.find_numbers("infinite"); }), "key 'infinite' holds inf, expected a finite number"},
  };
  for (const auto& [outcome, message] : cases) {
    EXPECT_EQ(outcome.code, ErrorCode::kInvalidFile) << message;
    EXPECT_THAT(outcome.message, HasSubstr(message));
  }
}

}  // namespace
}  // namespace wick
