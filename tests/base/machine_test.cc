#include "wick/base/machine.h"

#include <gtest/gtest.h>
#include <sched.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "wick/base/cgroup.h"
#include "wick/base/error.h"

namespace wick {
namespace {

// A file system root with the files that describe control groups.
class CgroupTest : public testing::Test {
 protected:
  CgroupTest() : root_(testing::TempDir() + "wick_cgroup_" + std::to_string(getpid())) { std::filesystem::remove_all(root_); }
  ~CgroupTest() override { std::filesystem::remove_all(root_); }
  void put(const std::string& path, const std::string& content) {
    std::filesystem::create_directories(std::filesystem::path(root_ + path).parent_path());
    std::ofstream(root_ + path) << content << "\n";
  }
  std::string root_;
};

TEST_F(CgroupTest, NothingSaysNothing) {
  EXPECT_FALSE(cgroup_cpu_quota(root_));
  EXPECT_FALSE(cgroup_memory(root_));
}

TEST_F(CgroupTest, Version2TakesTheSmallestUpToTheRoot) {
  put("/proc/self/cgroup", "0::/user/app");
  put("/sys/fs/cgroup/user/app/cpu.max", "max 100000");
  EXPECT_FALSE(cgroup_cpu_quota(root_));
  put("/sys/fs/cgroup/user/cpu.max", "150000 100000");
  EXPECT_EQ(1.5, cgroup_cpu_quota(root_));
  put("/sys/fs/cgroup/user/app/cpu.max", "400000 100000");
  EXPECT_EQ(1.5, cgroup_cpu_quota(root_));
  put("/sys/fs/cgroup/cpu.max", "50000 100000");
  EXPECT_EQ(0.5, cgroup_cpu_quota(root_));
  put("/sys/fs/cgroup/user/app/memory.max", "max");
  EXPECT_FALSE(cgroup_memory(root_));
  put("/sys/fs/cgroup/user/memory.max", "1000000");
  put("/sys/fs/cgroup/user/memory.current", "400000");
  ASSERT_TRUE(cgroup_memory(root_));
  EXPECT_EQ(1000000u, cgroup_memory(root_)->limit);
  EXPECT_EQ(400000u, cgroup_memory(root_)->usage);
}

TEST_F(CgroupTest, Version1) {
  put("/proc/self/cgroup", "4:memory:/box\n3:cpu,cpuacct:/box\n1:name=systemd:/");
  put("/sys/fs/cgroup/cpu,cpuacct/box/cpu.cfs_quota_us", "-1");
  put("/sys/fs/cgroup/cpu,cpuacct/box/cpu.cfs_period_us", "100000");
  EXPECT_FALSE(cgroup_cpu_quota(root_));
  put("/sys/fs/cgroup/cpu/box/cpu.cfs_quota_us", "250000");
  put("/sys/fs/cgroup/cpu/box/cpu.cfs_period_us", "100000");
  EXPECT_EQ(2.5, cgroup_cpu_quota(root_));
  put("/sys/fs/cgroup/memory/box/memory.limit_in_bytes", "9223372036854771712");
  EXPECT_FALSE(cgroup_memory(root_));
  put("/sys/fs/cgroup/memory/box/memory.limit_in_bytes", "2048");
  EXPECT_EQ(2048u, cgroup_memory(root_)->limit);
}

TEST_F(CgroupTest, InsideAContainerThePathMayBeTheHosts) {
  put("/proc/self/cgroup", "0::/docker/abcdef");
  put("/sys/fs/cgroup/cpu.max", "200000 100000");
  EXPECT_EQ(2.0, cgroup_cpu_quota(root_));
}

TEST_F(CgroupTest, NonsenseIsNoLimit) {
  put("/proc/self/cgroup", "0::/a");
  for (const char* text : {"", "x y", "100000", "100000 0", "-5 -5", "nan 100000"}) {
    put("/sys/fs/cgroup/a/cpu.max", text);
    EXPECT_FALSE(cgroup_cpu_quota(root_)) << text;
  }
}

TEST(Cgroup, CpuLists) {
  EXPECT_EQ(1, count_cpu_list("0"));
  EXPECT_EQ(5, count_cpu_list("0-3,8"));
  EXPECT_FALSE(count_cpu_list(""));
  EXPECT_FALSE(count_cpu_list("3-1"));
  EXPECT_FALSE(count_cpu_list("a-b"));
  EXPECT_FALSE(count_cpu_list("0-99999999999"));
}

TEST(Machine, IsaNamesGoBothWays) {
  for (const Isa isa : {Isa::kScalar, Isa::kAvx2, Isa::kAvx512, Isa::kAvx512Vnni, Isa::kNeon}) EXPECT_EQ(isa, isa_from_name(isa_name(isa)));
  EXPECT_FALSE(isa_from_name("sse9"));
  EXPECT_TRUE(isa_available(Isa::kScalar));
}

TEST(Machine, TheEnvironmentPinsTheInstructionSet) {
  const char* before = std::getenv("WICK_CPU");
  const std::string saved = before ? before : "";
  setenv("WICK_CPU", "scalar", 1);
  EXPECT_EQ(Isa::kScalar, default_isa());
  setenv("WICK_CPU", "sse9", 1);
  EXPECT_THROW(default_isa(), Error);
  setenv("WICK_CPU", "", 1);
  EXPECT_TRUE(isa_available(default_isa()));
  before ? setenv("WICK_CPU", saved.c_str(), 1) : unsetenv("WICK_CPU");
}

TEST(Machine, ThreadsAreTheSmallestOfTheLimits) {
  EXPECT_EQ(4, (CpuLimits{8, 4, std::nullopt}).threads());
  EXPECT_EQ(2, (CpuLimits{8, 4, 1.5}).threads());
  EXPECT_EQ(1, (CpuLimits{8, 4, 0.1}).threads());
  EXPECT_EQ(3, (CpuLimits{3, 4, 9.0}).threads());
}

TEST(Machine, AffinityIsHonoured) {
  cpu_set_t before, one;
  ASSERT_EQ(0, sched_getaffinity(0, sizeof before, &before));
  CPU_ZERO(&one);
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (CPU_ISSET(cpu, &before)) {
      CPU_SET(cpu, &one);
      break;
    }
  }
  ASSERT_EQ(0, sched_setaffinity(0, sizeof one, &one));
  EXPECT_EQ(1, cpu_limits().affinity);
  EXPECT_EQ(1, cpu_limits().threads());
  sched_setaffinity(0, sizeof before, &before);
}

TEST(Machine, MemoryFiguresArePlausible) {
  EXPECT_GT(memory_limit_bytes(), uint64_t{1} << 26);
  EXPECT_LE(memory_available_bytes(), memory_limit_bytes());
  EXPECT_GT(peak_rss_bytes(), 100000u);
  EXPECT_FALSE(cpu_model_name().empty());
}

}  // namespace
}  // namespace wick
