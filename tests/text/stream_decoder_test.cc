#include <gtest/gtest.h>

#include <random>

#include "tests/text/vocabulary.h"
#include "wick/text/tokenizer.h"
#include "wick/text/utf8.h"

namespace wick {
namespace {

const std::string kReplacement = "\uFFFD";

std::string decode_all(const Tokenizer& tokenizer, const std::vector<int32_t>& ids, bool render_special = false) {
  StreamDecoder decoder(tokenizer, render_special);
  std::string text;
  for (const int32_t id : ids) {
    decoder.push(id, text);
    EXPECT_EQ(valid_utf8_prefix(text), text.size());  // at every step
  }
  decoder.finish(text);
  EXPECT_EQ(valid_utf8_prefix(text), text.size());
  return text;
}

std::vector<int32_t> byte_ids(std::string_view text) {
  std::vector<int32_t> ids;
  for (const char c : text) ids.push_back(static_cast<uint8_t>(c));
  return ids;
}

// Tokens of single bytes: every boundary there is.
TEST(StreamDecoder, ValidTextComesThroughByteByByte) {
  const auto tokenizer = make_tokenizer(test::byte_vocabulary());
  for (const std::string& text : test::Golden().texts()) EXPECT_EQ(decode_all(*tokenizer, byte_ids(text)), text);
}

// Tokens of real vocabularies end inside characters too.
TEST(StreamDecoder, ValidTextComesThroughTokenByToken) {
  const test::Golden golden;
  for (const char* kind : test::kPreTokenizers) {
    const auto tokenizer = make_tokenizer(golden.config(kind));
    for (const std::string& text : golden.texts())
      EXPECT_EQ(decode_all(*tokenizer, tokenizer->encode(text, {.parse_special = true}), true), text);
  }
}

// A stream that ends early: all but the character that it was in, and U+FFFD for that.
TEST(StreamDecoder, EveryTextCutAtEveryByte) {
  const auto tokenizer = make_tokenizer(test::byte_vocabulary());
  for (const std::string& text : test::Golden().texts()) {
    for (size_t cut = 0; cut < text.size(); ++cut) {
      const size_t whole = valid_utf8_prefix(std::string_view(text).substr(0, cut));
      ASSERT_EQ(decode_all(*tokenizer, byte_ids(text.substr(0, cut))), text.substr(0, whole) + (whole < cut ? kReplacement : ""));
    }
  }
}

TEST(StreamDecoder, MayGoOnAfterFinishing) {
  const auto tokenizer = make_tokenizer(test::byte_vocabulary());
  StreamDecoder decoder(*tokenizer);
  std::string out;
  decoder.push(0xE2, out);
  decoder.finish(out);
  decoder.push('a', out);
  decoder.finish(out);
  EXPECT_EQ(out, kReplacement + "a");
}

TEST(StreamDecoder, CharactersComeWhenTheyAreWhole) {
  const auto tokenizer = make_tokenizer(test::byte_vocabulary());
  StreamDecoder decoder(*tokenizer);
  const std::string emoji = "😀";
  std::string out;
  for (size_t i = 0; i + 1 < emoji.size(); ++i) {
    decoder.push(static_cast<uint8_t>(emoji[i]), out);
    EXPECT_EQ(out, "");
  }
  decoder.push(static_cast<uint8_t>(emoji.back()), out);
  EXPECT_EQ(out, emoji);
}

TEST(StreamDecoder, WhatCannotBecomeValidIsReplaced) {
  const auto tokenizer = make_tokenizer(test::byte_vocabulary());
  EXPECT_EQ(decode_all(*tokenizer, byte_ids("a\xff"
                                            "b")),
            "a" + kReplacement + "b");
  EXPECT_EQ(decode_all(*tokenizer, byte_ids("\xe2\x82"
                                            "b")),
            kReplacement + "b");
  EXPECT_EQ(decode_all(*tokenizer, byte_ids("a\xe2\x82")), "a" + kReplacement);  // held back until the end
  EXPECT_EQ(decode_all(*tokenizer, byte_ids("\xf0\x9f\x98\xe2\x82\xac")), kReplacement + "€");
}

TEST(StreamDecoder, TheCutsDoNotMatter) {
  const auto bytes = make_tokenizer(test::byte_vocabulary());
  std::mt19937 random(3);
  for (int round = 0; round < 300; ++round) {
    std::string text;
    for (int i = 0; i < 30; ++i) text += random() % 3 == 0 ? "é" : random() % 2 == 0 ? "😀" : std::string(1, static_cast<char>(random()));
    // The same bytes as tokens of random lengths.
    std::vector<std::string> pieces;
    for (size_t at = 0; at < text.size(); at += pieces.back().size()) pieces.push_back(text.substr(at, 1 + random() % 5));
    std::vector<std::string> spelled;
    for (const std::string& piece : pieces) {
      spelled.emplace_back();
      for (const char c : piece) spelled.back() += spell_byte(static_cast<uint8_t>(c));
    }
    const auto tokenizer = make_tokenizer(test::byte_vocabulary(spelled));
    std::vector<int32_t> ids;
    for (size_t i = 0; i < pieces.size(); ++i) ids.push_back(256 + static_cast<int32_t>(i));
    ASSERT_EQ(decode_all(*tokenizer, ids), decode_all(*bytes, byte_ids(text)));
  }
}

TEST(StreamDecoder, ControlTokensShowOnlyWhenAskedFor) {
  const auto tokenizer = make_tokenizer(test::byte_vocabulary());
  EXPECT_EQ(decode_all(*tokenizer, {'a', 256, 'b'}), "ab");
  EXPECT_EQ(decode_all(*tokenizer, {'a', 256, 'b'}, true), "a<|end|>b");
}

}  // namespace
}  // namespace wick
