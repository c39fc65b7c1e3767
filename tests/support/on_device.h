// Tests that run once per kind of device.
#pragma once

#include <gtest/gtest.h>

#include <string>

#include "wick/base/error.h"
#include "wick/tensor/device.h"

namespace wick::test {

// The parameter names the device. Those that this build or machine lacks are skipped.
class OnDevice : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    try {
      Device::parse(GetParam());
    } catch (const Error& error) {
      GTEST_SKIP() << error.what();
    }
  }
};

#define WICK_ON_DEVICES(suite, ...) \
  INSTANTIATE_TEST_SUITE_P(Devices, suite, testing::Values(__VA_ARGS__), [](const auto& test) { return std::string(test.param); })
#define WICK_ON_EVERY_DEVICE(suite) WICK_ON_DEVICES(suite, "cpu", "cuda")

}  // namespace wick::test
