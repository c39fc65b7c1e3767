#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>

#include "bench/kv_cache_bench.h"
#include "bench/op_timing.h"
#include "tests/apps/wick_process.h"

namespace wick {
namespace {

using nlohmann::json;

json bench_json(std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), {"bench-ops", "--json", "-r", "1"});
  const test::WickResult result = test::run_wick(arguments);
  EXPECT_EQ(result.exit_code, 0) << result.err;
  return json::parse(result.out);
}

TEST(BenchOps, HasTheFieldsThatScriptsRead) {
  const json result = bench_json({"--no-torch", "--op", "rms_norm", "--op", "linear", "--dtype", "bf16", "--tokens", "2"});
  EXPECT_FALSE(result["torch"].get<bool>());
  ASSERT_EQ(result["rows"].size(), 2u);
  const json& norm = result["rows"][0];
  EXPECT_EQ(norm["op"], "rms_norm");
  EXPECT_EQ(norm["dtype"], "bf16");
  EXPECT_EQ(norm["tokens"], 2);
  EXPECT_EQ(norm["shape"], json({{"rows", 2}, {"N", 2048}}));
  for (const char* key : {"wick_us", "fresh_us", "copy_us", "twin_us", "naive_us", "gb_s", "copy_fraction", "times_twin", "times_naive"}) {
    EXPECT_GT(norm[key].get<double>(), 0) << key;
  }
  EXPECT_NEAR(norm["times_naive"].get<double>(), norm["naive_us"].get<double>() / norm["wick_us"].get<double>(), 1e-6);
  for (const char* key : {"eager_us", "compiled_us", "gflop_s"}) EXPECT_TRUE(norm[key].is_null()) << key;
  EXPECT_GT(result["rows"][1]["gflop_s"].get<double>(), 0);
}

TEST(BenchOps, EveryOpRuns) {
  const json result = bench_json({"--no-torch", "--dtype", "f32", "--tokens", "1"});
  EXPECT_GE(result["rows"].size(), 20u);
  for (const char* way : {"cache", "concatenation"}) EXPECT_GT(result["kv_cache"][way]["append_us"].get<double>(), 0) << way;
}

TEST(BenchOps, RefusesWhatItDoesNotKnow) {
  for (const std::vector<std::string>& arguments : {std::vector<std::string>{"--op", "conv"}, {"--dtype", "q8_0"}, {"--tokens", "0"}, {"--tokens", "x"}}) {
    std::vector<std::string> all = {"bench-ops"};
    all.insert(all.end(), arguments.begin(), arguments.end());
    EXPECT_EQ(test::run_wick(all).exit_code, 2) << arguments[1];
  }
}

// A stand-in for Python: says that it has torch, then answers line by line.
class FakePython {
 public:
  explicit FakePython(const std::string& answers) {
    char path[] = "/tmp/wick-python-XXXXXX";
    ::close(::mkstemp(path));
    path_ = path;
    std::ofstream(path_) << "#!/bin/sh\n[ \"$2\" = 'import torch' ] && exit 0\n" << answers;
    ::chmod(path_.c_str(), 0700);
  }
  ~FakePython() { std::remove(path_.c_str()); }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

TEST(BenchOps, TakesTheTimesOfPyTorch) {
  const FakePython python(
      "while read -r line; do case \"$line\" in *'\"op\"'*) echo '{\"ways\": [\"eager\"]}';; *) echo '{\"seconds\": 0.25}';; esac; done\n");
  const json result = bench_json({"--python", python.path(), "--op", "silu", "--dtype", "f32", "--tokens", "1"});
  EXPECT_TRUE(result["torch"].get<bool>());
  EXPECT_NEAR(result["rows"][0]["eager_us"].get<double>(), 0.25e6, 1);
  EXPECT_TRUE(result["rows"][0]["compiled_us"].is_null());
}

TEST(BenchOps, GoesOnWithoutWhatPyTorchCannotDo) {
  const FakePython python("while read -r line; do echo '{\"error\": \"no such op\"}'; done\n");
  const json result = bench_json({"--python", python.path(), "--op", "silu", "--dtype", "f32", "--tokens", "1"});
  EXPECT_TRUE(result["rows"][0]["eager_us"].is_null());
}

TEST(BenchOps, GoesOnWithoutAPythonThatDies) {
  const FakePython python("exit 1\n");
  const json result = bench_json({"--python", python.path(), "--op", "silu", "--dtype", "f32", "--tokens", "1", "--tokens", "2"});
  ASSERT_EQ(result["rows"].size(), 2u);
  EXPECT_TRUE(result["rows"][1]["eager_us"].is_null());
}

TEST(OpTiming, SlowWaysTakeTheirTurnsLessOftenAndSharesCount) {
  std::vector<bench::Contender> contenders;
  contenders.push_back({"fast", [](int64_t, int64_t calls) { return 1e-3 * static_cast<double>(calls); }, 1, {}});
  contenders.push_back({"slow", [](int64_t, int64_t calls) { return 0.5 * static_cast<double>(calls); }, 0.25, {}});
  bench::measure(contenders, 7);
  EXPECT_EQ(contenders[0].seconds.size(), 7u);
  EXPECT_EQ(contenders[1].seconds.size(), 3u);
  EXPECT_NEAR(bench::median(contenders[0].seconds), 1e-3, 1e-9);
  EXPECT_NEAR(bench::median(contenders[1].seconds), 2.0, 1e-9);
}

}  // namespace
}  // namespace wick
