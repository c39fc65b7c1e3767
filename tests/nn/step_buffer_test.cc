#include "wick/nn/step_buffer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <vector>

#include "wick/base/error.h"

namespace wick::nn {
namespace {

using ::testing::ElementsAre;

std::vector<int32_t> take(const int32_t* data, int64_t count) { return {data, data + count}; }

class StepBufferTest : public ::testing::Test {
 protected:
  StepBufferTest() : pool_({1, 1, 8, DType::kF16, 16}), a_(pool_.make_table(200)), b_(pool_.make_table(200)) {
    EXPECT_TRUE(pool_.append(a_, 70));
    EXPECT_TRUE(pool_.append(b_, 3));
    buffer_.clear();
  }
  ErrorCode code_of(const std::function<void()>& f) {
    try {
      f();
    } catch (const Error& error) {
      return error.code();
    }
    return ErrorCode::kInternal;
  }
  KvPool pool_;
  PageTable a_, b_;
  StepBuffer buffer_{{6, 3, 200}};
};

TEST_F(StepBufferTest, LaysSequencesOutOneAfterTheOther) {
  const std::vector<int32_t> first = {11, 12}, second = {21, 22, 23}, third = {31};
  EXPECT_EQ(buffer_.add_sequence(first, 68, a_, LogitRows::kLast), 0);
  EXPECT_EQ(buffer_.add_sequence(second, 0, b_, LogitRows::kAll), 2);
  EXPECT_EQ(buffer_.add_sequence(third, 69, a_, LogitRows::kNone), 5);
  const StepBatch& batch = buffer_.view();
  EXPECT_EQ(batch.rows, 6);
  EXPECT_EQ(batch.sequences, 3);
  EXPECT_EQ(batch.table_stride, 4);
  EXPECT_THAT(take(batch.tokens, 6), ElementsAre(11, 12, 21, 22, 23, 31));
  EXPECT_THAT(take(batch.positions, 6), ElementsAre(68, 69, 0, 1, 2, 69));
  EXPECT_THAT(take(batch.first_row, 4), ElementsAre(0, 2, 5, 6));
  EXPECT_THAT(take(batch.logit_rows, batch.logit_count), ElementsAre(1, 2, 3, 4));
  EXPECT_THAT(take(batch.page_table, 2), ElementsAre(a_.pages()[0], a_.pages()[1]));
  EXPECT_EQ(batch.page_table[4], b_.pages()[0]);
  EXPECT_EQ(buffer_.rows_left(), 0);
}

TEST_F(StepBufferTest, ClearStartsAnewInTheSameMemory) {
  const std::vector<int32_t> tokens = {1, 2, 3};
  buffer_.add_sequence(tokens, 0, b_, LogitRows::kAll);
  const int32_t* memory = buffer_.view().tokens;
  buffer_.clear();
  EXPECT_EQ(buffer_.view().rows, 0);
  EXPECT_EQ(buffer_.view().logit_count, 0);
  EXPECT_EQ(buffer_.add_sequence(tokens, 0, b_, LogitRows::kLast), 0);
  EXPECT_EQ(buffer_.view().tokens, memory);
  EXPECT_THAT(take(buffer_.view().logit_rows, 1), ElementsAre(2));
}

TEST_F(StepBufferTest, RefusesWhatDoesNotFitAndStaysAsItWas) {
  const std::vector<int32_t> tokens(7, 1);
  const auto add = [&](size_t count, int64_t start, const PageTable& table) {
    return code_of([&] { buffer_.add_sequence({tokens.data(), count}, start, table, LogitRows::kAll); });
  };
  EXPECT_EQ(add(7, 0, a_), ErrorCode::kLimitExceeded);
  EXPECT_EQ(add(0, 0, a_), ErrorCode::kInvalidArgument);
  EXPECT_EQ(add(2, 69, a_), ErrorCode::kInvalidArgument);
  EXPECT_EQ(add(2, -1, a_), ErrorCode::kInvalidArgument);
  EXPECT_EQ(buffer_.view().rows, 0);
  EXPECT_EQ(buffer_.view().logit_count, 0);
  for (int i = 0; i < 3; ++i) buffer_.add_sequence({tokens.data(), 1}, i, a_, LogitRows::kNone);
  EXPECT_EQ(add(1, 3, a_), ErrorCode::kLimitExceeded);
  PageTable deep = pool_.make_table(300);
  ASSERT_TRUE(pool_.append(deep, 201));
  buffer_.clear();
  EXPECT_EQ(add(1, 200, deep), ErrorCode::kLimitExceeded);
  EXPECT_EQ(code_of([] { StepBuffer({0, 1, 1}); }), ErrorCode::kInvalidArgument);
}

}  // namespace
}  // namespace wick::nn
