#include "wick/apps/bandwidth.h"

#include "tests/support/on_device.h"

namespace wick::apps {
namespace {

class BandwidthOnDevice : public test::OnDevice {};
WICK_ON_EVERY_DEVICE(BandwidthOnDevice);

// It checks itself that every word was read.
TEST_P(BandwidthOnDevice, ReadsItsWholeBuffer) {
  ReadBandwidth bandwidth(Device::parse(GetParam()), 2);
  EXPECT_GE(bandwidth.bytes(), uint64_t{16} << 20);
  EXPECT_GT(bandwidth.measure(), 0);
  EXPECT_GT(bandwidth.measure(), 0);
}

}  // namespace
}  // namespace wick::apps
