// GGUF files that are damaged or made to do harm: each is refused with an Error that names what is wrong, within bounds of memory.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "allocation_probe.h"
#include "gguf_bytes.h"
#include "wick/formats/gguf.h"

namespace wick {
namespace {

using test::GgufBytes;
using test::Outcome;
using test::outcome_of;
using test::small_gguf;
using testing::HasSubstr;

// Opens `bytes` and checks what every input must keep to: at most 64 MiB and 32 bytes per byte, and a short message.
Outcome open(const std::string& bytes) {
  auto source = std::make_unique<MemorySource>(bytes, "bad.gguf");
  const test::PeakProbe probe;
  const Outcome outcome = outcome_of([&] { GgufFile file(std::move(source)); });
  EXPECT_LE(probe.bytes(), (uint64_t{64} << 20) + 32 * bytes.size());
  EXPECT_LT(outcome.message.size(), 600u);
  return outcome;
}

void expect_refused(const std::string& bytes, const std::string& message, ErrorCode code = ErrorCode::kInvalidFile) {
  const Outcome outcome = open(bytes);
  EXPECT_EQ(outcome.code, code) << message;
  EXPECT_THAT(outcome.message, HasSubstr(message));
}

constexpr uint64_t kExtremes[] = {0, 1, (1ull << 31) - 1, 1ull << 31, (1ull << 31) + 1, 1ull << 32, 1ull << 63, UINT64_MAX};

TEST(GgufHostile, TheSmallFileItselfIsFine) { EXPECT_EQ(open(small_gguf().bytes).code, std::nullopt); }

TEST(GgufHostile, EveryCountAtItsExtremes) {
  const GgufBytes file = small_gguf();
  for (const char* field : {"tensor count", "key count", "key length", "string length", "string count", "element length", "byte count",
                            "name length", "dimension", "inner", "outer", "offset", "second offset"}) {
    for (const uint64_t value : kExtremes) {
      const Outcome outcome = open(file.with(field, value));
      const bool same = file.with(field, value) == file.bytes;
      const bool harmless = std::string(field) == "dimension" && value == 1;  // a shorter tensor
      const bool fewer = std::string(field) == "outer" && value == 1;
      const bool no_tensors = std::string(field) == "tensor count" && value <= 1;
      if (same || harmless || fewer || no_tensors) {
        EXPECT_EQ(outcome.code, std::nullopt) << field << " " << value << ": " << outcome.message;
      } else {
        EXPECT_EQ(outcome.code, ErrorCode::kInvalidFile) << field << " " << value;
      }
    }
  }
}

TEST(GgufHostile, SmallFilesThatAskForHugeAllocations) {
  GgufBytes keys;
  keys.header(0, 1ull << 32);
  expect_refused(keys.bytes, "bad.gguf: the number of keys is 4294967296, but only 0 bytes are left in the file");
  GgufBytes tensors;
  tensors.header(1ull << 32, 0);
  expect_refused(tensors.bytes, "the number of tensors is 4294967296, but only 8 bytes are left in the file");
  for (const uint32_t type : {0u, 1u, 2u, 3u, 4u, 5u, 6u, 7u, 8u, 10u, 11u, 12u}) {
    GgufBytes array;
    array.header(0, 1).array("k", type, 1ull << 32).u64(0).u64(0);
    expect_refused(array.bytes, "key 'k': the length of an array is 4294967296, but only 16 bytes are left in the file");
  }
  GgufBytes text;
  text.header(0, 1).key("k", 8).u64(1ull << 32).u64(0);
  expect_refused(text.bytes, "key 'k': the file ends inside a string: 4294967296 bytes needed at 45, 8 left");
}

TEST(GgufHostile, WorstCasesOfMemoryPerByte) {
  GgufBytes strings;  // empty strings, elements of one byte, keys and tensors of the smallest size: the most memory for a byte of file
  strings.header(0, 1).array("k", 8, 400000);
  strings.bytes.append(400000 * 8, '\0');
  EXPECT_EQ(open(strings.bytes).code, std::nullopt);
  GgufBytes bytes;
  bytes.header(0, 1).array("k", 0, 4000000);
  bytes.bytes.append(4000000, '\0');
  EXPECT_EQ(open(bytes.bytes).code, std::nullopt);
  GgufBytes keys;
  keys.header(0, 200000);
  for (uint32_t i = 0; i < 200000; ++i)
    keys.u64(3).number(uint8_t(i)).number(uint8_t(i >> 8)).number(uint8_t(i >> 16)).u32(0).number(uint8_t{0});
  EXPECT_EQ(open(keys.bytes).code, std::nullopt);
  GgufBytes tensors;
  tensors.header(100000, 1).key("general.alignment", 4).u32(1);
  for (uint32_t i = 0; i < 100000; ++i)
    tensors.u64(3).number(uint8_t(i)).number(uint8_t(i >> 8)).number(uint8_t(i >> 16)).u32(1).u64(1).u32(24).u64(i);
  tensors.data(100000, 1);
  EXPECT_EQ(open(tensors.bytes).code, std::nullopt);
}

TEST(GgufHostile, CutAtEveryByte) {
  const std::string whole = small_gguf().bytes;
  for (size_t size = 0; size < whole.size(); ++size) {
    const Outcome outcome = open(whole.substr(0, size));
    EXPECT_EQ(outcome.code, ErrorCode::kInvalidFile) << size;
    EXPECT_THAT(outcome.message, HasSubstr("bad.gguf: ")) << size;
  }
}

TEST(GgufHostile, EveryByteChanged) {
  const std::string whole = small_gguf().bytes;
  for (size_t i = 0; i < whole.size(); ++i) {
    for (const int change : {0x01, 0x80, 0xff}) {
      std::string changed = whole;
      changed[i] = static_cast<char>(changed[i] ^ change);
      const Outcome outcome = open(changed);
      EXPECT_TRUE(!outcome.code || outcome.code == ErrorCode::kInvalidFile || outcome.code == ErrorCode::kUnsupported) << i;
    }
  }
}

TEST(GgufHostile, MagicAndVersions) {
  const GgufBytes file = small_gguf();
  std::string other = file.bytes;
  other[0] = 'X';
  expect_refused(other, "bad.gguf: not a GGUF file");
  expect_refused(file.with("version", uint32_t{0}), "GGUF version 0 is not supported", ErrorCode::kUnsupported);
  expect_refused(file.with("version", uint32_t{1}), "GGUF version 1 is not supported (supported: 2, 3)", ErrorCode::kUnsupported);
  expect_refused(file.with("version", uint32_t{4}), "GGUF version 4 is not supported", ErrorCode::kUnsupported);
  expect_refused(file.with("version", uint32_t{0x03000000}), "big-endian GGUF files are not supported", ErrorCode::kUnsupported);
}

TEST(GgufHostile, ShapesWhoseProductsWrap) {
  const auto refuse = [](std::initializer_list<uint64_t> dims, uint32_t type, const std::string& message) {
    GgufBytes file;
    file.header(1, 0).tensor("t", dims, type, 0).data(64);
    expect_refused(file.bytes, "tensor 't'");
    expect_refused(file.bytes, message);
  };
  refuse({}, 0, "has 0 dimensions, expected 1 to 4");
  refuse({1, 1, 1, 1, 1}, 0, "has 5 dimensions, expected 1 to 4");
  refuse({0}, 0, "has a dimension of 0");
  refuse({4, 0}, 0, "has a dimension of 0");
  refuse({1ull << 63}, 24, "has a dimension of 9223372036854775808");
  refuse({1ull << 32, 1ull << 32}, 24, "has more elements than fit in 63 bits");
  refuse({1ull << 32, 1ull << 31}, 24, "has more elements than fit in 63 bits");
  refuse({1ull << 62}, 0, "has more bytes than fit in 64 bits");
  refuse({1ull << 60}, 28, "end past the end of the file");
  refuse({1ull << 61, 3}, 28, "has more bytes than fit in 64 bits");
  refuse({65536, 65536, 65536, 65536}, 24, "has more elements than fit in 63 bits");
  refuse({33}, 8, "has rows of 33 elements, but type Q8_0 comes in blocks of 32");
  refuse({16, 2}, 8, "has rows of 16 elements, but type Q8_0 comes in blocks of 32");
  refuse({255}, 14, "has rows of 255 elements, but type Q6_K comes in blocks of 256");
  GgufBytes rank;
  rank.header(1, 0).text("t").u32(UINT32_MAX).u64(1).u64(1).u64(1);
  expect_refused(rank.bytes, "tensor 't': has 4294967295 dimensions");
}

TEST(GgufHostile, OffsetsOutsideTheFile) {
  const GgufBytes file = small_gguf();
  std::string one_short = file.bytes;
  one_short.pop_back();
  expect_refused(one_short, "tensor 'weight': its 68 bytes at 32 of the data");
  expect_refused(one_short, "the file is damaged or incomplete");
  for (const uint64_t offset : {uint64_t{64}, uint64_t{1} << 32, uint64_t{1} << 63, UINT64_MAX - 31, UINT64_MAX - 95}) {
    expect_refused(file.with("second offset", offset), "tensor 'weight': its 68 bytes at");
  }
  expect_refused(file.with("second offset", uint64_t{33}), "tensor 'weight': begins at 33 of the data, not at a multiple of 32");
  GgufBytes unknown;
  unknown.header(1, 0).tensor("t", {1}, 77, 64).data(64);
  expect_refused(unknown.bytes, "tensor 't': its 1 bytes at 64 of the data");
}

TEST(GgufHostile, OverlappingTensors) {
  const GgufBytes file = small_gguf();
  expect_refused(file.with("second offset", uint64_t{0}), "overlap");
  expect_refused(file.with("dimension", uint64_t{9}), "tensors 'norm' and 'weight' overlap");
  GgufBytes unknown;  // a tensor of unknown size inside another
  unknown.header(2, 0).tensor("a", {16}, 0, 0).tensor("b", {1}, 77, 32).data(64);
  expect_refused(unknown.bytes, "tensors 'a' and 'b' overlap");
}

TEST(GgufHostile, Alignment) {
  const GgufBytes file = small_gguf();
  expect_refused(file.with("alignment", uint32_t{0}), "key 'general.alignment' is 0, expected an integer from 1 to");
  expect_refused(file.with("alignment", uint32_t{3}), "key 'general.alignment' is 3, expected a power of two");
  expect_refused(file.with("alignment", uint32_t{1} << 31), "key 'general.alignment' is 2147483648, expected an integer from 1 to");
  expect_refused(file.with("alignment", UINT32_MAX), "key 'general.alignment' is 4294967295");
  expect_refused(file.with("value type", uint32_t{6}), "key 'general.alignment' is a floating number, expected an integer");
  GgufBytes text;
  text.header(0, 1).key("general.alignment", 8).text("32");
  expect_refused(text.bytes, "key 'general.alignment' is a string, expected an integer");
  GgufBytes negative;
  negative.header(0, 1).key("general.alignment", 5).number(int32_t{-32});
  expect_refused(negative.bytes, "key 'general.alignment' is -32");
}

TEST(GgufHostile, ValueTypes) {
  const GgufBytes file = small_gguf();
  expect_refused(file.with("value type", uint32_t{13}), "bad.gguf: key 'general.alignment': unknown value type 13");
  expect_refused(file.with("value type", UINT32_MAX), "key 'general.alignment': unknown value type 4294967295");
  expect_refused(file.with("element type", uint32_t{13}), "key 'tokens': unknown value type 13");
  expect_refused(file.with("flag", uint8_t{2}), "key 'flag': a bool is 2, expected 0 or 1");
  GgufBytes flags;
  flags.header(0, 1).array("k", 7, 1).number(uint8_t{255});
  expect_refused(flags.bytes, "key 'k': a bool is 255, expected 0 or 1");
}

TEST(GgufHostile, NestedArrays) {
  GgufBytes file;
  file.header(0, 1).key("deep", 9);
  for (int i = 0; i < 100000; ++i) file.u32(9).u64(1);
  file.u32(0).u64(0);
  expect_refused(file.bytes, "key 'deep': arrays of arrays are not supported");
}

TEST(GgufHostile, Duplicates) {
  GgufBytes keys;
  keys.header(0, 2).key("a.b", 0).number(uint8_t{1}).key("a.b", 8).text("x");
  expect_refused(keys.bytes, "bad.gguf: key 'a.b': appears twice");
  GgufBytes tensors;
  tensors.header(3, 0).tensor("w", {1}, 24, 0).tensor("v", {1}, 24, 32).tensor("w", {1}, 24, 64).data(65);
  expect_refused(tensors.bytes, "bad.gguf: tensor 'w' appears twice");
}

TEST(GgufHostile, NamesInMessagesAreShortAndPrintable) {
  GgufBytes long_key;
  long_key.header(0, 1).key(std::string(5000000, 'k'), 99);
  expect_refused(long_key.bytes, "key '" + std::string(100, 'k') + "…': unknown value type 99");
  GgufBytes escapes;
  escapes.header(1, 0).tensor("\x1b[2J\xff\n", {0}, 0, 0);
  expect_refused(escapes.bytes, "tensor '\\x1b[2J\\xff\\x0a': has a dimension of 0");
  const auto file = GgufFile::parse(GgufBytes().header(0, 1).key("\xff", 8).text("\xfe").bytes);  // in itself no fault of a file
  EXPECT_EQ(file->metadata().string("\xff"), "\xfe");
}

TEST(GgufHostile, EveryAllocationMayFail) {
  const std::string bytes = small_gguf().bytes;
  int failures = 0;
  for (int64_t index = 0;; ++index) {
    auto source = std::make_unique<MemorySource>(bytes, "bad.gguf");
    Outcome outcome;
    bool happened;
    {
      const test::FailingAllocation failing(index);
      outcome = outcome_of([&] { GgufFile file(std::move(source)); });
      happened = failing.happened();
    }
    if (!happened) break;
    EXPECT_EQ(outcome.code, ErrorCode::kOutOfMemory) << index;
    ++failures;
  }
  EXPECT_GT(failures, 10);
}

// Reads past a number of calls fail, as when a disk does.
class FailingSource final : public ByteSource {
 public:
  FailingSource(std::string bytes, int reads) : source_(std::move(bytes), "bad.gguf"), reads_(reads) {}
  const std::string& name() const override { return source_.name(); }
  uint64_t size() const override { return source_.size(); }
  void read_at(uint64_t offset, std::span<std::byte> out) const override {
    if (reads_-- == 0) fail(ErrorCode::kIo, "the disk failed");
    source_.read_at(offset, out);
  }

 private:
  MemorySource source_;
  mutable int reads_;
};

TEST(GgufHostile, EveryReadMayFail) {
  GgufBytes file;
  file.header(0, 1).key("long", 8).text(std::string(1000000, 'x'));
  int failures = 0;
  while (true) {
    const Outcome outcome = outcome_of([&] { GgufFile(std::make_unique<FailingSource>(file.bytes, failures)); });
    if (!outcome.code) break;
    EXPECT_EQ(outcome.code, ErrorCode::kIo);
    ++failures;
  }
  EXPECT_EQ(failures, 4);  // the header is read in pieces of 256 KiB
}

}  // namespace
}  // namespace wick
