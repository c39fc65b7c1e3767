#include "wick/engine/stop_filter.h"

#include <gtest/gtest.h>

namespace wick {
namespace {

// Feeds the pieces; the text that is shown, with "|" where a stop string ended it.
std::string run(std::vector<std::string> stops, const std::vector<std::string>& pieces) {
  StopFilter filter(std::move(stops));
  std::string out;
  for (const std::string& piece : pieces) {
    if (filter.push(piece, out)) return out + "|";
  }
  filter.finish(out);
  return out;
}

TEST(StopFilter, PassesEverythingWithoutStops) {
  EXPECT_EQ("hello world", run({}, {"hello", " world"}));
  EXPECT_EQ("hello", run({""}, {"hello"}));
}

TEST(StopFilter, EndsBeforeTheFirstStop) {
  EXPECT_EQ("one |", run({"two"}, {"one two three"}));
  EXPECT_EQ("one |", run({"three", "two"}, {"one two three"}));
}

TEST(StopFilter, FindsStopsAcrossPieces) {
  EXPECT_EQ("a|", run({"STOP"}, {"aS", "T", "O", "Pb"}));
  EXPECT_EQ("aSTO", run({"STOP"}, {"aS", "T", "O"}));
  EXPECT_EQ("aSTOx", run({"STOP"}, {"aS", "T", "O", "x"}));
  EXPECT_EQ("aa|", run({"aab"}, {"a", "a", "a", "a", "b"}));
}

TEST(StopFilter, HoldsBackNoMoreThanNeeded) {
  StopFilter filter({"xyz"});
  std::string out;
  filter.push("abcx", out);
  EXPECT_EQ("abc", out);
  filter.push("y", out);
  EXPECT_EQ("abc", out);
  filter.push("x", out);
  EXPECT_EQ("abcxy", out);
}

}  // namespace
}  // namespace wick
