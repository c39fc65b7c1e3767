#include "wick/base/machine.h"

#include <gtest/gtest.h>
#include <sched.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "wick/base/cgroup.h"
#include "wick/base/error.h"
#include "wick/base/topology.h"

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
  EXPECT_EQ(600000u, cgroup_memory(root_)->available);
  put("/sys/fs/cgroup/user/memory.stat", "anon 1\ninactive_file 90000\nactive_file 10000\nunevictable 7");
  EXPECT_EQ(700000u, cgroup_memory(root_)->available) << "cached file contents count as free";
  put("/sys/fs/cgroup/memory.max", "2000000");
  put("/sys/fs/cgroup/memory.current", "1900000");
  EXPECT_EQ(1000000u, cgroup_memory(root_)->limit);
  EXPECT_EQ(100000u, cgroup_memory(root_)->available) << "the group above has less to give";
  put("/sys/fs/cgroup/memory.current", "2100000");
  EXPECT_EQ(0u, cgroup_memory(root_)->available);
}

TEST_F(CgroupTest, Version1) {
  put("/proc/self/cgroup", "4:memory:/box\n3:cpu,cpuacct:/box\n1:name=systemd:/");
  put("/sys/fs/cgroup/cpu,cpuacct/box/cpu.cfs_quota_us", "-1");
  put("/sys/fs/cgroup/cpu,cpuacct/box/cpu.cfs_period_us", "100000");
  EXPECT_FALSE(cgroup_cpu_quota(root_));
  put("/sys/fs/cgroup/cpu,cpuacct/box/cpu.cfs_quota_us", "350000");
  EXPECT_EQ(3.5, cgroup_cpu_quota(root_));
  put("/sys/fs/cgroup/cpu/box/cpu.cfs_quota_us", "250000");
  put("/sys/fs/cgroup/cpu/box/cpu.cfs_period_us", "100000");
  EXPECT_EQ(2.5, cgroup_cpu_quota(root_));
  put("/sys/fs/cgroup/memory/box/memory.limit_in_bytes", "9223372036854771712");
  EXPECT_FALSE(cgroup_memory(root_));
  put("/sys/fs/cgroup/memory/box/memory.limit_in_bytes", "2048");
  EXPECT_EQ(2048u, cgroup_memory(root_)->limit);
  put("/sys/fs/cgroup/memory/box/memory.usage_in_bytes", "1048");
  put("/sys/fs/cgroup/memory/box/memory.stat", "cache 500\ninactive_file 1\ntotal_inactive_file 30\ntotal_active_file 70");
  EXPECT_EQ(1100u, cgroup_memory(root_)->available);
}

TEST_F(CgroupTest, Version2BesideVersion1) {
  put("/proc/self/cgroup", "1:cpu:/\n0::/box");
  put("/sys/fs/cgroup/unified/box/cpu.max", "150000 100000");
  EXPECT_EQ(1.5, cgroup_cpu_quota(root_));
}

TEST_F(CgroupTest, InsideAContainerThePathMayBeTheHosts) {
  put("/proc/self/cgroup", "0::/docker/abcdef");
  put("/sys/fs/cgroup/cpu.max", "200000 100000");
  EXPECT_EQ(2.0, cgroup_cpu_quota(root_));
}

TEST_F(CgroupTest, NonsenseIsNoLimit) {
  put("/proc/self/cgroup", "0::/a");
  EXPECT_FALSE(cgroup_cpu_quota(root_ + "/missing"));
  for (const char* text : {"", "x y", "100000", "100000 0", "-5 -5", "nan 100000"}) {
    put("/sys/fs/cgroup/a/cpu.max", text);
    EXPECT_FALSE(cgroup_cpu_quota(root_)) << text;
  }
}

TEST_F(CgroupTest, ALineWithoutAPathIsNoGroup) {
  for (const char* line : {"", ":", "0:", "0::", "0::relative/path", "::::"}) {
    put("/proc/self/cgroup", line);
    put("/sys/fs/cgroup/cpu.max", "200000 100000");
    EXPECT_EQ(2.0, cgroup_cpu_quota(root_)) << line;
  }
}

TEST_F(CgroupTest, PhysicalCoresAreThoseOnline) {
  EXPECT_FALSE(physical_core_count(root_));
  put("/sys/devices/system/cpu/online", "0-2,4-5");
  EXPECT_EQ(5, physical_core_count(root_)) << "without siblings every processor counts";
  const auto siblings = [&](int cpu, const char* list) { put("/sys/devices/system/cpu/cpu" + std::to_string(cpu) + "/topology/thread_siblings_list", list); };
  siblings(0, "0,4");
  siblings(1, "1,5");
  siblings(2, "2");
  siblings(3, "3");  // offline
  siblings(4, "0,4");
  siblings(5, "1,5");
  EXPECT_EQ(3, physical_core_count(root_));
}

TEST(Topology, CpuLists) {
  EXPECT_EQ(1, count_cpu_list("0"));
  EXPECT_EQ(5, count_cpu_list("0-3,8"));
  EXPECT_FALSE(count_cpu_list(""));
  EXPECT_FALSE(count_cpu_list("3-1"));
  EXPECT_FALSE(count_cpu_list("a-b"));
  for (const char* text : {"1,", ",1", "0-", "-1", "0-3,2", "1 ", "0-1048576", "0-3-5"}) EXPECT_FALSE(count_cpu_list(text)) << text;
  EXPECT_EQ(1 << 20, count_cpu_list("0-1048575"));
  EXPECT_FALSE(count_cpu_list("0-99999999999"));
}

TEST(Machine, IsaNamesGoBothWays) {
  for (const Isa isa : kIsas) EXPECT_EQ(isa, isa_from_name(isa_name(isa)));
  EXPECT_FALSE(isa_from_name("sse9"));
  EXPECT_TRUE(isa_available(Isa::kScalar));
}

#if defined(__x86_64__)
TEST(Machine, InstructionSetsAreThoseTheKernelLists) {
  std::ifstream in("/proc/cpuinfo");
  std::string line;
  while (std::getline(in, line) && line.rfind("flags", 0) != 0) {
  }
  if (line.rfind("flags", 0) != 0) GTEST_SKIP() << "no list of flags";
  const auto all = [&](std::initializer_list<const char*> flags) {
    for (const char* flag : flags) {
      if ((line + " ").find(std::string(" ") + flag + " ") == std::string::npos) return false;
    }
    return true;
  };
  EXPECT_EQ(all({"avx2", "fma", "f16c"}), isa_available(Isa::kAvx2));
  EXPECT_EQ(all({"avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512cd"}), isa_available(Isa::kAvx512));
  EXPECT_EQ(isa_available(Isa::kAvx512) && all({"avx512_vnni"}), isa_available(Isa::kAvx512Vnni));
  EXPECT_EQ(isa_available(Isa::kAvx512Vnni) && all({"avx512_bf16"}), isa_available(Isa::kAvx512Bf16));
  if (isa_available(Isa::kAvx512Amx)) {  // the kernel may refuse
    EXPECT_TRUE(isa_available(Isa::kAvx512Bf16) && all({"amx_tile", "amx_bf16"}));
  }
  EXPECT_FALSE(isa_available(Isa::kNeon));
}
#endif

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
